"""Figures of scores that decide nothing by themselves: AUCs of correctness, and calibration of the top token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.report.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, canvas, drawing, light_grid, nameable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = ((BLUE, "o"), (ORANGE, "D"), (PURPLE, "s"), (GREEN, "^"))


@dataclass(frozen=True)
class AucRow:
    """One score's AUC with its interval, and the candidate's AUC minus it; `difference` is None for the candidate.

    An interval is None where documents do not define one; `reason` then says why.
    """

    name: str
    auc: float
    interval: tuple[float, float] | None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Reliability:
    """One rule's accuracy against its confidence, (K,) bins each."""

    name: str
    confidence: np.ndarray
    accuracy: np.ndarray


def auc_comparison(rows: Sequence[AucRow], *, level: float) -> "Figure":
    """AUC of every score on the left, the first row's AUC minus each on the right; intervals at `level` by document."""
    with drawing():
        figure, (left, right) = canvas(6.4, 1.1 + 0.33 * len(rows), ncols=2, sharey=True)
        left.axvline(0.5, color=MUTED, linewidth=0.7)
        right.axvline(0, color=MUTED, linewidth=0.7)
        for place, row in enumerate(rows):
            _estimate(left, row.auc, row.interval, place, INK if row.difference is None else BLUE, "o")
            if row.difference is not None:
                _difference(right, row, place)
        left.set_yticks(range(len(rows)), [nameable(row.name) for row in rows])
        left.get_yticklabels()[0].set_fontweight("bold")
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_xlabel(f"AUC, {100 * level:.3g} % interval")
        right.set_xlabel("interference term minus the score")
        right.set_title("\u25c0 worse", loc="left", fontsize=8.5)
        right.set_title("better \u25b6", loc="right", fontsize=8.5)
        for axes in (left, right):
            axes.locator_params(axis="x", nbins=4)
            light_grid(axes)
    return figure


def _difference(axes: "Axes", row: AucRow, place: int) -> None:
    """Shape and colour say the same: the interval lies above 0, below 0, or holds it."""
    assert row.difference is not None
    ends = row.difference_interval
    colour, marker = MUTED, "o"
    if ends is not None and ends[0] > 0:
        colour, marker = GREEN, ">"
    elif ends is not None and ends[1] < 0:
        colour, marker = ORANGE, "<"
    _estimate(axes, row.difference, ends, place, colour, marker)
    if ends is None:
        axes.annotate(nameable(row.reason), (row.difference, place), (6, 3), textcoords="offset points", fontsize=7.5)


def _estimate(
    axes: "Axes", value: float, ends: tuple[float, float] | None, place: int, colour: str, marker: str
) -> None:
    if ends is not None:
        axes.plot(ends, [place, place], color=colour, linewidth=1.6)
    axes.plot([value], [place], marker=marker, color=colour, markersize=5.5, linestyle="none")


def reliability_diagram(curves: Sequence[Reliability]) -> "Figure":
    """How often the top token is right where a rule gives it so much probability; below the line is overconfident."""
    with drawing():
        figure, axes = canvas(4.6, 3.6)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, dashes=(4, 3), label="as often as it says")
        for curve, (colour, marker) in zip(curves, CURVES, strict=False):
            shown = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2}
            axes.plot(curve.confidence, curve.accuracy, label=nameable(curve.name), **shown)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("probability of the top token")
        axes.set_ylabel("share of top tokens that came")
        axes.legend(loc="upper left", fontsize=8)
        light_grid(axes, "y")
    return figure
