"""Tables over many runs as CSV and LaTeX."""

from collections.abc import Sequence
from typing import Any

from brf_exp.report.tables import Table, cell_text, escape, to_csv
from brf_exp.report.wording import fixed, interval

PAPER = (
    "pair", "corpus", "map", "positions", "share beyond difficulty", "p (Holm)", "coherence", "minus strongest rival",
    "p (Holm)", "discrimination",
)  # fmt: skip


def records_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """All columns of all rows at full precision."""
    return to_csv(Table("", columns, [[row.get(name) for name in columns] for row in rows]))


def runs_latex(rows: Sequence[dict[str, Any]], *, caption: str) -> str:
    r"""One row per run with what a paper needs, as a table that breaks over pages.

    It needs \usepackage{booktabs} and \usepackage{longtable}.
    """
    heads = " & ".join(escape(name) for name in PAPER) + r" \\"
    body = [" & ".join(escape(cell) for cell in _cells(row)) + r" \\" for row in rows]
    lines = [r"\begin{longtable}{lllrlrllrl}", rf"\caption{{{escape(caption)}}}\\", r"\toprule", heads, r"\midrule"]
    lines += [r"\endhead", r"\bottomrule", r"\endfoot", *body, r"\end{longtable}"]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    share = _estimate(row, "residual_share", "", 3)
    difference = _estimate(row, "difference", "_nats", 4)
    return [
        *(cell_text(row[name]) for name in ("pair", "corpus", "phase_map", "n_positions")),
        share,
        cell_text(row.get("coherence_pvalue_holm")),
        cell_text(row["coherence_verdict"]),
        difference,
        cell_text(row.get("difference_pvalue_holm")),
        cell_text(row["discrimination_verdict"]),
    ]


def _estimate(row: dict[str, Any], name: str, unit: str, decimals: int) -> str:
    """An estimate with its interval, or a dash."""
    value = row[f"{name}{unit}"]
    if value is None:
        return fixed(None)
    return f"{fixed(value, decimals)} {interval((row[f'{name}_low{unit}'], row[f'{name}_high{unit}']), decimals)}"
