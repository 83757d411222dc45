"""The whole Phase Coherence Test on one sample: residuals by the shipped regressor, negative control, verdict."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from brf_exp.config import ClaimsConfig
from brf_exp.maths.coherence import CoherenceResult
from brf_exp.maths.decisions import Gates
from brf_exp.maths.difficulty import survives
from brf_exp.maths.documents import assign_folds, positions_within
from brf_exp.stages.covariates import Covariates, FeatureArray
from brf_exp.stages.phase_test import Gaps, MapResult, PhaseTest, Residuals, gaps_in_memory, residuals
from brf_exp.storage.scratch import Scratch
from calibration.components import EVALUATION
from calibration.designs import Sample

DELTA = ClaimsConfig().delta
ALPHA = 0.05


def phase_test(n_documents: int, seed: int) -> PhaseTest:
    """The shipped decision with its planted controls taken as passed."""
    gates = Gates(n_documents, EVALUATION.min_documents)
    return PhaseTest(gates, DELTA, False, EVALUATION, seed)


def covariates_of(sample: Sample, seed: int) -> Covariates:
    """Position and proxy, with documents dealt to folds."""
    folds = assign_folds([f"document-{d}" for d in range(sample.n_documents)], EVALUATION.n_folds, seed)
    features = np.column_stack([positions_within(sample.offsets), sample.proxy])
    return Covariates(FeatureArray(features, sample.offsets), [False, False], folds)


def outcomes(
    gaps: Gaps, covariates: Sequence[Covariates], phases: Sequence[str], seed: int, *, always_residual: bool
) -> dict[str, Any]:
    """Verdict, intervals and p-values of the whole procedure for several maps, as `<map>.<number>`.

    Where P1 does not reject under any of the maps, `supported` is impossible: unless `always_residual`, the regressor
    is left out then and the verdicts are those of P1 alone.
    """
    test = phase_test(gaps.offsets.size - 1, seed)
    results, left = {phase: test.run(phase, gaps, None, negative_control=0.0) for phase in phases}, None
    if always_residual or any(is_dependent(result.plain) for result in results.values()):
        left = residuals(gaps, covariates, EVALUATION, Scratch.in_memory(), seed=seed)
        results = {phase: test.run(phase, gaps, left) for phase in phases}
    return {f"{phase}.{key}": value for phase, result in results.items() for key, value in record(result, left).items()}


def is_dependent(plain: CoherenceResult | None) -> bool:
    """P1: both nulls reject, and kappa is positive."""
    assert plain is not None
    return plain.pvalue < ALPHA and plain.excess > 0


def simulated_outcomes(
    sample: Sample, phases: Sequence[str], rng: np.random.Generator, *, always_residual: bool = True
) -> dict[str, Any]:
    """`outcomes` on a simulated sample, whose models see the same covariates."""
    seed = int(rng.integers(2**31))
    covariates = covariates_of(sample, seed)
    gaps = gaps_in_memory(sample.gaps, sample.offsets, seed=seed)
    return outcomes(gaps, [covariates, covariates], phases, seed, always_residual=always_residual)


def record(result: MapResult, left: Residuals | None) -> dict[str, Any]:
    """The numbers that rates, coverage and planning are made of; None where there is no residual test."""
    plain, residual = result.plain, result.residual
    assert plain is not None
    found: dict[str, Any] = {
        "verdict": result.verdict.verdict,
        "reason": result.verdict.reason,
        "dependent": is_dependent(plain),
        "shift": plain.shift.pvalue,
        "repairing": plain.repairing.pvalue,
        "negative_control": result.negative_control_rate,
        "rank_correlation": left.rank_correlation.pvalue if left else None,
        "survives": survives(left.reliability) if left else None,
    }
    return found | _share("plain", plain) | _share("residual", residual)


def _share(name: str, result: CoherenceResult | None) -> dict[str, Any]:
    """Share of the possible excess, its interval and standard error, and p of 0."""
    keys = ("share", "lower", "upper", "standard_error", "pvalue", "n_positions")
    values: Sequence[Any] = [None] * len(keys)
    if result is not None:
        error = result.test.standard_error / result.possible
        values = (
            result.excess / result.possible,
            *result.share_interval,
            error,
            result.test.pvalue,
            result.pairing.n,
        )
    return {f"{name}_{key}": value for key, value in zip(keys, values, strict=True)}
