"""Removing shared difficulty from gaps before they become phases, and how far an imperfect proxy can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import Offsets, centred, document_chunks, document_sums
from brf_exp.maths.pairing import Rows, cross_excess, padded
from brf_exp.maths.resampling import RatioTest, ratio_test, replicate_chunks

RELIABILITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
DECIDING_RELIABILITY = 0.8


@dataclass(frozen=True)
class ReliabilityPoint:
    """Partial correlation of two models' gaps if the difficulty prediction had this reliability.

    `value` and the interval are None where the formula has no real value (reliability below r_i^2).
    """

    reliability: float
    value: float | None
    lower: float | None
    upper: float | None


def attenuated_partial(r_12: np.ndarray, r_1: np.ndarray, r_2: np.ndarray, reliability: float) -> np.ndarray:
    """(lam r_12 - r_1 r_2) / sqrt((lam - r_1^2)(lam - r_2^2)); NaN where it is no correlation.

    That is where the difficulty would explain more of a model's gaps, or of their relation, than there is: no
    proxy of these correlations can be so unreliable.
    """
    inside = (reliability - r_1**2) * (reliability - r_2**2)
    valid = (reliability > r_1**2) & (reliability > r_2**2)
    value = (reliability * r_12 - r_1 * r_2) / np.sqrt(np.where(valid, inside, 1.0))
    return np.where(valid & (np.abs(value) <= 1.0), value, np.nan)


def reliability_curve(
    sums: np.ndarray, *, confidence_level: float, n_resamples: int, rng: np.random.Generator
) -> list[ReliabilityPoint]:
    """Partial correlation of two models' document-centred normal scores over assumed proxy reliabilities.

    Parameters: `sums` (D, 6), from `difficulty_sums`. Intervals are percentiles over documents drawn with replacement.
    """
    drawn = _drawn_correlations(sums, n_resamples, rng)
    observed = _correlations(sums.sum(axis=0)[None])
    tail = (1 - confidence_level) / 2
    points = []
    for reliability in RELIABILITIES:
        value = float(attenuated_partial(*observed, reliability)[0])
        draws = attenuated_partial(*drawn, reliability)
        if np.isnan(value) or np.isnan(draws).any():
            points.append(ReliabilityPoint(reliability, None, None, None))
            continue
        lower, upper = np.quantile(draws, [tail, 1 - tail])
        points.append(ReliabilityPoint(reliability, value, float(lower), float(upper)))
    return points


def _drawn_correlations(
    sums: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r_12, r_1, r_2 of documents drawn with replacement, (n_resamples,) each."""
    n_documents = sums.shape[0]
    uniform = np.full(n_documents, 1 / n_documents)
    weighted = [
        rng.multinomial(n_documents, uniform, size=n).astype(np.float64) @ sums
        for n in replicate_chunks(n_resamples, n_documents)
    ]
    return _correlations(np.vstack(weighted))


def difficulty_sums(scores: Sequence[Rows], predictions: Sequence[Rows] | np.ndarray, offsets: Offsets) -> np.ndarray:
    """Per document: sums of u1 u2, u1 m, u2 m, u1^2, u2^2, m^2, (D, 6), of document-centred values.

    u1, u2 are two models' normal scores. The difficulty m of a token is one number, the mean of their two cross-fitted
    predictions (so the prediction of the mean score): with a prediction of its own per model the three correlations
    would belong to no common distribution, and the formula leaves [-1, 1].
    """
    sums = np.empty((offsets.size - 1, 6))
    for documents in document_chunks(offsets):
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        within = offsets[documents.start : documents.stop + 1] - rows.start
        u1, u2 = (centred(score[rows], within) for score in scores)
        m = centred((predictions[0][rows] + predictions[1][rows]) / 2, within)
        sums[documents] = document_sums(np.column_stack([u1 * u2, u1 * m, u2 * m, u1**2, u2**2, m**2]), within)
    return sums


