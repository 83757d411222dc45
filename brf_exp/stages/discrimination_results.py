"""What stage `discriminate` writes to results.json."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths.discrimination import Contrast
from brf_exp.maths.resampling import ratio_test
from brf_exp.maths.specs import RIVAL
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.rule_scores import RuleScores, plain
from brf_exp.stages.rule_test import MapVerdict, RuleSettings, RuleTestResult, detectable_against_best
from brf_exp.stages.sentences import discrimination_sentence, scope

DISCRIMINATION_SCHEMA = 2


def discrimination_summary(
    inputs: PairInputs,
    config: AnalysisStageConfig,
    settings: RuleSettings,
    result: RuleTestResult,
    *,
    controls: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of results.json."""
    primary, evaluation, scores = result.primary, config.evaluation, result.scores
    verdict = primary.verdict
    where = scope(inputs.name, inputs.corpus_name, config.phase.name)
    return {
        "schema": 1,
        "stage": "discrimination",
        "pair": inputs.name,
        "corpus": inputs.corpus_name,
        "models": [capture.model_name for capture in inputs.captures],
        "n_positions": scores.n,
        "n_documents": int(scores.offsets.size - 1),
        "split": {"kind": evaluation.split, "n_folds": evaluation.n_folds, "tune": evaluation.tune},
        "k": min(capture.k for capture in inputs.captures),
        "temperatures": list(settings.temperatures),
        "phase_scope": config.phase.scope,
        "bhattacharyya": scores.overlap().tolist(),
        "rules": {name: _rule_summary(name, scores) for name in scores.tuned},
        "contrasts": _contrast_summaries(primary),
        "maps": {made.map: _map_summary(made) for made in result.maps},
        "adjustment": "max_t",
        **_below_minimum(scores),
        "agreement": _agreement(result, config),
        "interference": _interference(result),
        "attribution": _attribution(primary, evaluation.delta_nats),
        "auc": {},
        "noise_floor": None,
        "gates": asdict(settings.gates),
        "controls": controls,
        "delta_nats": evaluation.delta_nats,
        "minimum_detectable_nats": detectable_against_best(result),
        "scale_from": "setting" if config.phase.scale is not None else "documents",
        "primary": config.phase.name,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "sentence": discrimination_sentence(verdict, where),
        "robust": len({made.verdict.verdict for made in result.maps}) == 1,
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


def _contrast_summaries(made: MapVerdict) -> dict[str, Any]:
    return {contrast.reference: _contrast_summary(contrast) for contrast in made.contrasts}


def _contrast_summary(contrast: Contrast) -> dict[str, Any]:
    return {name: value for name, value in asdict(contrast).items() if name != "reference"}


def _map_summary(made: MapVerdict) -> dict[str, Any]:
    return {
        "rule": made.rule,
        "verdict": made.verdict.verdict,
        "reason": made.verdict.reason,
        "contrasts": _contrast_summaries(made),
    }


def _below_minimum(scores: RuleScores) -> dict[str, Any]:
    """How often the realised token ends up below all models, and how often under each phase control."""
    surely, middle, possibly = scores.below("brf").tolist()
    controls = {name: float(scores.below(name)[1]) for name in scores.with_phases if _is_rival(scores, name)}
    return {
        "below_minimum_rate": middle,
        "below_minimum_interval": [surely, possibly],
        "below_minimum_controls": controls,
    }


def _is_rival(scores: RuleScores, name: str) -> bool:
    return scores.tuned[name].spec.role == RIVAL


def _agreement(result: RuleTestResult, config: AnalysisStageConfig) -> dict[str, Any]:
    """Share of positions with cos < 0, where agreement is suppressed, with its document-level interval.

    At the map's own scale (the one set, else the pooled median gap). Tuning may shrink the phases to almost
    nothing, so the share at the tuned scales is shown beside it.
    """
    tables, n = result.tables, result.scores.n
    lengths = np.diff(result.scores.offsets)
    share = float(tables.negative.sum() / n)
    shares = {"negative_share": share, "negative_share_tuned": tables.n_negative_tuned / n}
    if lengths.size < 2 or share in (0.0, 1.0):
        return {**shares, "interval": None}
    test = ratio_test(
        tables.negative,
        lengths,
        confidence_level=config.evaluation.confidence_level,
        n_resamples=config.evaluation.n_resamples,
        rng=np.random.default_rng([config.seed, 111]),
    )
    return {**shares, "interval": list(test.interval)}


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
    """Is Born Rule Fusion no worse than a learned function of the gaps? One-sided, margin delta."""
    gate: Mapping[str, Any] | None = None
    for contrast in primary.contrasts:
        if contrast.reference == "gate":
            gate = _contrast_summary(contrast)
    if gate is None:
        return None
    return {
        "difference_nats": gate["difference_nats"],
        "upper_one_sided": gate["upper_one_sided"],
        "not_worse": gate["upper_one_sided"] < delta_nats,
    }
