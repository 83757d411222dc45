"""Figures over many runs: one row per pair, plain rows in, a matplotlib Figure out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.report.style import BAND, BLUE, GREEN, INK, MUTED, ORANGE, canvas, drawing, light_grid, nameable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Beyond this many rows names would not be read any more: rows are then ranks, and the table has the names.
MAX_NAMED = 400
MAX_NAME = 46
WIDTH, RANKED_HEIGHT = 6.4, 7.0
# Colour and shape say the same.
MARKS = {"supported": (GREEN, "^"), "falsified": (ORANGE, "v"), "inconclusive": (MUTED, "o")}
LEAST_LINEAR_NATS = 0.002
TICKS_NATS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 50.0)


@dataclass(frozen=True)
class PairRow:
    """One pair: an estimate with its interval, and the verdict that is left after correction.

    `beside`: another estimate that is marked in the same row.
    """

    name: str
    value: float
    interval: tuple[float, float]
    verdict: str
    beside: float | None = None


def share_forest(rows: Sequence[PairRow], *, delta: float) -> "Figure":
    """Share of the possible excess coherence beyond shared difficulty, largest on top."""
    with drawing():
        figure, axes = _rows(rows, highest_first=True, beside="all of it, shared difficulty included")
        _band(axes, delta)
        _limit(axes, rows)
        axes.set_xlabel("share of the possible excess coherence")
        _legend(figure)
    return figure


def gain_forest(rows: Sequence[PairRow], *, delta_nats: float) -> "Figure":
    """Log loss of Born Rule Fusion minus its strongest rival, largest gain on top.

    The scale is linear within 4 delta and logarithmic beyond, since pairs differ by orders of magnitude.
    """
    with drawing():
        figure, axes = _rows(rows, highest_first=False)
        _band(axes, delta_nats)
        linear = max(4 * delta_nats, LEAST_LINEAR_NATS)
        axes.set_xscale("symlog", linthresh=linear, linscale=1.0)
        ends = [end for row in rows for end in row.interval]
        reach = min(*ends, -linear) * 1.3, max(*ends, linear) * 1.3
        axes.set_xlim(*reach)
        ticks = [0.0, *(sign * tick for tick in TICKS_NATS if tick >= delta_nats for sign in (-1, 1))]
        shown = sorted(tick for tick in ticks if reach[0] <= tick <= reach[1])
        axes.set_xticks(shown, [f"{tick:g}".replace("-", "\u2212") for tick in shown])
        axes.minorticks_off()
        axes.set_xlabel("log loss minus the strongest rival's (nats per token)")
        _legend(figure)
    return figure


def _rows(rows: Sequence[PairRow], *, highest_first: bool, beside: str = "") -> tuple["Figure", "Axes"]:
    """Intervals in the order of their estimates, with names as far as there is room for them."""
    ordered = sorted(rows, key=lambda row: (-row.value if highest_first else row.value, row.name))
    named = len(ordered) <= MAX_NAMED
    each = 0.2 if len(ordered) <= 60 else 0.15
    figure, axes = canvas(WIDTH, 1.0 + each * len(ordered) if named else RANKED_HEIGHT)
    axes.axvline(0, color=INK, linewidth=0.7)
    size = 5.0 if named else 2.0
    for verdict, (colour, marker) in MARKS.items():
        places = np.array([place for place, row in enumerate(ordered) if row.verdict == verdict], dtype=float)
        if not places.size:
            continue
        drawn = [row for row in ordered if row.verdict == verdict]
        lows, highs = np.array([row.interval for row in drawn]).T
        axes.hlines(places, lows, highs, color=colour, linewidth=1.4 if named else 0.5)
        values = [row.value for row in drawn]
        label = f"{verdict} ({len(drawn)})"
        axes.plot(values, places, marker=marker, color=colour, markersize=size, linestyle="none", label=label)
    marked = [(row.beside, place) for place, row in enumerate(ordered) if row.beside is not None]
    if marked:
        axes.plot(
            *zip(*marked, strict=True), marker="|", color=BLUE, markersize=size + 1, linestyle="none", label=beside
        )
    axes.set_ylim(len(ordered) - 0.3, -0.7)
    if named:
        axes.set_yticks(range(len(ordered)), [_short(row.name) for row in ordered], fontsize=8 if each > 0.15 else 6.5)
    else:
        axes.set_ylabel("pairs in the order of their estimates")
    light_grid(axes)
    return figure, axes


def _band(axes: "Axes", delta: float) -> None:
    axes.axvspan(-delta, delta, color=BAND, linewidth=0, zorder=0, label=f"too small to matter (\u03b4 = {delta:g})")


def _legend(figure: "Figure") -> None:
    figure.legend(loc="outside upper left", ncols=3, fontsize=8)


def _limit(axes: "Axes", rows: Sequence[PairRow]) -> None:
    """A share lies within -1 and 1; an interval of a pair with little room may not, and is cut."""
    ends = np.clip([end for row in rows for end in (*row.interval, row.beside or 0.0)], -1.2, 1.2)
    low, high = min(float(ends.min()), 0.0), max(float(ends.max()), 0.0)
    margin = 0.04 * max(high - low, 0.05)
    axes.set_xlim(low - margin, high + margin)


def _short(name: str) -> str:
    shown = nameable(name)
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 1]}\u2026"
