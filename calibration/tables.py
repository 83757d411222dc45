"""Markdown tables, and how a rate is shown."""

from collections.abc import Sequence

from calibration import claims
from calibration.designs import band

Lines = Sequence[Sequence[str]]


def section(title: str, says: str, header: Sequence[str], lines: Lines) -> str:
    """A title, what is to be said, and a table; nothing where the table is empty."""
    return "\n\n".join([f"## {title}", says, table(header, lines)]) if lines else ""


def table(header: Sequence[str], lines: Lines) -> str:
    """A Markdown table: names on the left, numbers on the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *lines))


def text(value: float | None) -> str:
    """A rate with three digits and no leading zero; nothing for None."""
    return "" if value is None else f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def short(value: float) -> str:
    """A setting with as many digits as it has and no leading zero."""
    return f"{value:g}".replace("0.", ".", 1) if 0 < abs(value) < 1 else f"{value:g}"


def judged(value: float, n: int, claim: str) -> str:
    """A rate: bold outside the band of a test that claims the design, in brackets where it claims nothing."""
    lower, upper = band(n)
    if claim == claims.NOT:
        return f"({text(value)})"
    outside = value > upper or (claim == claims.SIZE and value < lower)
    return f"**{text(value)}**" if outside else text(value)


def covered(value: float, n: int) -> str:
    """Coverage of 95 % intervals: bold where the share that miss is outside the band."""
    lower, upper = band(n)
    # A hair of room for the rounding of 1 - value.
    inside = lower - 1e-9 <= 1 - value <= upper + 1e-9
    return text(value) if inside else f"**{text(value)}**"
