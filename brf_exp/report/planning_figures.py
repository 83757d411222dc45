"""Sample-size planning: what a number of tokens can show, at this pair's precision."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.report.style import BAND, BLUE, INK, MUTED, ORANGE, canvas, drawing, light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PlannedPower:
    """Power at one number of tokens, with the interval that the uncertain standard error leaves."""

    n_tokens: float
    power: float
    interval: tuple[float, float]
    label: str


def power_curve(
    n_tokens: np.ndarray,
    power: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    marked: PlannedPower,
    own_tokens: int,
    least_tokens: float,
    wanted: float = 0.8,
) -> "Figure":
    """Power against the number of tokens, arrays (m,); below `least_tokens` there are too few documents to decide."""
    with drawing():
        figure, axes = canvas(5.4, 2.9)
        _too_few(axes, n_tokens, least_tokens)
        axes.axhline(wanted, color=INK, linewidth=1, dashes=(4, 3), label=f"power {wanted:g}")
        band = "95 % for the uncertain standard error"
        axes.fill_between(n_tokens, lower, upper, color=BLUE, alpha=0.25, linewidth=0, label=band)
        axes.plot(n_tokens, power, color=BLUE, linewidth=1.8)
        axes.plot([marked.n_tokens] * 2, marked.interval, color=ORANGE, linewidth=2.2)
        axes.plot([marked.n_tokens], [marked.power], "D", color=ORANGE, markersize=6, label=marked.label)
        axes.axvline(own_tokens, color=MUTED, linewidth=1, label=f"this run: {own_tokens:,} tokens")
        _token_scale(axes, n_tokens)
        axes.set_ylim(0, 1.03)
        axes.set_ylabel("power")
        figure.legend(loc="outside upper left", ncols=2, fontsize=8, columnspacing=1.2)
        light_grid(axes, "y")
    return figure


def _too_few(axes: "Axes", n_tokens: np.ndarray, least: float) -> None:
    if least > n_tokens[0]:
        end = min(least, float(n_tokens[-1]))
        axes.axvspan(float(n_tokens[0]), end, color=BAND, linewidth=0, label="too few documents to decide")


def _token_scale(axes: "Axes", n_tokens: np.ndarray) -> None:
    """A logarithmic scale with whole numbers at the powers of ten."""
    low, high = float(n_tokens[0]), float(n_tokens[-1])
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    decades = 10 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    axes.set_xticks(decades, [f"{decade:,.0f}" for decade in decades])
    axes.minorticks_off()
    axes.set_xlabel("tokens, in documents as long as these")