def pair_difficulty_sums(
    scores: Sequence[Rows], predictions: Sequence[Rows] | np.ndarray, offsets: Offsets, blocks: tuple[np.ndarray, ...]
) -> np.ndarray:
    """`difficulty_sums` of every pair of documents that a PairTable holds, cropped to the shorter, (D, P, 6)."""
    lengths = np.diff(offsets)
    found = np.zeros((lengths.size, max(block.size for block in blocks), 6))
    for block in blocks:
        u1, u2 = (padded(rows, block, offsets) for rows in scores)
        m1, m2 = (padded(rows, block, offsets) for rows in predictions)
        mine = lengths[block]
        crossed = {(i, j): cross_excess(a, b, mine) for i, a in enumerate((u1, m1)) for j, b in enumerate((u2, m2))}
        of_first = [_own_sums(a, b, mine) for a, b in ((u1, u1), (u1, m1), (m1, m1))]
        of_second = [_own_sums(a, b, mine).T for a, b in ((u2, u2), (u2, m2), (m2, m2))]
        table = np.stack(
            [
                crossed[0, 0],
                (of_first[1] + crossed[0, 1]) / 2,
                (crossed[1, 0] + of_second[1]) / 2,
                of_first[0],
                of_second[0],
                (of_first[2] + 2 * crossed[1, 1] + of_second[2]) / 4,
            ],
            axis=2,
        )
        places = np.mod(np.arange(block.size)[:, None] + np.arange(block.size), block.size)
        found[block, : block.size] = np.take_along_axis(table, places[:, :, None], axis=1)
    return found


def _own_sums(first: np.ndarray, second: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Centred sum of first * second of each row, cropped to every row's length: (m, T) twice -> (m, m)."""
    n = np.minimum(lengths[:, None], lengths)
    totals = [np.take_along_axis(np.cumsum(x, axis=1), n - 1, axis=1) for x in (first * second, first, second)]
    return totals[0] - totals[1] * totals[2] / n


def _correlations(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r_12, r_1, r_2 from summed products; a constant prediction correlates 0."""

    def ratio(numerator: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        scale = np.sqrt(left * right)
        return np.divide(numerator, scale, out=np.zeros_like(numerator), where=scale > 0)

    c12, c1, c2, u1, u2, m = sums.T.astype(np.float64)
    return ratio(c12, u1, u2), ratio(c1, u1, m), ratio(c2, u2, m)


def survives(points: list[ReliabilityPoint]) -> bool:
    """Is the lower end above 0 at the deciding reliability?"""
    for point in points:
        if point.reliability == DECIDING_RELIABILITY:
            return point.lower is not None and point.lower > 0
    return False


def survives_at(
    table: np.ndarray, columns: np.ndarray, *, confidence_level: float, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """For each derangement `columns` (n, D) of `pair_difficulty_sums`: would it survive the deciding reliability?"""
    rows = np.arange(columns.shape[1])
    curves = [
        reliability_curve(table[rows, row], confidence_level=confidence_level, n_resamples=n_resamples, rng=rng)
        for row in columns
    ]
    return np.array([survives(curve) for curve in curves], dtype=bool)


def partial_rank_correlation(
    ranks: Sequence[Rows],
    offsets: Offsets,
    *,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> RatioTest:
    """Mean product of the standardised ranks of two models' residuals, tested by document.

    Parameters: `ranks` two rows of uniform ranks in (0, 1), standardised here by the uniform's mean and variance.
    """
    sums = np.empty(offsets.size - 1)
    for documents in document_chunks(offsets):
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        products = 12 * (ranks[0][rows] - 0.5) * (ranks[1][rows] - 0.5)
        sums[documents] = document_sums(products, offsets[documents.start : documents.stop + 1] - rows.start)
    return ratio_test(sums, np.diff(offsets), confidence_level=confidence_level, n_resamples=n_resamples, rng=rng)
