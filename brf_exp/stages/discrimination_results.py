"""What stage `discriminate` writes to results.json."""

from dataclasses import asdict
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths.decisions import least_gain
from brf_exp.maths.resampling import effective_df
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.recapture import Recapture
from brf_exp.stages.rule_gates import Ground
from brf_exp.stages.rule_scores import RuleScores, plain
from brf_exp.stages.rule_test import MapVerdict, RuleSettings, RuleTestResult, detectable_against_best
from brf_exp.stages.secondary_results import secondary_summary
from brf_exp.stages.sentences import discrimination_sentence, scope
from brf_exp.stages.subject import tested_subject

DISCRIMINATION_SCHEMA = 5


def discrimination_summary(
    inputs: PairInputs,
    config: AnalysisStageConfig,
    settings: RuleSettings,
    result: RuleTestResult,
    ground: Ground,
    agreement: dict[str, Any],
    *,
    controls: dict[str, Any] | None,
    again: Recapture,
) -> dict[str, Any]:
    """The content of results.json."""
    primary, evaluation, scores = result.primary, config.evaluation, result.scores
    verdict = primary.verdict
    where = scope(inputs.name, inputs.corpus_name, config.phase.name)
    return {
        **_what_was_tested(inputs, scores),
        "split": {"kind": evaluation.split, "n_folds": evaluation.n_folds, "tune": ground.folds is not None},
        "k": min(capture.k for capture in inputs.captures),
        "temperatures": list(settings.temperatures),
        "phase_scope": config.phase.scope,
        "bhattacharyya": scores.overlap().tolist(),
        "rules": {name: _rule_summary(name, scores) for name in scores.tuned},
        "contrasts": _contrast_summaries(primary, evaluation.delta_nats),
        "maps": {made.map: _map_summary(made, evaluation.delta_nats) for made in result.maps},
        "adjustment": "max_t",
        **scores.below_minimum.summary(evaluation, np.random.default_rng([config.seed, 112])),
        "agreement": {"negative_share_tuned": result.tables.n_negative_tuned / scores.n, **agreement},
        "interference": _interference(result),
        "attribution": _attribution(primary, evaluation.delta_nats),
        "auc": result.aucs.summary(evaluation, np.random.default_rng([config.seed, 113])),
        "secondary": secondary_summary(result.secondary, evaluation, np.random.default_rng([config.seed, 121])),
        "noise_floor": _noise_floor(result, again),
        "noise_floor_reason": again.reason,
        "deciding_k": result.deciding and asdict(result.deciding),
        "gates": asdict(settings.gates),
        "controls": controls,
        "delta_nats": evaluation.delta_nats,
        "confidence_level": evaluation.confidence_level,
        "minimum_detectable_nats": detectable_against_best(result),
        "scale_from": ground.scale_from,
        "primary": config.phase.name,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "sentence": discrimination_sentence(verdict, where),
        "robust": len({made.verdict.verdict for made in result.maps}) == 1,
    }


def _what_was_tested(inputs: PairInputs, scores: RuleScores) -> dict[str, Any]:
    return {
        "schema": 1,
        "stage": "discrimination",
        "pair": inputs.name,
        "corpus": inputs.corpus_name,
        "models": [capture.model_name for capture in inputs.captures],
        "tested": tested_subject(inputs),
        "n_positions": scores.n,
        "n_documents": int(scores.offsets.size - 1),
        "effective_df": effective_df(np.diff(scores.offsets)) if scores.offsets.size > 2 else None,
    }


def _rule_summary(name: str, scores: RuleScores) -> dict[str, Any]:
    tuned, n_undefined = scores.tuned[name], scores.n_undefined[name]
    parameters = [dict(found) for found in tuned.listed]
    return {
        "role": tuned.spec.role,
        "log_loss_nats": None if n_undefined else plain(scores.mean_loss(name)),
        "n_undefined": n_undefined,
        "accuracy": _interval(scores.accuracy(name)),
        "parameters": parameters[0] if len(parameters) == 1 else {"folds": parameters},
    }


def _interval(ends: np.ndarray | None) -> list[float] | float | None:
    """One number where both ends are equal."""
    if ends is None:
        return None
    lower, upper = ends.tolist()
    return lower if lower == upper else [lower, upper]


def _contrast_summaries(made: MapVerdict, delta_nats: float) -> dict[str, Any]:
    """By reference: the contrast, its noise floor where there is one, and the least gain that counts."""
    found = {}
    for contrast in made.contrasts:
        floor = made.noise_floors.get(contrast.reference)
        numbers = {name: value for name, value in asdict(contrast).items() if name != "reference"}
        found[contrast.reference] = numbers | {
            "noise_floor_nats": floor,
            "least_gain_nats": least_gain(delta_nats, floor),
        }
    return found


def _map_summary(made: MapVerdict, delta_nats: float) -> dict[str, Any]:
    return {
        "rule": made.rule,
        "verdict": made.verdict.verdict,
        "reason": made.verdict.reason,
        "contrasts": _contrast_summaries(made, delta_nats),
    }


def _noise_floor(result: RuleTestResult, again: Recapture) -> dict[str, Any] | None:
    """How the second capture was made, and the largest noise floor of a contrast of the primary map."""
    if again.inputs is None:
        return None
    settings = again.inputs.captures[0].manifest.get("determines", {}).get("capture", {})
    return {
        "largest_nats": max(result.primary.noise_floors.values(), default=None),
        "n_positions": result.n_positions_again,
        "dtype": settings.get("dtype"),
        "batch_tokens": settings.get("batch_tokens"),
    }


def _interference(result: RuleTestResult) -> dict[str, Any]:
    """Coherent Gain, the mean gain over the linear pool, and Interference Information, the divergence from it."""
    tables, n = result.tables, result.scores.n
    gain = next((c for c in result.primary.contrasts if c.reference == "linear"), None)
    return {
        "coherent_gain_nats": None if gain is None else -gain.difference_nats,
        "coherent_gain_interval": None if gain is None else [-gain.interval[1], -gain.interval[0]],
        "interference_information_nats": plain(tables.information.sum(axis=1) / n) if tables.has_information else None,
    }


def _attribution(primary: MapVerdict, delta_nats: float) -> dict[str, Any] | None:
    """Is Born Rule Fusion no worse than a learned function of the gaps? One-sided, by the least gain that counts."""
    gate = next((contrast for contrast in primary.contrasts if contrast.reference == "gate"), None)
    if gate is None:
        return None
    return {
        "difference_nats": gate.difference_nats,
        "upper_one_sided": gate.upper_one_sided,
        "not_worse": gate.upper_one_sided < least_gain(delta_nats, primary.noise_floors.get("gate")),
    }
