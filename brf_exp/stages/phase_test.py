"""The Phase Coherence Test on gaps and covariates in memory: what `coherence` and its planted worlds both run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from brf_exp.config import EvaluationConfig
from brf_exp.maths import circular
from brf_exp.maths.coherence import CoherenceResult, coherence, rejects_at, share_lower_ends
from brf_exp.maths.decisions import CoherenceEvidence, Gates, Verdict, coherence_verdict
from brf_exp.maths.difficulty import (
    ReliabilityPoint,
    partial_rank_correlation,
    reliability_curve,
    residual_gaps,
    residual_scores,
    survives,
)
from brf_exp.maths.documents import Offsets
from brf_exp.maths.pairing import PairTable
from brf_exp.maths.phases import PhaseTable, normal_scores, phases, pooled_median
from brf_exp.maths.resampling import RatioTest, holm
from brf_exp.stages.covariates import cross_fitted_prediction

ALPHA = 0.05


@dataclass(frozen=True)
class Covariates:
    """Features (n, F) of each position, which are categories, and the fold of each document."""

    features: np.ndarray
    categorical: list[bool]
    folds: np.ndarray


@dataclass(frozen=True)
class Residuals:
    """What is left of the gaps beyond shared difficulty, and how far the proxy must be trusted."""

    gaps: np.ndarray
    rank_correlation: RatioTest
    reliability: list[ReliabilityPoint]


@dataclass(frozen=True)
class MapResult:
    """One phase map: descriptive statistics, the test, and the test on residual phases."""

    name: str
    scale: float | None
    phases_rad: np.ndarray
    rayleigh: circular.RayleighResult
    harmonics: np.ndarray
    v_pvalue: float
    plain: CoherenceResult
    residual: CoherenceResult | None
    negative_control_rate: float
    verdict: Verdict


def residuals(
    gaps: np.ndarray, covariates: Covariates, offsets: Offsets, evaluation: EvaluationConfig, *, seed: int
) -> Residuals:
    """Residual gaps of both models (2, n): each is residualised on its own, before any re-pairing."""
    rng = np.random.default_rng([seed, 11])
    scores = np.stack([normal_scores(row, np.random.default_rng([seed, 12, m])) for m, row in enumerate(gaps)])
    predictions = np.stack(
        [
            cross_fitted_prediction(
                row, covariates.features, covariates.categorical, offsets, covariates.folds, seed=seed
            )
            for row in scores
        ]
    )
    settings: dict[str, Any] = {
        "confidence_level": evaluation.confidence_level,
        "n_resamples": evaluation.n_resamples,
        "rng": rng,
    }
    triples = list(zip(gaps, scores, predictions, strict=True))
    left = np.stack([residual_scores(score, prediction, offsets) for _, score, prediction in triples])
    return Residuals(
        np.stack([residual_gaps(gap, score, prediction, offsets) for gap, score, prediction in triples]),
        partial_rank_correlation(left, offsets, **settings),
        reliability_curve(scores, predictions, offsets, **settings),
    )


def phases_of(name: str, gaps: np.ndarray, scale: float | None, table: PhaseTable | None, seed: int) -> np.ndarray:
    """Phases of both models (2, n); each model breaks its ties with a Generator of its own."""
    return np.stack(
        [
            phases(name, row, scale=scale, rng=np.random.default_rng([seed, 21, model]), table=table)
            for model, row in enumerate(gaps)
        ]
    )


def scale_of(name: str, gaps: np.ndarray, scale: float | None) -> float | None:
    """The scale a map is used with: the one set, else the pooled median gap; None for maps without one."""
    if name in ("quantile", "table"):
        return None
    return scale if scale is not None else pooled_median(list(gaps))


def _test(
    phi: np.ndarray, offsets: Offsets, evaluation: EvaluationConfig, seed: list[int]
) -> tuple[CoherenceResult, PairTable, np.ndarray]:
    z = np.exp(1j * phi)
    return coherence(
        z[0],
        z[1],
        offsets,
        n_repairings=evaluation.n_repairings,
        confidence_level=evaluation.confidence_level,
        n_resamples=evaluation.n_resamples,
        rng=np.random.default_rng(seed),
    )


def _residual_test(
    phi: np.ndarray, offsets: Offsets, evaluation: EvaluationConfig, seed: list[int], *, delta: float
) -> tuple[CoherenceResult, np.ndarray]:
    """The test on residual phases; and for each negative control, whether its lower end would be above delta."""
    residual, pairs, columns = _test(phi, offsets, evaluation, seed)
    ends = share_lower_ends(
        pairs,
        columns[: evaluation.n_negative_controls],
        repairing_mean=residual.repairing.mean,
        possible=1 - residual.resultant_length_independent,
        confidence_level=evaluation.confidence_level,
    )
    return residual, ends > delta


def run_map(
    name: str,
    gaps: np.ndarray,
    offsets: Offsets,
    left: Residuals | None,
    *,
    scale: float | None,
    table: PhaseTable | None,
    gates: Gates,
    delta: float,
    pseudo_documents: bool,
    evaluation: EvaluationConfig,
    seed: int,
) -> MapResult:
    """The whole procedure for one phase map. Raises ValueError where a statistic is not defined."""
    scale = scale_of(name, gaps, scale)
    phi = phases_of(name, gaps, scale, table, seed)
    plain, pairs, columns = _test(phi, offsets, evaluation, [seed, 31])
    positive = rejects_at(pairs, columns[: evaluation.n_negative_controls], plain.repairing, alpha=ALPHA)
    residual = None
    if left is not None:
        phi_left = phases_of(name, left.gaps, scale, table, seed)
        residual, beyond = _residual_test(phi_left, offsets, evaluation, [seed, 31], delta=delta)
        positive &= beyond
    difference = phi[0] - phi[1]
    rate = float(positive.mean())
    evidence = CoherenceEvidence(
        excess=plain.excess,
        shift_pvalue=plain.shift.pvalue,
        repairing_pvalue=plain.repairing.pvalue,
        share_interval=plain.share_interval,
        residual_interval=residual.share_interval if residual else None,
        survives_reliability=survives(left.reliability) if left else None,
        negative_control_rate=rate,
        delta=delta,
        alpha=ALPHA,
        pseudo_documents=pseudo_documents,
    )
    return MapResult(
        name=name,
        scale=scale,
        phases_rad=phi,
        rayleigh=circular.rayleigh(difference),
        harmonics=circular.harmonic_lengths(difference),
        v_pvalue=circular.v_test_pvalue(difference),
        plain=plain,
        residual=residual,
        negative_control_rate=rate,
        verdict=coherence_verdict(gates, evidence),
    )


def is_robust(results: list[MapResult]) -> bool:
    """Do all maps give the primary map's verdict (the first), and its rejection survive Holm's correction?"""
    if len({result.verdict.verdict for result in results}) > 1:
        return False
    if results[0].verdict.verdict != "supported":
        return True
    adjusted = holm(np.array([result.plain.pvalue for result in results]))
    return bool((adjusted < ALPHA).all())
