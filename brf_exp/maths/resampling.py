"""Inference on document-level ratios: sum of values over sum of lengths, the document being the unit.

Token-level tests reject 25 to 68 % of true nulls on text; everything here resamples or flips whole documents.
All functions take per-document sums, so that a replicate is one row of a matrix product.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.undefined import UndefinedStatisticError

CHUNK_CELLS = 2**22  # replicates x documents held at once (32 MiB)


@dataclass(frozen=True)
class RatioEstimate:
    """K ratios with linearised standard errors; `mean` and `standard_error` have shape (K,)."""

    mean: np.ndarray
    standard_error: np.ndarray
    n_documents: int

    @property
    def df(self) -> int:
        """Degrees of freedom of the t approximation."""
        return self.n_documents - 1


@dataclass(frozen=True)
class RatioTest:
    """One ratio against a null value: t statistic, p-value, interval, and which reference distribution was used."""

    value: float
    statistic: float
    pvalue: float
    interval: tuple[float, float]
    standard_error: float
    df: int
    method: str


def ratio_estimate(sums: np.ndarray, lengths: np.ndarray) -> RatioEstimate:
    """Ratios sum(sums) / sum(lengths); `sums` (D, K), `lengths` (D,).

    The standard error is that of the linearised ratio, e_d = S_d - mean T_d: what a cluster-robust regression
    on a constant gives. Raises UndefinedStatisticError for fewer than two documents.
    """
    n_documents = lengths.size
    if n_documents < 2:
        raise UndefinedStatisticError("documents", f"at least 2 documents are needed, got {n_documents}")
    total = lengths.sum()
    mean = sums.sum(axis=0) / total
    errors = sums - mean * lengths[:, None]
    variance = n_documents / (n_documents - 1) * (errors**2).sum(axis=0) / total**2
    return RatioEstimate(mean, np.sqrt(variance), n_documents)


def jackknife_errors(sums: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Standard errors of the ratios by leaving out one document at a time, (K,); `sums` (D, K), `lengths` (D,).

    For equal lengths those of `ratio_estimate`, for unequal ones larger: a long document pulls the ratio towards
    itself, so that its own residual is too small. Raises UndefinedStatisticError for fewer than two documents.
    Reference: MacKinnon, Nielsen & Webb (2022), Queen's Economics Department Working Paper 1485.
    """
    mean, n_documents = ratio_estimate(sums, lengths).mean, lengths.size
    moved = (sums - mean * lengths[:, None]) / (lengths.sum() - lengths)[:, None]
    return np.sqrt((n_documents - 1) / n_documents * (moved**2).sum(axis=0))


def effective_df(lengths: np.ndarray) -> float:
    """Degrees of freedom of the jackknife variance, by its first two moments (Satterthwaite); `lengths` (D,).

    D - 1 for equal lengths, fewer where few documents hold most of the positions. For normal sums whose variance grows
    with the square of the length, as document effects make it. With a_d = (1 - T_d / T)^-2 the variance is a quadratic
    form tr(AG) chi^2 / df, A = diag(a) and G_de = T_d^2 [d = e] + T_d T_e (S / T^2 - (T_d + T_e) / T), S = sum T_d^2;
    df = tr(AG)^2 / tr(AGAG).
    """
    shares = lengths / lengths.sum()
    weights = 1 / (1 - shares) ** 2
    square = (shares**2).sum()
    diagonal = shares**2 * (square - 2 * shares)
    m2, m3, m4 = ((weights * shares**power).sum() for power in (2, 3, 4))
    trace = (weights * (shares**2 + diagonal)).sum()
    squared = square**2 * m2**2 - 4 * square * m2 * m3 + 2 * m2 * m4 + 2 * m3**2
    squared += (weights**2 * (2 * shares**2 * diagonal + shares**4)).sum()
    return float(trace**2 / squared)


