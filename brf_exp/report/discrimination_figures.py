"""Figures of the Cross-Term Discrimination Test: plain rows in, a matplotlib Figure out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.report.style import BAND, BLUE, GREEN, INK, MUTED, ORANGE, canvas, drawing, light_grid, nameable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS_NATS = (0.02, 0.1, 0.5, 2.0, 10.0, 50.0)


@dataclass(frozen=True)
class ContrastRow:
    """Candidate minus one rule in nats per token: midpoint, 95 % interval, and what truncation leaves open.

    `margin_nats`: the least difference that counts against this rule, where its noise floor is above delta.
    """

    name: str
    group: str
    difference_nats: float
    interval: tuple[float, float]
    truncation: tuple[float, float]
    margin_nats: float | None = None


@dataclass(frozen=True)
class CurvePoint:
    """Where Born Rule Fusion lies beside the curve: its mean c, and its log loss interval in nats."""

    coherence: float
    log_loss_nats: tuple[float, float]


def contrast_forest(rows: Sequence[ContrastRow], *, delta_nats: float) -> "Figure":
    """Log-loss differences, largest gain of Born Rule Fusion on top within each group.

    Thin line: 95 % interval of sampling and truncation. Thick line: truncation alone. Brackets: a row's own margin.
    The scale is linear within 4 delta and logarithmic beyond, since rules differ by orders of magnitude.
    """
    groups = list(dict.fromkeys(row.group for row in rows))
    lines: list[str | ContrastRow] = []
    for group in groups:
        lines += [group, *sorted((r for r in rows if r.group == group), key=lambda r: (r.difference_nats, r.name))]
    with drawing():
        figure, axes = canvas(5.6, 1.05 + 0.235 * len(lines))
        axes.axvspan(-delta_nats, delta_nats, color=BAND, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.7)
        for place, line in enumerate(lines):
            if isinstance(line, ContrastRow):
                _contrast(axes, line, place, delta_nats)
        _nats_scale(axes, rows, delta_nats)
        names = [line.name if isinstance(line, ContrastRow) else line for line in lines]
        axes.set_yticks(range(len(lines)), [nameable(name) for name in names])
        for label, line in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_fontweight("normal" if isinstance(line, ContrastRow) else "bold")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlabel("log loss of Born Rule Fusion minus the rule (nats per token)")
        axes.set_title("\u25c0 Born Rule Fusion is better", loc="left", fontsize=8.5)
        axes.set_title("worse \u25b6", loc="right", fontsize=8.5)
        light_grid(axes)
    return figure


def _contrast(axes: "Axes", row: ContrastRow, place: int, delta_nats: float) -> None:
    """Shape and colour say the same: a gain beyond delta, a loss beyond it, or neither for sure."""
    low, high = row.interval
    margin = delta_nats if row.margin_nats is None else row.margin_nats
    colour, marker = (GREEN, "<") if high < -margin else (ORANGE, ">") if low > margin else (MUTED, "o")
    if row.margin_nats is not None:
        axes.plot([-margin, margin], [place, place], marker="|", color=INK, markersize=9, linestyle="none")
    axes.plot(row.interval, [place, place], color=colour, linewidth=1.2)
    axes.plot(row.truncation, [place, place], color=colour, linewidth=5, alpha=0.45)
    axes.plot([row.difference_nats], [place], marker=marker, color=colour, markersize=5.5, linestyle="none")


def _nats_scale(axes: "Axes", rows: Sequence[ContrastRow], delta_nats: float) -> None:
    ends = [end for row in rows for end in (*row.interval, *row.truncation)] or [0.0]
    axes.set_xscale("symlog", linthresh=4 * delta_nats, linscale=1.0)
    reach = [min(*ends, -4 * delta_nats) * 1.3, max(*ends, 4 * delta_nats) * 1.3]
    axes.set_xlim(*reach)
    ticks = [-t for t in reversed(TICKS_NATS) if t > delta_nats] + [0.0] + [t for t in TICKS_NATS if t > delta_nats]
    shown = [tick for tick in ticks if reach[0] <= tick <= reach[1]]
    axes.set_xticks(shown, [f"{tick:g}".replace("-", "\u2212") for tick in shown])
    axes.minorticks_off()


def coherence_curve(
    coherence: np.ndarray, lower_nats: np.ndarray, upper_nats: np.ndarray, *, brf: CurvePoint | None = None
) -> "Figure":
    """Mean log loss of one constant interference factor c for all positions, arrays (m,), with its truncation band."""
    middle = (lower_nats + upper_nats) / 2
    best = int(np.argmin(middle))
    with drawing():
        figure, axes = canvas(5.4, 2.9)
        tail = {"color": BLUE, "alpha": 0.25, "linewidth": 0, "label": "left open by truncation"}
        axes.fill_between(coherence, lower_nats, upper_nats, **tail)
        axes.plot(coherence, middle, color=BLUE, linewidth=1.6, label="constant c, no phases")
        mark = f"best constant: c = {coherence[best]:.2f}"
        axes.plot([coherence[best]], [middle[best]], "o", color=BLUE, markersize=6, label=mark)
        if brf is not None:
            level = sum(brf.log_loss_nats) / 2
            axes.axhspan(*brf.log_loss_nats, color=ORANGE, alpha=0.2, linewidth=0)
            axes.axhline(level, color=ORANGE, linewidth=1.2, dashes=(4, 3))
            mark = "Born Rule Fusion, at its mean c"
            axes.plot([brf.coherence], [level], "D", color=ORANGE, markersize=6, label=mark)
        axes.axvline(0, color=MUTED, linewidth=0.7)
        _focus(axes, middle, brf)
        axes.set_xlim(-1, 1)
        axes.set_xlabel("constant interference factor c  (0: linear pool,  1: zero phase)")
        axes.set_ylabel("log loss (nats per token)")
        axes.legend(loc="upper right", fontsize=8)
        light_grid(axes, "y")
    return figure


def _focus(axes: "Axes", middle: np.ndarray, brf: CurvePoint | None) -> None:
    """Cut the steep rise near c = -1, which would flatten everything of interest."""
    levels = [float(middle.min()), float(np.quantile(middle, 0.85))] + (list(brf.log_loss_nats) if brf else [])
    low, high = min(levels), max(levels)
    margin = 0.35 * max(high - low, 1e-6)
    axes.set_ylim(low - 0.6 * margin, high + 2 * margin)


def rate_bars(
    names: Sequence[str], rates: Sequence[float], intervals: Sequence[tuple[float, float] | None]
) -> "Figure":
    """How often the realised token falls below every model, Born Rule Fusion first, then its phase controls."""
    with drawing():
        figure, axes = canvas(5.4, 0.85 + 0.36 * len(names))
        colours = [BLUE] + [MUTED] * (len(names) - 1)
        axes.barh(
            range(len(names)), [100 * rate for rate in rates], height=0.55, color=colours, alpha=0.75, linewidth=0
        )
        longest = max(100 * max(rates, default=0.0), 1e-3)
        for place, (rate, ends) in enumerate(zip(rates, intervals, strict=True)):
            if ends is not None and ends[1] > ends[0]:
                axes.plot([100 * ends[0], 100 * ends[1]], [place, place], color=INK, linewidth=1.5)
            right = 100 * max(rate, ends[1] if ends else rate)
            axes.text(right + 0.015 * longest, place, f"{100 * rate:.3g} %", va="center", fontsize=8.5)
        axes.set_xlim(0, 1.14 * longest)
        axes.set_yticks(range(len(names)), [nameable(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("positions where the realised token ends up below every model (%)")
        light_grid(axes)
    return figure
