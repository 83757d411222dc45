"""p-values of every test that the Phase Coherence Test is made of, and of tests that must fail, on one sample."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from brf_exp.config import EvaluationConfig
from brf_exp.maths.circular import rayleigh_of_mean
from brf_exp.maths.coherence import CoherenceResult, coherence
from brf_exp.maths.documents import Offsets
from brf_exp.maths.kuramoto import kuramoto
from brf_exp.maths.pairing import true_pairing
from brf_exp.maths.phases import Phasors
from brf_exp.maths.resampling import coefficient_of_variation, ratio_test
from brf_exp.maths.secondary import document_permutation, harmonics, sign_flip_pvalue
from brf_exp.stages.phase_test import gaps_in_memory
from calibration.designs import RAGGED, Sample
from calibration.invalid import padded_document_permutation, stratified_permutation

EVALUATION = EvaluationConfig(n_repairings=199, n_resamples=499, n_negative_controls=200)
N_STRATA = 20
ALL = slice(None)


def phasors_of(sample: Sample, phase: str, rng: np.random.Generator) -> list[Phasors]:
    """exp(i phi) of every model under a map at the default scale."""
    gaps = gaps_in_memory(sample.gaps, sample.offsets, seed=int(rng.integers(2**31)))
    scale = gaps.scale_of(phase, None)
    return [Phasors(phase, row, scale) for row in (gaps.ranks if phase == "quantile" else gaps.values)]


def component_pvalues(sample: Sample, phase: str, rng: np.random.Generator) -> dict[str, float]:
    """p-values by test.

    `kappa`: document test of kappa against 0; `kappa_recentred`: against its mean over re-pairings, whose interval
    the verdicts use; `dependent`: the larger p of both nulls where kappa is positive, which is P1.
    """
    first, second = phasors_of(sample, phase, rng)
    offsets = sample.offsets
    result, _ = coherence(
        first,
        second,
        offsets,
        n_repairings=EVALUATION.n_repairings,
        confidence_level=EVALUATION.confidence_level,
        n_resamples=EVALUATION.n_resamples,
        rng=rng,
        shift_moments=False,
    )
    return {
        "kappa_recentred": result.test.pvalue,
        "shift": result.shift.pvalue,
        "repairing": result.repairing.pvalue,
        "dependent": result.pvalue if result.excess > 0 else 1.0,
        "rayleigh": rayleigh_of_mean(result.pairing.n, result.pairing.mean).pvalue,
        **_document_level(result, rng),
        **_harmonics(first, second, offsets),
        **_permutations(first, second, sample, rng),
    }


def _document_level(result: CoherenceResult, rng: np.random.Generator) -> dict[str, float]:
    pairing = result.pairing
    against_zero = ratio_test(
        pairing.excess.real,
        pairing.lengths,
        confidence_level=EVALUATION.confidence_level,
        n_resamples=EVALUATION.n_resamples,
        rng=rng,
    )
    mean, n_resamples = result.repairing.mean, EVALUATION.n_resamples
    variance = result.repairing.mean_variance()
    flip = sign_flip_pvalue(pairing, null_value=mean, null_variance=variance, n_resamples=n_resamples, rng=rng)
    return {"kappa": against_zero.pvalue, "sign_flip": flip}


def _harmonics(first: Phasors, second: Phasors, offsets: Offsets) -> dict[str, float]:
    found = harmonics(first, second, offsets)
    each = {f"harmonic_{harmonic.order}": harmonic.pvalue for harmonic in found if harmonic.pvalue is not None}
    return {**each, "harmonics_holm": min(h.pvalue_adjusted for h in found if h.pvalue_adjusted is not None)}


def _permutations(first: Phasors, second: Phasors, sample: Sample, rng: np.random.Generator) -> dict[str, float]:
    """The permutation of documents where it is valid, and permutations that are not."""
    z1, z2, offsets = first[ALL], second[ALL], sample.offsets
    found = {"stratified": stratified_permutation(z1, z2, sample.proxy, n_strata=N_STRATA)}
    if coefficient_of_variation(np.diff(offsets)) > RAGGED:
        return {**found, "padded_permutation": padded_document_permutation(z1, z2, offsets)}
    return {**found, "document_permutation": document_permutation(first, second, offsets).pvalue}


def kuramoto_pvalue(sample: Sample, phase: str, rng: np.random.Generator) -> float:
    """p of the order of several models' phases against independent circular shifts of each."""
    rows = phasors_of(sample, phase, rng)
    result = kuramoto(
        rows,
        [true_pairing(*pair, sample.offsets) for pair in combinations(rows, 2)],
        sample.offsets,
        n_shifts=1,
        confidence_level=EVALUATION.confidence_level,
        n_resamples=EVALUATION.n_resamples,
        rng=rng,
    )
    return result.shift_pvalue


def rejection_rates(pvalues: Sequence[dict[str, float]], *, alpha: float = 0.05) -> dict[str, float]:
    """Share of simulations in which each test rejects."""
    return {name: float(np.mean([row[name] < alpha for row in pvalues])) for name in pvalues[0]}
