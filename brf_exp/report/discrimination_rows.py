"""Columns and rows of the Cross-Term Discrimination Test: rules, contrasts, and what stands beside them."""

from collections.abc import Sequence
from typing import Any

from brf_exp.report.wording import parameters, rule_name, score_name

Rows = tuple[list[str], list[list[Any]]]
Ends = Sequence[float | None]


def rule_rows(found: dict[str, Any]) -> Rows:
    """One row per rule, lowest log loss first; those without one come last."""
    columns = ["rule", "name", "role", "log_loss_low_nats", "log_loss_high_nats", "accuracy_low", "accuracy_high"]
    rows = []
    for name, rule in found["rules"].items():
        accuracy = rule["accuracy"]
        accuracies = accuracy if isinstance(accuracy, list) else [accuracy, accuracy]
        head = [name, rule_name(name, found["models"]), rule["role"], *two(rule["log_loss_nats"]), *accuracies]
        rows.append([*head, rule["n_undefined"], parameters(rule["parameters"])])
    rows.sort(key=lambda row: (row[3] is None, row[4] is None, (row[3] or 0) + (row[4] or 0), row[0]))
    return [*columns, "n_undefined", "parameters"], rows


def contrast_rows(found: dict[str, Any]) -> Rows:
    """One row per rule that Born Rule Fusion is compared with, its largest gain first."""
    columns = [
        "rule", "name", "role", "difference_nats", "interval_low", "interval_high", "truncation_low", "truncation_high",
        "upper_one_sided", "lower_simultaneous", "pvalue_adjusted", "standard_error", "minimum_detectable_nats",
        "noise_floor_nats", "least_gain_nats",
    ]  # fmt: skip
    rows = []
    for name, made in found["contrasts"].items():
        head = [name, rule_name(name, found["models"]), found["rules"][name]["role"], made["difference_nats"]]
        rows.append([*head, *made["interval"], *made["truncation"], *(made.get(column) for column in columns[8:])])
    return columns, sorted(rows, key=lambda row: (row[3], row[0]))


def map_rows(found: dict[str, Any]) -> Rows:
    """One row per phase map: its verdict, and the share of positions at which it suppresses agreement."""
    columns = ["map", "rule", "verdict", "reason", "negative_share", "negative_share_low", "negative_share_high"]
    shares = found["agreement"].get("maps") or {}
    rows = []
    for name, made in found["maps"].items():
        share = shares.get(name) or {"negative_share": None, "interval": None}
        head = [name, made["rule"], made["verdict"], made["reason"]]
        rows.append([*head, share["negative_share"], *two(share["interval"])])
    return columns, rows


def auc_rows(found: dict[str, Any]) -> Rows:
    """One row per score: its AUC, over all positions and within documents, and the candidate's AUC minus it."""
    columns = [
        "score", "name", "auc", "auc_low", "auc_high", "within_documents", "within_documents_low",
        "within_documents_high", "difference", "difference_low", "difference_high", "pvalue", "pvalue_adjusted",
        "reason",
    ]  # fmt: skip
    made = found.get("auc") or {}
    rows = []
    for name, own in (made.get("scores") or {}).items():
        within, apart = own["within_document"] or {}, made["differences"].get(name) or {}
        cells = [own["auc"], *two(own["interval"]), within.get("auc"), *two(within.get("interval"))]
        difference = [apart.get("difference"), *two(apart.get("interval"))]
        tested = [apart.get("pvalue"), apart.get("pvalue_adjusted"), own["reason"] or apart.get("reason")]
        rows.append([name, score_name(name), *cells, *difference, *tested])
    return columns, rows


def below_minimum_rows(found: dict[str, Any]) -> Rows:
    """One row per phase control: its rate of tokens below every model, and Born Rule Fusion's rate minus it."""
    columns = [
        "control", "name", "rate", "difference", "interval_low", "interval_high", "truncation_low", "truncation_high",
        "pvalue", "pvalue_adjusted", "reason",
    ]  # fmt: skip
    rows = []
    for name, made in (found.get("below_minimum_contrasts") or {}).items():
        head = [name, rule_name(name), found["below_minimum_controls"].get(name), made["difference"]]
        tested = [made[column] for column in columns[8:]]
        rows.append([*head, *two(made["interval"]), *two(made["truncation"]), *tested])
    return columns, rows


def secondary_rows(found: dict[str, Any]) -> Rows:
    """One row per rule: Brier score and Born Rule Fusion's minus it, calibration error, recalibrated loss."""
    columns = [
        "rule", "name", "brier_low", "brier_high", "brier_difference", "brier_difference_low", "brier_difference_high",
        "calibration_error", "calibration_error_low", "calibration_error_high", "recalibrated_nats",
        "at_temperature_1_nats", "temperature_low", "temperature_high", "missing",
    ]  # fmt: skip
    secondary = found.get("secondary") or {}
    rows = []
    for name, made in (secondary.get("rules") or {}).items():
        contrast = (secondary.get("brier_contrasts") or {}).get(name) or {}
        error, again = made["calibration_error"] or {}, made["recalibrated"] or {}
        brier = [*two(made["brier"]), contrast.get("difference"), *two(contrast.get("interval"))]
        calibration = [error.get("expected"), *two(error.get("expected_interval"))]
        temperatures = again.get("temperatures") or [None]
        losses = [again.get("log_loss_nats"), again.get("at_temperature_1_nats"), min(temperatures), max(temperatures)]
        head = [name, rule_name(name, found["models"])]
        rows.append([*head, *brier, *calibration, *losses, _missing(made["missing"])])
    return columns, sorted(rows, key=lambda row: (row[2] is None, row[2] or 0.0, row[0]))


def _missing(reasons: dict[str, str]) -> str | None:
    """Why scores do not exist: one reason where it is the same for all, else each with its score."""
    if len(set(reasons.values())) == 1 and len(reasons) > 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{score.replace('_', ' ')}: {reason}" for score, reason in reasons.items()) or None


def reliability_rows(found: dict[str, Any]) -> Rows:
    """One row per rule and bin of its confidence."""
    rows = []
    for name, made in ((found.get("secondary") or {}).get("rules") or {}).items():
        bins = (made["calibration_error"] or {}).get("bins") or {}
        columns = (bins.get(column, []) for column in ("mean_confidence", "accuracy", "counts"))
        rows += [[name, *cells] for cells in zip(*columns, strict=True)]
    return ["rule", "mean_confidence", "accuracy", "positions"], rows


def width_rows(found: dict[str, Any]) -> Rows:
    """One row per rival: the mean width that truncation leaves at every k it was measured at, nats."""
    widths = (found.get("deciding_k") or {}).get("widths") or {}
    rivals = dict.fromkeys(rival for by_rival in widths.values() for rival in by_rival)
    rows = [[rival, *(by_rival.get(rival) for by_rival in widths.values())] for rival in rivals]
    return ["rule", *(f"width_at_{k}_nats" for k in widths)], rows


def two(ends: Ends | None) -> Ends:
    """Both ends of an interval, or two times nothing."""
    return (None, None) if ends is None else ends
