"""Kuramoto order of M models' phases, |mean_i exp(i phi_i)| per position, against circularly shifted phases.

r^2 = 1/M + (2 / M^2) sum_{i<j} cos(phi_i - phi_j): its excess over shifted phases is the sum of the pairs' excess
cosines, exactly. Under independent shifts of every model the pairs' sums are uncorrelated (each depends on a
difference of two shifts), so that the variance of the sum is the sum of their variances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.coherence import TINY_VARIANCE
from brf_exp.maths.documents import Offsets, document_chunks, document_sums
from brf_exp.maths.pairing import MatchedPairing, Rows
from brf_exp.maths.phases import circular_shift
from brf_exp.maths.resampling import RatioTest, ratio_test
from brf_exp.maths.undefined import UndefinedStatisticError

N_BINS = 50


@dataclass(frozen=True)
class KuramotoResult:
    """Order parameter r per position: mean, its mean under shifts, and the test of the excess of r^2.

    `counts`, `shifted_counts` (50,): positions by r in equal bins of [0, 1], the latter averaged over the draws.
    """

    mean: float
    shifted_mean: float
    n_shifts: int
    excess_squared: RatioTest
    shift_pvalue: float
    counts: np.ndarray
    shifted_counts: np.ndarray


def kuramoto(
    phasors: Sequence[Rows],
    pairings: Sequence[MatchedPairing],
    offsets: Offsets,
    *,
    n_shifts: int,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> KuramotoResult:
    """Order parameter of M >= 2 models against independent circular shifts of each within documents.

    Parameters: `phasors` one row of exp(i phi) per model; `pairings` of all pairs of them, in any order.
    The mean of r under shifts is drawn `n_shifts` times; the test of r^2 has a closed form (one-sided normal) beside
    the document-level interval. Raises UndefinedStatisticError where the phases do not vary.
    """
    factor = 2.0 / len(phasors) ** 2
    sums = factor * np.sum([pairing.excess.real for pairing in pairings], axis=0)
    variance = factor**2 * sum(float(pairing.shift_covariance[:, 0].sum()) for pairing in pairings)
    if not variance > TINY_VARIANCE * int(offsets[-1]):
        raise UndefinedStatisticError("constant phases")
    test = ratio_test(sums, np.diff(offsets), confidence_level=confidence_level, n_resamples=n_resamples, rng=rng)
    observed, shifted = _histograms(phasors, offsets, n_shifts, rng)
    n = int(offsets[-1])
    return KuramotoResult(
        mean=observed.total / n,
        shifted_mean=shifted.total / (n * n_shifts),
        n_shifts=n_shifts,
        excess_squared=test,
        shift_pvalue=float(stats.norm.sf(sums.sum() / np.sqrt(variance))),
        counts=observed.counts,
        shifted_counts=shifted.counts / n_shifts,
    )


class _Histogram:
    """Sum and histogram of values in [0, 1] that come in pieces of whole documents."""

    def __init__(self, n_documents: int) -> None:
        self.sums, self.counts = np.zeros(n_documents), np.zeros(N_BINS)

    @property
    def total(self) -> float:
        return float(self.sums.sum())

    def add(self, values: np.ndarray, documents: slice, offsets: Offsets) -> None:
        # By document, so that the cut into pieces does not show in the last digit of the sum.
        self.sums[documents] += document_sums(values, offsets)
        self.counts += np.histogram(np.clip(values, 0, 1), bins=N_BINS, range=(0, 1))[0]


def _histograms(
    phasors: Sequence[Rows], offsets: Offsets, n_shifts: int, rng: np.random.Generator
) -> tuple[_Histogram, _Histogram]:
    """r as observed, and under `n_shifts` draws of shifts, each model of each draw with a Generator of its own.

    So the cut into chunks makes no difference to what is drawn.
    """
    observed, shifted = _Histogram(offsets.size - 1), _Histogram(offsets.size - 1)
    generators = [rng.spawn(len(phasors)) for _ in range(n_shifts)]
    for documents in document_chunks(offsets):
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        within = offsets[documents.start : documents.stop + 1] - rows.start
        z = [row[rows] for row in phasors]
        observed.add(np.abs(np.mean(z, axis=0)), documents, within)
        for own in generators:
            turned = [circular_shift(row, within, generator) for row, generator in zip(z, own, strict=True)]
            shifted.add(np.abs(np.mean(turned, axis=0)), documents, within)
    return observed, shifted
