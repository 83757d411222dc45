"""Figures of the Phase Coherence Test: arrays in, a matplotlib Figure out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.report.style import BAND, BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, canvas, drawing, light_grid, nameable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_SECTORS = 36
N_BINS = 20


@dataclass(frozen=True)
class NullPanel:
    """Excess coherence of re-paired documents (re-centred to mean 0) against the observed one."""

    title: str
    draws: np.ndarray
    observed: float
    interval: tuple[float, float]
    relevant: float  # the smallest excess that matters


@dataclass(frozen=True)
class MapRow:
    """One phase map: share of the possible excess coherence, plain and beyond shared difficulty.

    Without an interval the test does not exist under this map, for the `reason` named.
    """

    name: str
    share: float | None
    interval: tuple[float, float] | None
    residual_share: float | None = None
    residual_interval: tuple[float, float] | None = None
    reason: str = ""


def phase_rose(
    differences_rad: np.ndarray,
    *,
    mean_direction_rad: float,
    resultant_length: float,
    resultant_length_independent: float,
) -> "Figure":
    """Histogram of phase differences (n,), in radians, around the circle, with their resultant R and R_0.

    The area of a sector is its share of positions; the arrow and the dashed circle have the unit circle as scale.
    """
    half = np.pi / N_SECTORS
    edges = np.linspace(-np.pi - half, np.pi - half, N_SECTORS + 1)  # one sector's middle is 0
    wrapped = (differences_rad - edges[0]) % (2 * np.pi) + edges[0]
    share = np.histogram(wrapped, bins=edges)[0] / max(wrapped.size, 1)
    radius = np.sqrt(share / share.max())
    with drawing():
        figure, axes = canvas(4.4, 4.1, subplot_kw={"projection": "polar"})
        axes.bar(edges[:-1], radius, width=np.diff(edges), align="edge", color=BLUE, alpha=0.45, linewidth=0)
        circle = np.linspace(0, 2 * np.pi, 181)
        label = f"R\u2080 = {resultant_length_independent:.2f}, expected of independent phases"
        axes.plot(
            circle, np.full(181, resultant_length_independent), color=INK, linewidth=1, dashes=(4, 3), label=label
        )
        tip = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 14}
        axes.annotate("", xy=(mean_direction_rad, resultant_length), xytext=(0, 0), arrowprops=tip)
        degrees = np.degrees(mean_direction_rad)
        arrow = f"R = {resultant_length:.2f}, mean direction {degrees:.0f}\u00b0".replace("-", "\u2212")
        axes.plot([], [], color=ORANGE, linewidth=2.2, label=arrow)
        axes.set_rlim(0, 1.02)
        axes.set_rticks([0.5, 1.0], ["0.5", "1"], color=MUTED, fontsize=8)
        axes.set_rlabel_position(112)
        axes.set_thetagrids([0, 45, 90, 135, 180, 225, 270, 315], _DEGREES)
        axes.spines["polar"].set_visible(False)
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=1)
    return figure


_DEGREES = [f"{degrees}\u00b0".replace("-", "\u2212") for degrees in (0, 45, 90, 135, 180, -135, -90, -45)]


def repairing_null(panels: Sequence[NullPanel], *, level: float) -> "Figure":
    """Observed excess coherence against that of documents paired with the wrong partner, one panel each.

    `level`: confidence level of the intervals.
    """
    with drawing():
        figure, axes = canvas(5.4, 0.95 + 1.5 * len(panels), nrows=len(panels), sharex=True, squeeze=False)
        for row, panel in zip(axes[:, 0], panels, strict=True):
            _null_panel(row, panel, level)
        axes[-1, 0].set_xlabel("excess coherence, minus the mean of the re-pairings")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=8, columnspacing=1.2)
    return figure


def _null_panel(axes: "Axes", panel: NullPanel, level: float) -> None:
    top = float(np.histogram(panel.draws, bins=N_BINS)[0].max())
    axes.hist(panel.draws, bins=N_BINS, color=MUTED, alpha=0.55, linewidth=0, label="re-paired documents")
    axes.axvline(panel.relevant, color=INK, linewidth=1, dashes=(4, 3), label="smallest that matters")
    axes.axvline(0, color=MUTED, linewidth=0.7)
    axes.plot(panel.interval, [top * 0.45] * 2, color=ORANGE, linewidth=4, alpha=0.45, label=_interval_label(level))
    axes.plot([panel.observed], [top * 0.45], "D", color=ORANGE, markersize=6, label="observed")
    axes.set_ylim(0, top * 1.1)
    axes.set_title(panel.title)
    axes.set_ylabel("re-pairings")


def _interval_label(level: float) -> str:
    return f"{100 * level:.3g} % interval"


def map_intervals(rows: Sequence[MapRow], *, delta: float, level: float) -> "Figure":
    """Share of the possible excess coherence under every phase map, with intervals; the first row decides.

    `level`: confidence level of the intervals.
    """
    with drawing():
        figure, axes = canvas(5.4, 1.25 + 0.42 * len(rows))
        axes.axvspan(-delta, delta, color=BAND, linewidth=0, label=f"too small to matter (\u03b4 = {delta:g})")
        axes.axvline(0, color=MUTED, linewidth=0.7)
        has_residual = any(row.residual_interval for row in rows)
        for place, row in enumerate(rows):
            _map(axes, row, place, 0.15 if has_residual else 0.0)
        axes.plot([], [], "o", color=BLUE, markersize=5.5, label="plain")
        if has_residual:
            axes.plot([], [], "D", color=ORANGE, markersize=5.5, label="beyond shared difficulty")
        names = [nameable(row.name) for row in rows]
        axes.set_yticks(range(len(rows)), [f"{names[0]} (decides)", *names[1:]])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"share of the possible excess coherence, {100 * level:.3g} % intervals")
        light_grid(axes)
        figure.legend(loc="outside upper left", ncols=3, fontsize=8)
    return figure


def _map(axes: "Axes", row: MapRow, place: int, shift: float) -> None:
    if row.share is None or row.interval is None:
        axes.text(0, place, f"not defined: {nameable(row.reason)}", va="center", fontsize=8, color=MUTED)
        return
    draw_interval(axes, row.share, row.interval, place - shift, BLUE, "o")
    if row.residual_interval is not None and row.residual_share is not None:
        draw_interval(axes, row.residual_share, row.residual_interval, place + shift, ORANGE, "D")


def draw_interval(
    axes: "Axes", value: float, ends: tuple[float, float], place: float, colour: str, marker: str
) -> None:
    """A horizontal interval with its estimate."""
    axes.plot(ends, [place, place], color=colour, linewidth=2.2)
    axes.plot([value], [place], marker=marker, color=colour, markersize=5.5, linestyle="none")


def reliability_curve(
    reliability: np.ndarray,
    value: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    level: float,
    deciding: float = 0.8,
) -> "Figure":
    """Partial correlation of the models' gaps against the reliability of the proxy; arrays (m,), NaN allowed.

    `level`: confidence level of the band.
    """
    with drawing():
        figure, axes = canvas(5.4, 2.7)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        axes.axvline(deciding, color=INK, linewidth=1, dashes=(4, 3), label=f"reliability that decides: {deciding:g}")
        band = _interval_label(level)
        axes.fill_between(reliability, lower, upper, color=PURPLE, alpha=0.25, linewidth=0, label=band)
        axes.plot(reliability, value, color=PURPLE, linewidth=1.8, label="partial correlation of the gaps")
        axes.set_xlim(float(reliability.min()), float(reliability.max()))
        axes.set_ylim(*_possible(reliability, lower, upper))
        axes.set_xlabel("assumed reliability of the difficulty proxy")
        axes.set_ylabel("partial correlation")
        axes.set_title("What is left if the proxy knows difficulty only this well")
        axes.legend(loc="best", fontsize=8)
        light_grid(axes, "y")
    return figure


def _possible(reliability: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[float, float]:
    """Limits within -1 and 1 that show the reliable end, where the formula does not run away."""
    trusted = np.concatenate([ends[(reliability >= 0.75) & np.isfinite(ends)] for ends in (lower, upper)])
    low, high = np.min(trusted, initial=0.0), np.max(trusted, initial=0.0)
    margin = 0.3 * max(high - low, 0.1)
    return float(max(low - margin, -1.0)), float(min(high + margin, 1.0))


def coherence_histogram(cosines: np.ndarray, *, negative_share: float) -> "Figure":
    """How the interference factor c = cos(phase difference) is spread over positions (n,)."""
    edges = np.linspace(-1, 1, 41)
    with drawing():
        figure, axes = canvas(5.4, 2.3)
        share = 100 * np.histogram(cosines, bins=edges)[0] / max(cosines.size, 1)
        colours = [ORANGE if right <= 0 else GREEN for right in edges[1:]]
        axes.bar(edges[:-1], share, width=np.diff(edges), align="edge", color=colours, alpha=0.75, linewidth=0)
        axes.axvline(0, color=INK, linewidth=1)
        height = axes.get_ylim()[1]
        note = f"agreement suppressed:\n{100 * negative_share:.2g} % of positions"
        axes.text(-0.97, height * 0.95, note, va="top", fontsize=8.5)
        axes.set_xlim(-1, 1)
        axes.set_xlabel("interference factor c = cos(phase difference)")
        axes.set_ylabel("positions (%)")
        light_grid(axes, "y")
    return figure