def replicate_chunks(n_resamples: int, n_documents: int) -> list[int]:
    """Numbers of replicates to draw at a time, so that their weights take a bounded amount of memory."""
    size = max(1, min(2000, CHUNK_CELLS // n_documents))
    return [min(size, n_resamples - start) for start in range(0, n_resamples, size)]


def bootstrap_t(
    sums: np.ndarray, lengths: np.ndarray, *, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, RatioEstimate]:
    """Studentised bootstrap of whole documents: t* of shape (n_resamples, K), and the estimate itself.

    A replicate draws D documents with replacement; its ratio and standard error come from one matrix product
    of the multinomial weights. Replicates without any spread give t* = 0.
    """
    estimate = ratio_estimate(sums, lengths)
    n_documents, n_ratios = sums.shape
    # Centred first: the expansion of the squared errors then loses no digits.
    centred = sums - estimate.mean * lengths[:, None]
    lengths_f = lengths.astype(np.float64)[:, None]
    columns = np.hstack([centred, lengths_f, centred**2, centred * lengths_f, lengths_f**2])
    blocks = []
    probabilities = np.full(n_documents, 1.0 / n_documents)
    for n_rows in replicate_chunks(n_resamples, n_documents):
        weighted = rng.multinomial(n_documents, probabilities, size=n_rows).astype(np.float64) @ columns
        shift_sum, total = weighted[:, :n_ratios], weighted[:, n_ratios : n_ratios + 1]
        squares, cross = weighted[:, n_ratios + 1 : 2 * n_ratios + 1], weighted[:, 2 * n_ratios + 1 : -1]
        shift = shift_sum / total
        variance = squares - 2 * shift * cross + shift**2 * weighted[:, -1:]
        error = np.sqrt(np.maximum(variance, 0) * n_documents / (n_documents - 1)) / total
        blocks.append(np.divide(shift, error, out=np.zeros_like(shift), where=error > 0))
    return np.vstack(blocks), estimate


def bootstrap_t_pvalues(statistics: np.ndarray, replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided p-values of 0 by the bootstrap-t, (K,), and adjusted for all K by step-down max-T, (K,).

    Parameters: `statistics` (K,) ratios over their standard errors; `replicates` (n_resamples, K) of `bootstrap_t`.
    Other than a sign-flip it does not take sums for symmetric.
    """
    order = np.argsort(-np.abs(statistics), kind="stable")
    # A hair below, so that an identical replicate counts in spite of rounding.
    observed, drawn = np.abs(statistics[order]) * (1 - 1e-9), np.abs(replicates[:, order])
    largest = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
    plain, adjusted = np.empty(order.size), np.empty(order.size)
    plain[order] = (1 + (drawn >= observed).sum(axis=0)) / (drawn.shape[0] + 1)
    adjusted[order] = np.maximum.accumulate((1 + (largest >= observed).sum(axis=0)) / (drawn.shape[0] + 1))
    return plain, adjusted


def sign_flip_pvalues(
    sums: np.ndarray, lengths: np.ndarray, *, shrink: float = 1.0, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sign-flip of document sums (wild cluster bootstrap-t, null of zero imposed); `sums` (D, K), `lengths` (D,).

    Every replicate is studentised by its own standard error: with a common one, a ratio far from 0 would widen
    everyone's reference distribution. `shrink` multiplies the observed statistics. Returns two-sided p-values (K,) and
    max-T adjusted ones (K,).
    """
    total = lengths.sum()
    lengths_f = lengths.astype(np.float64)
    squares, cross, lengths_squared = (sums**2).sum(axis=0), sums * lengths_f[:, None], (lengths_f**2).sum()
    columns = np.hstack([sums, cross])
    n_ratios = sums.shape[1]

    def studentised(signs: np.ndarray) -> np.ndarray:
        flipped = signs @ columns
        mean = flipped[:, :n_ratios] / total
        variance = squares - 2 * mean * flipped[:, n_ratios:] + mean**2 * lengths_squared
        return np.abs(np.divide(mean, np.sqrt(np.maximum(variance, 0)), out=np.zeros_like(mean), where=variance > 0))

    # A hair below, so that the identical flip counts in spite of rounding.
    observed = shrink * studentised(np.ones((1, sums.shape[0])))[0] * (1 - 1e-9)
    exceed, exceed_max = np.zeros(n_ratios), np.zeros(n_ratios)
    for n_rows in replicate_chunks(n_resamples, sums.shape[0]):
        signs = rng.integers(0, 2, size=(n_rows, sums.shape[0])).astype(np.float64) * 2 - 1
        drawn = studentised(signs)
        exceed += (drawn >= observed).sum(axis=0)
        exceed_max += (drawn.max(axis=1)[:, None] >= observed).sum(axis=0)
    return (1 + exceed) / (n_resamples + 1), (1 + exceed_max) / (n_resamples + 1)


def ratio_test(
    sums: np.ndarray,
    lengths: np.ndarray,
    *,
    null_value: float = 0.0,
    null_variance: float = 0.0,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> RatioTest:
    """Two-sided test and interval of one ratio; `sums` (D,), `lengths` (D,).

    t(D - 1) of the linearised ratio, or the bootstrap-t where document lengths vary so much (coefficient of
    variation above 0.5) that few documents carry the estimate. `null_variance`: where the null value is itself an
    estimate, uncorrelated with the ratio, its variance; it widens error, test and interval.
    """
    estimate = ratio_estimate(sums[:, None], lengths)
    value, error = float(estimate.mean[0]), float(estimate.standard_error[0])
    # Up to rounding: documents that all have the ratio 0.1 differ from it in the last digit.
    if not error > 1e-12 * abs(value):
        raise UndefinedStatisticError("no variation", "all documents have the same value: the standard error is 0")
    error = float(np.sqrt(error**2 + null_variance))
    statistic = (value - null_value) / error
    tail = (1 - confidence_level) / 2
    if coefficient_of_variation(lengths) <= 0.5:
        quantile = float(stats.t.ppf(1 - tail, estimate.df))
        interval = (value - quantile * error, value + quantile * error)
        pvalue = float(2 * stats.t.sf(abs(statistic), estimate.df))
        return RatioTest(value, statistic, pvalue, interval, error, estimate.df, "t")
    replicates = bootstrap_t(sums[:, None], lengths, n_resamples=n_resamples, rng=rng)[0][:, 0]
    upper, lower = np.quantile(replicates, [1 - tail, tail])
    pvalue = float((1 + (np.abs(replicates) >= abs(statistic)).sum()) / (n_resamples + 1))
    interval = (value - float(upper) * error, value - float(lower) * error)
    return RatioTest(value, statistic, pvalue, interval, error, estimate.df, "bootstrap_t")


def coefficient_of_variation(lengths: np.ndarray) -> float:
    """Standard deviation of the document lengths over their mean."""
    return float(np.std(lengths, ddof=1) / np.mean(lengths)) if lengths.size > 1 else 0.0


def minimum_detectable_effect(standard_error: float, df: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Effect that a two-sided test of this standard error finds with the given power."""
    return float((stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df)) * standard_error)


def holm(pvalues: np.ndarray) -> np.ndarray:
    """Holm-adjusted p-values, in the order given."""
    order = np.argsort(pvalues)
    scaled = np.maximum.accumulate(pvalues[order] * (pvalues.size - np.arange(pvalues.size)))
    adjusted = np.empty_like(scaled)
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted
