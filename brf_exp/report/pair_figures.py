"""Figures of more than two models: every pair's result, and the order of all phases together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.report.coherence_figures import draw_interval
from brf_exp.report.style import BAND, BLUE, INK, MUTED, ORANGE, canvas, drawing, light_grid, nameable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PairRow:
    """One pair of models: its share of the possible excess coherence, plain and beyond shared difficulty, its verdict.

    No interval where the test does not exist for the pair; the verdict then says why.
    """

    name: str
    verdict: str
    share: float | None = None
    interval: tuple[float, float] | None = None
    residual_share: float | None = None
    residual_interval: tuple[float, float] | None = None


def pair_forest(rows: Sequence[PairRow], *, delta: float, level: float) -> "Figure":
    """Shares of every pair of models with intervals at the confidence level `level`, and each pair's verdict."""
    with drawing():
        figure, axes = canvas(6.2, 1.1 + 0.5 * len(rows))
        axes.axvspan(-delta, delta, color=BAND, linewidth=0, label=f"too small to matter (\u03b4 = {delta:g})")
        axes.axvline(0, color=MUTED, linewidth=0.7)
        for place, row in enumerate(rows):
            _pair(axes, row, place)
        for colour, marker, name in ((BLUE, "o", "plain"), (ORANGE, "D", "beyond shared difficulty")):
            axes.plot([], [], marker, color=colour, markersize=5.5, label=name)
        axes.set_yticks(range(len(rows)), [nameable(row.name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"share of the possible excess coherence, {100 * level:.3g} % intervals")
        light_grid(axes)
        figure.legend(loc="outside upper left", ncols=3, fontsize=8)
    return figure


def _pair(axes: "Axes", row: PairRow, place: int) -> None:
    if row.share is not None and row.interval is not None:
        draw_interval(axes, row.share, row.interval, place - 0.13, BLUE, "o")
    if row.residual_share is not None and row.residual_interval is not None:
        draw_interval(axes, row.residual_share, row.residual_interval, place + 0.13, ORANGE, "D")
    beside = axes.get_yaxis_transform()
    axes.text(1.02, place, nameable(row.verdict), transform=beside, va="center", fontsize=8, linespacing=1.25)


def order_histogram(counts: np.ndarray, shifted_counts: np.ndarray, *, mean: float, shifted_mean: float) -> "Figure":
    """Kuramoto order r of all models' phases: positions in equal bins of [0, 1], observed and under shifts."""
    edges = np.linspace(0, 1, counts.size + 1)
    observed, shifted = (100 * found / max(float(found.sum()), 1e-300) for found in (counts, shifted_counts))
    with drawing():
        figure, axes = canvas(5.4, 2.6)
        axes.bar(edges[:-1], observed, width=np.diff(edges), align="edge", color=BLUE, alpha=0.45, linewidth=0)
        axes.stairs(shifted, edges, color=INK, linewidth=1.2)
        axes.axvline(mean, color=ORANGE, linewidth=1.8, label=f"observed (bars), mean {mean:.3f}")
        axes.axvline(
            shifted_mean, color=INK, linewidth=1, dashes=(4, 3), label=f"shifted (outline), mean {shifted_mean:.3f}"
        )
        axes.set_xlim(0, 1)
        axes.set_xlabel("order r = |mean of exp(i phase)| over the models")
        axes.set_ylabel("positions (%)")
        axes.legend(loc="upper left", fontsize=8)
        light_grid(axes, "y")
    return figure
