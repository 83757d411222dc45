"""Every figure of a report by name: what it takes from a run, and what it says to those who cannot see it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from brf_exp.maths.power import MIN_DOCUMENTS, Pilot, power_at
from brf_exp.report import coherence_figures as coherence
from brf_exp.report import pair_figures, planning_figures, specification_figures
from brf_exp.report.discrimination_gallery import DISCRIMINATION_FIGURES
from brf_exp.report.load import Run
from brf_exp.report.style import Drawn
from brf_exp.report.wording import MARKS, number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEN_THOUSAND = 10_000
LEAST_TOKENS = 700
N_CURVE_POINTS = 121


def draw(run: Run, name: str) -> "Figure | None":
    """One figure of a run; None where the run has not measured what it shows. KeyError for an unknown name."""
    drawn = FIGURES[name](run)
    return drawn.figure if drawn else None


def primary_map(run: Run) -> dict[str, Any] | None:
    """Coherence results of the map that decides."""
    found = run.coherence
    return found["phases"][found["primary"]] if found else None


def level_of(found: dict[str, Any]) -> float:
    """Confidence level of every interval of the coherence results."""
    return float(found.get("confidence_level", 0.95))


def share_of(found: dict[str, Any]) -> float | None:
    """Excess coherence as a share of what is possible beside the independent resultant; None where undefined."""
    if found["excess"] is None:
        return None
    return float(found["excess"] / (1 - found["resultant_length_independent"]))


def _ends(found: list[float] | None) -> tuple[float, float] | None:
    return (found[0], found[1]) if found else None


def _phase_rose(run: Run) -> Drawn | None:
    primary = primary_map(run)
    phases = run.tables.get("phases")
    names = ("mean_direction_rad", "resultant_length", "resultant_length_independent")
    if phases is None or primary is None or "phase_a_rad" not in phases or primary["excess"] is None:
        return None
    differences = phases["phase_a_rad"] - phases["phase_b_rad"]
    figure = coherence.phase_rose(differences, **{name: primary[name] for name in names})
    length, independent = (number(primary[name], 2) for name in names[1:])
    return Drawn(figure, f"Phase differences around the circle: R = {length}, {independent} if independent")


def _repairing_null(run: Run) -> Drawn | None:
    primary = primary_map(run)
    repairings = run.tables.get("repairings")
    if run.coherence is None or primary is None or repairings is None:
        return None
    panels = []
    for column, title, found in (
        ("excess", "All of the phase relation", primary),
        ("residual_excess", "Beyond shared difficulty", primary["residual"]),
    ):
        if found is None or found["excess"] is None or column not in repairings or not repairings[column].size:
            continue
        draws = repairings[column]
        relevant = run.coherence["delta"] * (1 - found["resultant_length_independent"])
        ends = tuple(found["excess_interval"])
        panels.append(coherence.NullPanel(title, draws - draws.mean(), found["excess"], ends, relevant))
    if not panels:
        return None
    said = "; ".join(f"{panel.title.lower()} {number(panel.observed)}" for panel in panels)
    figure = coherence.repairing_null(panels, level=level_of(run.coherence))
    return Drawn(figure, f"Excess coherence against re-paired documents: {said}")


def _map_intervals(run: Run) -> Drawn | None:
    if run.coherence is None:
        return None
    rows = [_map_row(name, found) for name, found in run.coherence["phases"].items()]
    if not any(row.interval for row in rows):
        return None
    level = level_of(run.coherence)
    figure = coherence.map_intervals(rows, delta=run.coherence["delta"], level=level)
    label = f"Share of the possible excess coherence under each phase map, with {percent(level)} intervals"
    return Drawn(figure, label)


def _map_row(name: str, found: dict[str, Any]) -> coherence.MapRow:
    left = found["residual"]
    return coherence.MapRow(
        name,
        share_of(found),
        _ends(found["excess_share_interval"]),
        share_of(left) if left else None,
        _ends(left["excess_share_interval"]) if left else None,
        found["reason"],
    )


def _specification_curve(run: Run) -> Drawn | None:
    found = run.coherence or {}
    rows = [_specified(row, found) for row in found.get("specification") or [] if row["share"] is not None]
    if not rows:
        return None
    figure = specification_figures.specification_curve(rows, delta=found["delta"], level=level_of(found))
    low, high = (number(end) for end in (min(row.share for row in rows), max(row.share for row in rows)))
    label = f"Share of the possible excess coherence under {len(rows)} choices of map and scale: {low} to {high}"
    return Drawn(figure, label)


def _specified(row: dict[str, Any], found: dict[str, Any]) -> specification_figures.Specification:
    ends = row["share_interval"]
    return specification_figures.Specification(
        map=row["map"],
        scale_factor=row["scale_factor"],
        share=row["share"],
        interval=(ends[0], ends[1]),
        residual_share=row["residual_share"],
        residual_interval=_ends(row["residual_share_interval"]),
        rejects=row["pvalue"] < found.get("alpha", 0.05),
        decides=row["map"] == found["primary"] and row["scale_factor"] in (None, 1.0),
    )


def _reliability_curve(run: Run) -> Drawn | None:
    points = (run.coherence or {}).get("reliability_curve")
    if not points or run.coherence is None:
        return None
    columns = ([p[name] for p in points] for name in ("reliability", "value", "lower", "upper"))
    arrays = [np.array([np.nan if value is None else value for value in column]) for column in columns]
    label = "Partial correlation of the gaps against the assumed reliability of the difficulty proxy"
    return Drawn(coherence.reliability_curve(*arrays, level=level_of(run.coherence)), label)


def _power_curve(run: Run) -> Drawn | None:
    planned = (run.coherence or {}).get("planning")
    if not planned:
        return None
    pilot = Pilot(planned["standard_error_share"], planned["n_positions"], planned["n_documents"])
    least = MIN_DOCUMENTS * pilot.document_positions
    reach = 4 * max(TEN_THOUSAND, pilot.n_positions, least)
    sizes = np.geomspace(LEAST_TOKENS, reach, N_CURVE_POINTS)
    found = [power_at(round(n), effect=planned["delta"], pilot=pilot, alpha=planned.get("alpha", 0.05)) for n in sizes]
    at = power_at(TEN_THOUSAND, effect=planned["delta"], pilot=pilot, alpha=planned.get("alpha", 0.05))
    said = f"10,000 tokens: power {at.power:.2f} [{at.interval[0]:.2f}, {at.interval[1]:.2f}]"
    figure = planning_figures.power_curve(
        sizes,
        np.array([estimate.power for estimate in found]),
        np.array([estimate.interval[0] for estimate in found]),
        np.array([estimate.interval[1] for estimate in found]),
        marked=planning_figures.PlannedPower(TEN_THOUSAND, at.power, at.interval, said),
        own_tokens=pilot.n_positions,
        least_tokens=least,
    )
    return Drawn(figure, f"Power to find a share of {number(planned['delta'])} against the number of tokens; {said}")


def _pair_forest(run: Run) -> Drawn | None:
    found = run.coherence or {}
    rows = [_pair_row(pair) for pair in found.get("pairs") or []]
    if not rows:
        return None
    figure = pair_figures.pair_forest(rows, delta=found["delta"], level=level_of(found))
    said = "; ".join(f"{row.name} {row.verdict}".replace("\n", ", ") for row in rows)
    return Drawn(figure, f"Share of the possible excess coherence of every pair of models: {said}")


def _pair_row(pair: dict[str, Any]) -> pair_figures.PairRow:
    row = _map_row("\n".join(pair["models"]), pair["phases"][pair["primary"]])
    return pair_figures.PairRow(
        name=row.name,
        verdict=f"{MARKS[pair['verdict']]} {pair['verdict']}\n{pair['reason']}",
        share=row.share,
        interval=row.interval,
        residual_share=row.residual_share,
        residual_interval=row.residual_interval,
    )


def _kuramoto_order(run: Run) -> Drawn | None:
    found = (run.coherence or {}).get("kuramoto")
    if not found:
        return None
    counts, shifted = (np.array(found[name], dtype=np.float64) for name in ("counts", "shifted_counts"))
    means = {"mean": found["mean"], "shifted_mean": found["shifted_mean"]}
    figure = pair_figures.order_histogram(counts, shifted, **means)
    said = f"mean {number(found['mean'])}, {number(found['shifted_mean'])} under shifts"
    return Drawn(figure, f"Kuramoto order of all models' phases: {said}")


FIGURES: dict[str, Callable[[Run], Drawn | None]] = {
    "phase_rose": _phase_rose,
    "repairing_null": _repairing_null,
    "map_intervals": _map_intervals,
    "specification_curve": _specification_curve,
    "reliability_curve": _reliability_curve,
    "pair_forest": _pair_forest,
    "kuramoto_order": _kuramoto_order,
    "power_curve": _power_curve,
    **DISCRIMINATION_FIGURES,
}
