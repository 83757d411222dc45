"""Removing shared difficulty from gaps before they become phases, and how far an imperfect proxy can be trusted."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.documents import Offsets, centred, document_sums
from brf_exp.maths.resampling import RatioTest, ratio_test

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


def residual_gaps(gaps: np.ndarray, scores: np.ndarray, prediction: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Gaps as they would be with the predictable part of their normal scores removed.

    e = standardised (document-centred scores minus document-centred prediction); the result is Q(Phi(e)), Q the
    model's own empirical quantile function, so that the map and its scale mean the same as before.
    Shapes (n,); raises ValueError where nothing is left (constant residuals).
    """
    e = residual_scores(scores, prediction, offsets)
    return np.quantile(gaps, stats.norm.cdf(e))


def residual_scores(scores: np.ndarray, prediction: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Standardised residual normal scores, (n,)."""
    e = centred(scores, offsets) - centred(prediction, offsets)
    spread = e.std()
    if not spread > 0:
        raise ValueError("the residual normal scores are constant: the covariates determine the gaps")
    return e / spread


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
    scores: np.ndarray,
    predictions: np.ndarray,
    offsets: Offsets,
    *,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> list[ReliabilityPoint]:
    """Partial correlation of two models' document-centred normal scores over assumed proxy reliabilities.

    Parameters: `scores`, `predictions` (2, n): normal scores and their cross-fitted difficulty predictions.
    The difficulty of a token is one number, the mean of the two predictions (so the prediction of the mean score):
    with a prediction of its own per model the three correlations would belong to no common distribution, and the
    formula leaves [-1, 1]. Intervals are percentiles over documents drawn with replacement.
    """
    u = np.stack([centred(row, offsets) for row in scores])
    m = centred(predictions.mean(axis=0), offsets)
    products = np.column_stack([u[0] * u[1], u[0] * m, u[1] * m, u[0] ** 2, u[1] ** 2, m**2])
    sums = document_sums(products, offsets)
    n_documents = sums.shape[0]
    weights = rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=n_resamples)
    observed, drawn = _correlations(sums.sum(axis=0)[None]), _correlations(weights @ sums)
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


def partial_rank_correlation(
    residuals: np.ndarray,
    offsets: Offsets,
    *,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> RatioTest:
    """Mean product of the standardised ranks of two models' residual scores, tested by document; (2, n) in."""
    ranks = np.stack([stats.zscore(stats.rankdata(row)) for row in residuals])
    sums = document_sums(ranks[0] * ranks[1], offsets)
    return ratio_test(sums, np.diff(offsets), confidence_level=confidence_level, n_resamples=n_resamples, rng=rng)
