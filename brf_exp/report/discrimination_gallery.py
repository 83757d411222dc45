"""What the figures of the Cross-Term Discrimination Test take from a run, and what they say in words."""

from collections.abc import Callable
from typing import Any

import numpy as np

from brf_exp.report import coherence_figures, score_figures
from brf_exp.report import discrimination_figures as figures
from brf_exp.report.load import Run
from brf_exp.report.style import Drawn
from brf_exp.report.wording import CONTROLS, GROUPS, fixed, group_of, percent, rule_name, score_name

CALIBRATED = ("brf", "linear", "power_mean", "constant_coherence")


def own_margins(found: dict[str, Any]) -> dict[str, float]:
    """By rule: the least difference that counts, in nats, where its noise floor puts that above delta."""
    margins = {rule: contrast.get("least_gain_nats") for rule, contrast in found["contrasts"].items()}
    return {rule: least for rule, least in margins.items() if least is not None and least > found["delta_nats"]}


def _coherence_histogram(run: Run) -> Drawn | None:
    losses = run.tables.get("losses")
    if losses is None or run.discrimination is None:
        return None
    share = run.discrimination["agreement"]["negative_share"]
    figure = coherence_figures.coherence_histogram(losses["own_scale_coherence"], negative_share=share)
    return Drawn(figure, f"Histogram of the interference factor c; it is negative at {percent(share)} of the positions")


def _contrast_forest(run: Run) -> Drawn | None:
    found = run.discrimination
    if found is None or not found["contrasts"]:
        return None
    margins = own_margins(found)
    rows = [_contrast_row(name, found, margins.get(name)) for name in found["contrasts"]]
    rows.sort(key=lambda row: GROUPS.index(row.group))
    figure = figures.contrast_forest(rows, delta_nats=found["delta_nats"])
    return Drawn(figure, "Log loss of Born Rule Fusion minus each rule, with 95 % intervals, as in the table below")


def _contrast_row(rule: str, found: dict[str, Any], margin: float | None) -> figures.ContrastRow:
    contrast = found["contrasts"][rule]
    return figures.ContrastRow(
        name=rule_name(rule, found["models"]),
        group=group_of(rule, found["rules"][rule]["role"]),
        difference_nats=contrast["difference_nats"],
        interval=tuple(contrast["interval"]),
        truncation=tuple(contrast["truncation"]),
        margin_nats=margin,
    )


def _coherence_curve(run: Run) -> Drawn | None:
    curve, losses, found = run.tables.get("coherence_curve"), run.tables.get("losses"), run.discrimination
    if curve is None or found is None or losses is None:
        return None
    loss = found["rules"]["brf"]["log_loss_nats"]
    is_bounded = loss is not None and None not in loss
    point = figures.CurvePoint(float(losses["coherence"].mean()), tuple(loss)) if is_bounded else None
    names = ("coherence", "log_loss_lower_nats", "log_loss_upper_nats")
    figure = figures.coherence_curve(*(curve[name] for name in names), brf=point)
    return Drawn(figure, "Log loss of one constant interference factor for all positions, beside Born Rule Fusion")


def _below_minimum(run: Run) -> Drawn | None:
    found = run.discrimination
    if found is None or found["below_minimum_rate"] is None:
        return None
    controls = {name: found["below_minimum_controls"].get(name) for name in CONTROLS}
    rates = {"brf": found["below_minimum_rate"]} | {name: rate for name, rate in controls.items() if rate is not None}
    ends = [tuple(found["below_minimum_interval"])] + [None] * (len(rates) - 1)
    figure = figures.rate_bars([rule_name(name) for name in rates], list(rates.values()), ends)
    said = ", ".join(f"{rule_name(name)} {percent(rate)}" for name, rate in rates.items())
    return Drawn(figure, f"Positions where the realised token falls below every model: {said}")


def _auc_comparison(run: Run) -> Drawn | None:
    found = (run.discrimination or {}).get("auc") or {}
    if not found.get("scores") or found.get("reason"):
        return None
    candidate = found["candidate"]
    rows = [_auc_row(name, found) for name in sorted(found["scores"], key=lambda name: name != candidate)]
    figure = score_figures.auc_comparison(rows, level=0.95)
    said = "; ".join(f"{row.name} {fixed(row.auc, 3)}" for row in rows)
    return Drawn(figure, f"AUC of every score for the correctness of the top token: {said}")


def _auc_row(score: str, found: dict[str, Any]) -> score_figures.AucRow:
    own, against = found["scores"][score], found["differences"].get(score)
    ends, reason = own["interval"], own["reason"]
    row = score_figures.AucRow(score_name(score), own["auc"], ends and tuple(ends), reason=reason or "")
    if against is None:
        return row
    apart = against["interval"]
    reason = against["reason"] or ""
    return score_figures.AucRow(row.name, row.auc, row.interval, against["difference"], apart and tuple(apart), reason)


def _reliability_diagram(run: Run) -> Drawn | None:
    rules = ((run.discrimination or {}).get("secondary") or {}).get("rules", {})
    errors = {name: rules[name]["calibration_error"] for name in CALIBRATED if name in rules}
    errors = {name: error for name, error in errors.items() if error}
    if not errors:
        return None
    curves = [
        score_figures.Reliability(
            rule_name(name), np.array(error["bins"]["mean_confidence"]), np.array(error["bins"]["accuracy"])
        )
        for name, error in errors.items()
    ]
    said = "; ".join(f"{rule_name(name)} {percent(error['expected'])} off" for name, error in errors.items())
    return Drawn(
        score_figures.reliability_diagram(curves), f"Accuracy of the top token against its probability: {said}"
    )


DISCRIMINATION_FIGURES: dict[str, Callable[[Run], Drawn | None]] = {
    "contrast_forest": _contrast_forest,
    "coherence_curve": _coherence_curve,
    "coherence_histogram": _coherence_histogram,
    "below_minimum": _below_minimum,
    "auc_comparison": _auc_comparison,
    "reliability_diagram": _reliability_diagram,
}
