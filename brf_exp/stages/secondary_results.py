"""What results.json says of the secondary scores; null with a named reason where one does not exist."""

from typing import Any

import numpy as np

from brf_exp.config import EvaluationConfig
from brf_exp.maths.calibration_error import CalibrationError
from brf_exp.maths.discrimination import contrasts
from brf_exp.maths.recalibration import TEMPERATURES, cross_fitted
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.secondary_scores import BRIER, LUMPED, SecondaryScores

CANDIDATE_RULE = "brf"
# Calibration errors decide nothing, and every rule has one: fewer replicates than the contrasts have.
MAX_CALIBRATION_RESAMPLES = 999
NOTE = (
    "Secondary scores, which decide nothing. The recalibrated loss is the log loss of each forecast tempered on the "
    "tokens that both models list, all others being one outcome, at the middle of its normaliser's bounds."
)


def secondary_summary(
    scores: SecondaryScores, evaluation: EvaluationConfig, rng: np.random.Generator
) -> dict[str, Any]:
    """`rules`: each rule's Brier score, calibration error and recalibrated loss; `brier_contrasts`: the candidate's
    Brier score minus every other rule's, with intervals over documents that are not adjusted for multiplicity."""
    generators = rng.spawn(len(scores.tuned) + 1)
    rules = {
        name: _rule_summary(name, scores, evaluation, generator)
        for name, generator in zip(scores.tuned, generators[:-1], strict=True)
    }
    return {
        "note": NOTE,
        "candidate": CANDIDATE_RULE,
        "rules": rules,
        "brier_contrasts": _brier_contrasts(scores, evaluation, generators[-1]),
    }


def _rule_summary(
    name: str, scores: SecondaryScores, evaluation: EvaluationConfig, rng: np.random.Generator
) -> dict[str, Any]:
    """The three scores of a rule, and under `missing` why one of them does not exist."""
    missing: dict[str, str] = {}
    reason = scores.missing.get(name) or (None if scores.defined(name) else "undefined fusion")
    if reason is not None:
        missing = dict.fromkeys(("brier", "calibration_error", "recalibrated"), reason)
        return {**dict.fromkeys(missing), "missing": missing}
    calibration: dict[str, Any] | None = None
    try:
        calibration = _calibration(name, scores, evaluation, rng)
    except UndefinedStatisticError as error:
        missing["calibration_error"] = error.reason
    recalibrated = None
    if scores.folds is None:
        missing["recalibrated"] = "not tuned"
    elif len(scores.folds.numbers) < 2:
        missing["recalibrated"] = "folds"
    elif not scores.bounded(name):
        missing["recalibrated"] = "unbounded normaliser"
    else:
        recalibrated = _recalibrated(scores.sums(name)[LUMPED], scores)
    brier = scores.sums(name)[BRIER].sum(axis=1) / int(scores.offsets[-1])
    return {
        "brier": brier.tolist(),
        "calibration_error": calibration,
        "recalibrated": recalibrated,
        "missing": missing,
    }


def _calibration(
    name: str, scores: SecondaryScores, evaluation: EvaluationConfig, rng: np.random.Generator
) -> dict[str, Any]:
    found = scores.bins[name].error(
        confidence_level=evaluation.confidence_level,
        n_resamples=min(evaluation.n_resamples, MAX_CALIBRATION_RESAMPLES),
        rng=rng,
    )
    return _calibration_summary(found)


def _calibration_summary(found: CalibrationError) -> dict[str, Any]:
    return {
        "expected": found.expected.value,
        "expected_interval": list(found.expected.interval),
        "expected_truncation": list(found.expected.truncation),
        "squared": found.squared.value,
        "squared_interval": list(found.squared.interval),
        "squared_truncation": list(found.squared.truncation),
        "plug_in": found.plug_in,
        "pvalue": found.pvalue,
        "bins": {
            "mean_confidence": found.table.mean_confidence.tolist(),
            "accuracy": found.table.accuracy.tolist(),
            "counts": found.table.counts.tolist(),
        },
    }


def _recalibrated(sums: np.ndarray, scores: SecondaryScores) -> dict[str, Any]:
    """Mean lumped loss with every document at the temperature of its fold, and at T = 1; `sums` (13, D)."""
    assert scores.folds is not None
    places = cross_fitted(sums, scores.folds.of_document)
    chosen = np.array([places[fold] for fold in scores.folds.of_document.tolist()])
    n = int(scores.offsets[-1])
    return {
        "log_loss_nats": float(np.take_along_axis(sums, chosen[None], axis=0).sum() / n),
        "at_temperature_1_nats": float(sums[TEMPERATURES.index(1.0)].sum() / n),
        "temperatures": [TEMPERATURES[places[fold]] for fold in sorted(places)],
    }


def _brier_contrasts(scores: SecondaryScores, evaluation: EvaluationConfig, rng: np.random.Generator) -> dict[str, Any]:
    references = [name for name in scores.tuned if name != CANDIDATE_RULE and scores.defined(name)]
    n_documents = scores.offsets.size - 1
    if not scores.defined(CANDIDATE_RULE) or not references or n_documents < 2:
        return {}
    lower, upper = scores.sums(CANDIDATE_RULE)[BRIER]
    theirs = np.stack([scores.sums(name)[BRIER] for name in references], axis=-1)
    made = contrasts(
        references,
        np.stack([lower[:, None] - theirs[1], upper[:, None] - theirs[0]]),
        np.diff(scores.offsets),
        rivals=[False] * len(references),
        confidence_level=evaluation.confidence_level,
        n_resamples=evaluation.n_resamples,
        rng=rng,
    )
    return {
        found.reference: {
            "difference": found.difference_nats,
            "interval": list(found.interval),
            "truncation": list(found.truncation),
            "pvalue": found.pvalue_adjusted,
        }
        for found in made
    }
