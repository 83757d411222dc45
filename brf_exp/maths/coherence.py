"""The Phase Coherence Test: excess cosine against two nulls, each keeping what is trivial in its own way."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.documents import Offsets
from brf_exp.maths.pairing import (
    MatchedPairing,
    Pairing,
    PairTable,
    Rows,
    derangements,
    kappas_at,
    pair_table,
    pairing_at,
    true_pairing,
)
from brf_exp.maths.resampling import RatioTest, minimum_detectable_effect, ratio_estimate, ratio_test
from brf_exp.maths.undefined import UndefinedStatisticError

# Variance per position below which phases count as constant, and share of it below which a direction does.
TINY_VARIANCE = 1e-20
NEGLIGIBLE_AXIS = 1e-5
# Documents in a length block below which their derangements are no reference.
MIN_BLOCK = 6


@dataclass(frozen=True)
class ShiftNull:
    """Circular shifts within documents, in closed form: q ~ chi2(2), p = exp(-q / 2).

    `df` is 1 where the phases leave one direction only (two distinct phases, say).
    """

    statistic: float
    df: int
    pvalue: float
    log_pvalue: float
    mean: float


@dataclass(frozen=True)
class RepairingNull:
    """Re-pairing of documents by derangement: mean of kappa over the draws and the two-sided p-value."""

    n: int
    mean: float
    pvalue: float
    draws: np.ndarray
    smallest_block: int

    def mean_variance(self) -> float:
        """Variance of the re-pairing mean as an estimate: it is made of the same documents, wrongly paired.

        In blocks of m, the m (m - 1) wrong pairs average to a mean whose variance is that of one pairing over m - 1,
        and one pairing varies by m / (m - 2) more than derangements do about their mean. Left out, the re-centred
        test has a size of .065 for .05 at m = 8.
        """
        m = max(self.smallest_block, 3)
        return float(self.draws.var()) * m / ((m - 2) * (m - 1))


@dataclass(frozen=True)
class CoherenceResult:
    """Excess cosine of a pair: raw, re-centred on the re-pairing mean, with interval and both nulls.

    `share` quantities are the re-centred ones over 1 - R_0, the largest excess there could be.
    """

    pairing: MatchedPairing
    excess_raw: float
    excess: float
    interval: tuple[float, float]
    test: RatioTest
    shift: ShiftNull
    repairing: RepairingNull
    share_interval: tuple[float, float]
    minimum_detectable_share: float
    effective_n: float

    @property
    def resultant_length_independent(self) -> float:
        """R_0, the mean resultant length if the two models were independent."""
        return self.pairing.independent_length

    @property
    def possible(self) -> float:
        """1 - R_0, the largest excess there could be."""
        return 1.0 - self.pairing.independent_length

    @property
    def pvalue(self) -> float:
        """The larger p of the two nulls: both must reject."""
        return max(self.shift.pvalue, self.repairing.pvalue)

    @property
    def null_kind(self) -> str:
        """The null with the larger p-value."""
        return "shift" if self.shift.pvalue >= self.repairing.pvalue else "repairing"


def shift_null(pairing: Pairing, null_mean: float = 0.0) -> ShiftNull:
    """Test of the excess sum (2 df: cosine and sine) against all circular shifts, in closed form.

    Valid for stationary documents of at least about 5 / (1 - autocorrelation) positions. Raises
    UndefinedStatisticError where the covariance over shifts is singular (constant phases, documents of one token).
    """
    variance_re, variance_im, covariance = pairing.shift_covariance.sum(axis=0)
    variances, axes = np.linalg.eigh(np.array([[variance_re, covariance], [covariance, variance_im]]))
    if not variances[1] > TINY_VARIANCE * pairing.lengths.sum():
        raise UndefinedStatisticError(
            "constant phases", "the phases do not vary within documents: the shift null is not defined"
        )
    total = complex(pairing.excess.sum())
    along = (axes.T @ [total.real, total.imag]) ** 2
    used = variances > NEGLIGIBLE_AXIS * variances[1]
    q = float((along[used] / variances[used]).sum())
    df = int(used.sum())
    # scipy's chi2.logsf underflows where these do not.
    log_pvalue = -q / 2 if df == 2 else float(np.log(2) + stats.norm.logsf(np.sqrt(q)))
    return ShiftNull(q, df, float(np.exp(log_pvalue)), log_pvalue, null_mean)


def shift_null_monte_carlo(z1: Rows, z2: Rows, offsets: Offsets, *, n: int, rng: np.random.Generator) -> float:
    """The shift null by Monte Carlo: p of the same quadratic form, for checking the closed form. Slow."""
    observed = true_pairing(z1, z2, offsets)
    q = shift_null(observed).statistic
    variance_re, variance_im, covariance = observed.shift_covariance.sum(axis=0)
    inverse = np.linalg.inv(np.array([[variance_re, covariance], [covariance, variance_im]]))
    draws = np.zeros(n, dtype=np.complex128)
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        row1, row2 = z1[start:stop], z2[start:stop]
        by_shift = np.fft.ifft(np.fft.fft(row1) * np.conj(np.fft.fft(row2)))
        draws += rng.choice(by_shift - by_shift.mean(), size=n)
    points = np.column_stack([draws.real, draws.imag])
    return float((1 + (np.einsum("ni,ij,nj->n", points, inverse, points) >= q).sum()) / (n + 1))


def repairing_null(table: PairTable, columns: np.ndarray, *, kappa: float) -> RepairingNull:
    """Two-sided p-value of kappa among derangements, p = (1 + #{f |k_b - mean| >= |k - mean|}) / (B + 1).

    f = sqrt(m / (m - 2)), m the size of the smallest length block: derangements of m documents vary less about their
    mean than the true pairing does (with independent entries by exactly this ratio), so that without f a block of 8
    gives a size of .095 for .05. Blocks of fewer than six documents have too few derangements (four have 6, which
    gives a size of .16): p = 1.
    """
    draws = kappas_at(table, columns)
    mean = float(draws.mean())
    smallest = min(block.size for block in table.blocks)
    if smallest < MIN_BLOCK:
        return RepairingNull(draws.size, mean, 1.0, draws, smallest)
    factor = np.sqrt(smallest / (smallest - 2))
    as_far = factor * np.abs(draws - mean) >= abs(kappa - mean)
    pvalue = float((1 + as_far.sum()) / (draws.size + 1))
    return RepairingNull(draws.size, mean, pvalue, draws, smallest)


@dataclass(frozen=True)
class Repairings:
    """Derangements of the documents, and the terms of every pair that they can look up."""

    table: PairTable
    columns: np.ndarray


def coherence(
    z1: Rows,
    z2: Rows,
    offsets: Offsets,
    *,
    n_repairings: int,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
    shift_moments: bool = True,
) -> tuple[CoherenceResult, Repairings]:
    """Excess cosine with its document-level test, both nulls, and the derangements that were drawn.

    Parameters: `z1`, `z2` unit phasors exp(i phi) of matched rows; `offsets` (D + 1,), D >= 2; `shift_moments`:
    keep shift covariances of the re-paired documents too (`rejects_at` needs them).
    Raises UndefinedStatisticError where a statistic does not exist (constant phases, one document).
    """
    pairing = true_pairing(z1, z2, offsets)
    shift = shift_null(pairing)
    table = pair_table(z1, z2, offsets, shift_moments=shift_moments)
    columns = derangements(table.blocks, n_repairings, rng)
    repairing = repairing_null(table, columns, kappa=pairing.kappa)
    test = ratio_test(
        pairing.excess.real,
        pairing.lengths,
        null_value=repairing.mean,
        null_variance=repairing.mean_variance(),
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        rng=rng,
    )
    possible = 1.0 - pairing.independent_length
    interval = (test.interval[0] - repairing.mean, test.interval[1] - repairing.mean)
    result = CoherenceResult(
        pairing=pairing,
        excess_raw=pairing.kappa,
        excess=pairing.kappa - repairing.mean,
        interval=interval,
        test=test,
        shift=shift,
        repairing=repairing,
        share_interval=(interval[0] / possible, interval[1] / possible),
        minimum_detectable_share=minimum_detectable_effect(test.standard_error, test.df) / possible,
        effective_n=_effective_n(pairing, test),
    )
    return result, Repairings(table, columns)


def _effective_n(pairing: Pairing, test: RatioTest) -> float:
    """Independent positions that would give the same standard error.

    The variance over circular shifts is what a sum of positions with this autocorrelation but without document
    effects would have; per position it stands in for the variance of one product under independence.
    """
    per_position = pairing.shift_covariance[:, 0].sum() / pairing.lengths.sum()
    return float(per_position / test.standard_error**2)


def share_lower_ends(
    repairings: Repairings,
    columns: np.ndarray,
    *,
    repairing: RepairingNull,
    possible: float,
    confidence_level: float,
) -> np.ndarray:
    """Lower ends of the re-centred share's interval for the derangements `columns` (n, D), by t(D - 1); (n,)."""
    table, rows = repairings.table, np.arange(columns.shape[1])
    quantile = float(stats.t.ppf((1 + confidence_level) / 2, rows.size - 1))
    ends = []
    for row in columns:
        terms, lengths = table.excess.real[rows, row], table.lengths[rows, row]
        estimate = ratio_estimate(terms[:, None], lengths)
        error = np.sqrt(estimate.standard_error[0] ** 2 + repairing.mean_variance())
        ends.append((float(estimate.mean[0]) - repairing.mean - quantile * error) / possible)
    return np.array(ends)


def rejects_at(repairings: Repairings, columns: np.ndarray, repairing: RepairingNull, *, alpha: float) -> np.ndarray:
    """For each derangement of `columns`: would P1 reject, with a positive excess, under both nulls? (n,), bool.

    Derangements are compared with derangements, which vary alike: no factor as for the true pairing.
    """
    draws = kappas_at(repairings.table, columns) - repairing.mean
    reference = np.sort(np.abs(repairing.draws - repairing.mean))
    as_far = reference.size - np.searchsorted(reference, np.abs(draws), side="left")
    by_repairing = (1 + as_far) / (reference.size + 1) < alpha
    by_shift = np.array([shift_null(pairing_at(repairings.table, row)).pvalue < alpha for row in columns])
    return (draws > 0) & by_repairing & by_shift
