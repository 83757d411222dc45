"""The specification curve: what every choice of phase map and scale would have found."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from brf_exp.report.style import BAND, BLUE, GRID, INK, MUTED, ORANGE, PAPER, canvas, drawing, light_grid, nameable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_SCALE = "no scale"
STEP = 0.17  # of a place, from the middle to either of the two marks


@dataclass(frozen=True)
class Specification:
    """One map at one scale: share of the possible excess coherence, plain and beyond shared difficulty.

    `scale_factor` multiplies the map's own scale; None where the map has no scale. `rejects`: both nulls are rejected.
    """

    map: str
    scale_factor: float | None
    share: float
    interval: tuple[float, float]
    residual_share: float | None = None
    residual_interval: tuple[float, float] | None = None
    rejects: bool = True
    decides: bool = False

    @property
    def scale_label(self) -> str:
        """The scale in words: s / 2, s, 2 s."""
        if self.scale_factor is None:
            return NO_SCALE
        factor = Fraction(self.scale_factor).limit_denominator(1000)
        before = "" if factor.numerator == 1 else f"{factor.numerator} "
        behind = "" if factor.denominator == 1 else f" / {factor.denominator}"
        return f"{before}s{behind}"


def specification_curve(rows: Sequence[Specification], *, delta: float, level: float) -> "Figure":
    """Effects of all specifications in ascending order, above the choices that each of them stands for.

    After Simonsohn, Simmons and Nelson, Nature Human Behaviour 4:1208 (2020). `level`: confidence level of the
    intervals.
    """
    ordered = sorted(rows, key=lambda row: (row.share, row.map, row.scale_factor or 0.0))
    lines = _choice_lines(rows)
    heights = [2.6, 0.3 + 0.17 * len(lines)]
    with drawing():
        grid = {"height_ratios": heights}
        figure, panels = canvas(6.2, 0.7 + sum(heights), nrows=2, sharex=True, gridspec_kw=grid)
        effects, matrix = panels
        for place, row in enumerate(ordered):
            if row.decides:
                for axes in panels:
                    axes.axvspan(place - 0.5, place + 0.5, color=MUTED, alpha=0.2, linewidth=0)
                effects.plot([], [], "s", color=MUTED, alpha=0.35, markersize=8, label="decides")
        _effects(effects, ordered, delta)
        _matrix(matrix, ordered, lines)
        effects.set_ylabel("share of the possible\nexcess coherence")
        matrix.set_xlim(-0.7, len(ordered) - 0.3)
        matrix.set_xlabel(f"{len(ordered)} specifications, by their plain share; {100 * level:.3g} % intervals")
        figure.legend(loc="outside upper left", ncols=3, fontsize=8, columnspacing=1.2)
    return figure


def _effects(axes: "Axes", ordered: Sequence[Specification], delta: float) -> None:
    axes.axhspan(-delta, delta, color=BAND, linewidth=0, label=f"too small to matter (\u03b4 = {delta:g})")
    axes.axhline(0, color=MUTED, linewidth=0.7)
    step = STEP if any(row.residual_interval for row in ordered) else 0.0
    for place, row in enumerate(ordered):
        _mark(axes, place - step, row.share, row.interval, filled=row.rejects, color=BLUE, marker="o")
        if row.residual_share is not None and row.residual_interval is not None:
            _mark(axes, place + step, row.residual_share, row.residual_interval, filled=True, color=ORANGE, marker="D")
    axes.plot([], [], "o", color=BLUE, markersize=4.5, label="plain")
    if any(not row.rejects for row in ordered):
        hollow: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 4.5}
        axes.plot([], [], "o", color=BLUE, label="plain, a null not rejected", **hollow)
    if step:
        axes.plot([], [], "D", color=ORANGE, markersize=4.5, label="beyond shared difficulty")
    axes.tick_params(axis="x", length=0, labelbottom=False)
    light_grid(axes, "y")


def _mark(
    axes: "Axes", place: float, value: float, ends: tuple[float, float], *, filled: bool, color: str, marker: str
) -> None:
    axes.plot([place, place], ends, color=color, linewidth=1.6)
    face = color if filled else PAPER
    axes.plot([place], [value], marker, color=color, markerfacecolor=face, markersize=4.5)


def _choice_lines(rows: Sequence[Specification]) -> list[tuple[str, str | None]]:
    """Lines of the matrix: kind of choice and option; None as option is the kind's heading."""
    maps = list(dict.fromkeys(row.map for row in rows))
    by_factor = sorted(rows, key=lambda row: (row.scale_factor is None, row.scale_factor or 0.0))
    scales = list(dict.fromkeys(row.scale_label for row in by_factor))
    return [("map", None), *(("map", name) for name in maps), ("scale", None), *(("scale", name) for name in scales)]


def _matrix(axes: "Axes", ordered: Sequence[Specification], lines: Sequence[tuple[str, str | None]]) -> None:
    for level, (kind, option) in enumerate(lines):
        if option is None:
            continue
        chosen = [(row.map if kind == "map" else row.scale_label) == option for row in ordered]
        for mark, size, colour in ((True, 4.5, INK), (False, 2.0, GRID)):
            places = [place for place, is_chosen in enumerate(chosen) if is_chosen == mark]
            axes.plot(places, [level] * len(places), "o", color=colour, markersize=size)
    axes.set_yticks(range(len(lines)), [kind if option is None else nameable(option) for kind, option in lines])
    for label, (_, option) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if option is None else "normal")
        label.set_fontsize(8)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(length=0, labelbottom=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
