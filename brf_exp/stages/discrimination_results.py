"""What stage `discriminate` writes: results.json and the tables that figures and notebooks read."""

from dataclasses import asdict
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths.decisions import Gates
from brf_exp.maths.discrimination import Contrast, below_minimum
from brf_exp.maths.distribution import gap_distribution, scale_of
from brf_exp.maths.documents import document_sums, positions_within
from brf_exp.maths.fusion import mixture_share
from brf_exp.maths.resampling import ratio_test
from brf_exp.maths.topk_rules import coherent_losses
from brf_exp.maths.tuning import PairRows, ScoredRule, coherence_of
from brf_exp.stages.accuracy import accuracies
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.rule_test import MapVerdict, RuleTestResult, detectable_against_best
from brf_exp.stages.sentences import discrimination_sentence, scope

DISCRIMINATION_SCHEMA = 1
CURVE = np.linspace(-0.99, 1.0, 41)


def discrimination_summary(
    inputs: PairInputs,
    config: AnalysisStageConfig,
    rows: PairRows,
    result: RuleTestResult,
    *,
    gates: Gates,
    controls: dict[str, Any] | None,
    folds: np.ndarray | None,
) -> dict[str, Any]:
    """The content of results.json."""
    primary, evaluation = result.primary, config.evaluation
    verdict = primary.verdict
    accuracy = accuracies(rows, result.scored, result.coherences, folds)
    where = scope(inputs.name, inputs.corpus_name, config.phase.name)
    return {
        "schema": DISCRIMINATION_SCHEMA,
        "stage": "discrimination",
        "pair": inputs.name,
        "corpus": inputs.corpus_name,
        "models": [capture.model_name for capture in inputs.captures],
        "n_positions": int(rows.offsets[-1]),
        "n_documents": int(rows.offsets.size - 1),
        "split": {"kind": evaluation.split, "n_folds": evaluation.n_folds, "tune": evaluation.tune},
        "k": min(capture.k for capture in inputs.captures),
        "bhattacharyya": rows.known.overlap.mean(axis=1),
        "rules": {name: _rule_summary(scored, accuracy[name]) for name, scored in result.scored.items()},
        "contrasts": _contrast_summaries(primary),
        "maps": {made.map: _map_summary(made) for made in result.maps},
        "adjustment": "max_t",
        **_below_minimum(rows, result),
        "agreement": _agreement(rows, result, config),
        "auc": {},
        "noise_floor": None,
        "gates": asdict(gates),
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


def _rule_summary(scored: ScoredRule, accuracy: list[float] | float | None) -> dict[str, Any]:
    n_undefined = int(scored.losses.undefined.sum())
    one = len(scored.parameters) == 1
    return {
        "role": scored.spec.role,
        "log_loss_nats": None if n_undefined else scored.losses.bounds.mean(axis=1),
        "n_undefined": n_undefined,
        "accuracy": accuracy,
        "parameters": scored.parameters[0] if one else {"folds": list(scored.parameters)},
    }


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


def _below_minimum(rows: PairRows, result: RuleTestResult) -> dict[str, Any]:
    """How often the realised token ends up below both models, and how often under each phase control."""
    surely, middle, possibly = below_minimum(rows.known, result.scored["brf"]).mean(axis=1).tolist()
    controls = {
        name: float(below_minimum(rows.known, scored)[1].mean())
        for name, scored in result.scored.items()
        if scored.spec.coherence is not None and scored.spec.role == "rival"
    }
    return {
        "below_minimum_rate": middle,
        "below_minimum_interval": [surely, possibly],
        "below_minimum_controls": controls,
    }


def _agreement(rows: PairRows, result: RuleTestResult, config: AnalysisStageConfig) -> dict[str, Any]:
    """Share of positions with cos < 0, where agreement is suppressed, with its document-level interval.

    At the map's own scale (the one set, else the pooled median gap). Tuning may shrink the phases to almost
    nothing, so the share at the tuned scales is shown beside it.
    """
    negative = (_own_scale_coherence(rows, config) < 0).astype(np.float64)
    lengths = np.diff(rows.offsets)
    share = float(negative.mean())
    shares = {"negative_share": share, "negative_share_tuned": float((result.coherences["brf"] < 0).mean())}
    if lengths.size < 2 or share in (0.0, 1.0):
        return {**shares, "interval": None}
    test = ratio_test(
        document_sums(negative, rows.offsets),
        lengths,
        confidence_level=config.evaluation.confidence_level,
        n_resamples=config.evaluation.n_resamples,
        rng=np.random.default_rng([config.seed, 111]),
    )
    return {**shares, "interval": list(test.interval)}


def _own_scale_coherence(rows: PairRows, config: AnalysisStageConfig) -> np.ndarray:
    distributions = [gap_distribution([row]) for row in rows.gaps]
    return coherence_of(rows, config.phase.name, scale_of(config.phase.name, config.phase.scale, distributions))


def discrimination_tables(
    rows: PairRows, result: RuleTestResult, config: AnalysisStageConfig
) -> dict[str, dict[str, Any]]:
    """Per position: what Born Rule Fusion is made of there; and the loss of constant coherence along c."""
    known, brf = rows.known, result.scored["brf"]
    middle = known.overlap.mean(axis=0)
    coherence = result.coherences["brf"]
    positions = {
        "document": np.repeat(np.arange(rows.offsets.size - 1, dtype=np.int32), np.diff(rows.offsets)),
        "position": positions_within(rows.offsets).astype(np.int32),
        "token_id": known.shared_ids[:, 0].astype(np.int32),
        "log_p_a": known.target[0],
        "log_p_b": known.target[1],
        "coherence": coherence,
        "own_scale_coherence": _own_scale_coherence(rows, config),
        "overlap_lower": known.overlap[0],
        "overlap_upper": known.overlap[1],
        "mixture_share": mixture_share(coherence, middle),
    }
    for name in ("brf", "linear", "log_linear", "constant_coherence"):
        positions[f"loss_{name}_nats"] = result.scored[name].losses.middle
    positions["loss_brf_lower_nats"], positions["loss_brf_upper_nats"] = brf.losses.bounds
    weight = float(np.mean([p["weight"] for p in result.scored["constant_coherence"].parameters]))
    curve = [coherent_losses(known, coherence=float(c), weight=weight).bounds.mean(axis=1) for c in CURVE]
    return {
        "positions": positions,
        "coherence_curve": {
            "coherence": CURVE,
            "log_loss_lower_nats": np.array([ends[0] for ends in curve]),
            "log_loss_upper_nats": np.array([ends[1] for ends in curve]),
        },
    }
