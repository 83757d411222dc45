"""Multiclass Brier score of fused forecasts: certified intervals from top-k rows, and exactly from eight numbers.

The score of a forecast q at the realised token y is sum_t (q_t - [t = y])^2 = 1 - 2 q_y + sum_t q_t^2, between 0 and
2, lower is better. It is strictly proper, and unlike the log loss finite for a forecast that rules y out.
"""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.forecast_rows import PartialForecast, Rows
from brf_exp.maths.topk import TARGET
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.maths.vote_forecasts import VoteForecast, vote_forecast

WORST = 2.0  # everything on one wrong token


@dataclass(frozen=True)
class BrierScores:
    """Brier scores of one rule at n positions: `bounds` (2, n), lower and upper end; `undefined` (n,), positions
    where the normaliser may be 0, whose bounds are 0 and 2."""

    bounds: np.ndarray
    undefined: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """Midpoint per position."""
        return self.bounds.mean(axis=0)

    @property
    def mean(self) -> tuple[float, float]:
        """Bounds of the mean over positions. Raises UndefinedStatisticError where a position is undefined."""
        _require_defined(self.undefined)
        lower, upper = self.bounds.mean(axis=1)
        return float(lower), float(upper)


def _require_defined(undefined: np.ndarray) -> None:
    if undefined.any():
        message = f"the fused distribution is undefined at {int(undefined.sum())} of {undefined.size} positions"
        raise UndefinedStatisticError("undefined fusion", message)


def brier_scores(forecast: PartialForecast) -> BrierScores:
    """Bounds that contain the Brier score of every full distribution that agrees with the top-k rows.

    Parameters: `forecast` of any rule (forecasts.forecast), n positions. Use it where only top-k rows are known; with
    all tokens known the bounds meet. What fails first is not the bound but its use: a wide one decides nothing.

    Notes: with q = fixed + scaled r on the shared tokens S, r = 1 / Z, the score is Q(r) = sum_S (fixed + scaled r -
    [t = y])^2 + T(r), T the sum of squares outside S. q_y and the squares share r and are not taken apart: Q is
    convex in r, so its largest value over r's interval is at an end, its smallest there or where Q' = 0. T is bounded
    in three ways: by the forecast's `outside`, quadratic in r; by the square of all that is not on S, m = 1 - sum_S q;
    and by m times the largest probability outside S. Each of them gives an upper end, and the smallest holds.
    """
    inside = _inside(forecast)
    least, most = (_quadratic(inside + forecast.outside[end]) for end in (0, 1))
    limits = [most, *(_quadratic(inside + squares) for squares in _unshared_squares(forecast))]
    upper = np.minimum.reduce([_at_ends(limit, forecast) for limit in limits])
    lower = np.minimum(_minimum(least, forecast), upper)
    bounds = np.where(forecast.undefined, [[0.0], [WORST]], np.clip([lower, upper], 0, WORST))
    return BrierScores(bounds, forecast.undefined)


def _unshared_squares(forecast: PartialForecast) -> tuple[np.ndarray, np.ndarray]:
    """m^2 and m times the largest probability outside S, in the form of `outside`; m = mass + slope r."""
    slope = -forecast.scaled.sum(axis=1)
    mass = np.ones_like(slope) if forecast.fixed is None else 1 - forecast.fixed.sum(axis=1)
    largest = np.minimum(forecast.peak[1].max(axis=0), 1.0)
    linear = np.stack([largest * mass, 0.5 * largest * slope, np.zeros_like(mass)])
    return np.stack([mass**2, mass * slope, slope**2]), linear


def _inside(forecast: PartialForecast) -> np.ndarray:
    """Sums over S of missing^2, missing scaled and scaled^2, (3, n), where missing = fixed - [t = y]."""
    fixed, scaled = forecast.at_target
    missing, others = fixed - 1, forecast.scaled[:, TARGET + 1 :]
    sums = np.stack([missing**2 * np.ones_like(scaled), missing * scaled, scaled**2 + np.vecdot(others, others)])
    if forecast.fixed is not None:
        rest = forecast.fixed[:, TARGET + 1 :]
        sums[:2] += np.vecdot(rest, rest), np.vecdot(rest, others)
    return sums


def _quadratic(sums: np.ndarray) -> np.ndarray:
    """Coefficients (3, n) of the score as a polynomial in r, rising powers."""
    square, product, scaled_square = sums
    return np.stack([square, 2 * product, scaled_square])


def _value(coefficients: np.ndarray, r: np.ndarray) -> np.ndarray:
    return coefficients[0] + r * (coefficients[1] + r * coefficients[2])


def _at_ends(coefficients: np.ndarray, forecast: PartialForecast) -> np.ndarray:
    return np.maximum(*(_value(coefficients, r) for r in forecast.reciprocal))


def _minimum(coefficients: np.ndarray, forecast: PartialForecast) -> np.ndarray:
    """Smallest value of a convex quadratic over r's interval."""
    lower, upper = forecast.reciprocal
    flat = coefficients[2] == 0
    vertex = -coefficients[1] / np.where(flat, 1.0, 2 * coefficients[2])
    inner = _value(coefficients, np.clip(vertex, lower, upper))
    ends = np.minimum(*(_value(coefficients, r) for r in (lower, upper)))
    return np.where(flat, ends, np.minimum(inner, ends))


def vote_brier(rows: Rows, *, hit_rate: np.ndarray) -> BrierScores:
    """Brier scores of the vote-gated forecast; `hit_rate` (n,) is the probability of the voted token."""
    return ballot_brier(vote_forecast(rows, hit_rate=hit_rate))


def ballot_brier(ballot: VoteForecast) -> BrierScores:
    """Brier scores of a vote; where the rows leave the tie-break open, the bounds hold for either winner."""
    each = [brier_scores(forecast) for forecast in ballot.of_model]
    bounds = np.stack([scores.bounds for scores in each])
    lower = np.where(ballot.possible, bounds[:, 0], np.inf).min(axis=0)
    upper = np.where(ballot.possible, bounds[:, 1], -np.inf).max(axis=0)
    undefined = np.stack([scores.undefined for scores in each]) & ballot.possible
    return BrierScores(np.stack([lower, upper]), undefined.any(axis=0))


def sufficient_statistics(log_p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Eight numbers per position that give Brier score and log loss of Born Rule Fusion for every cos(phi_1 - phi_2).

    Parameters: `log_p` (2, n, V) natural-log probabilities of two models; `targets` (n,) realised tokens.
    Returns (8, n): p_1(y), p_2(y), sum G, sum p_1^2, sum p_2^2, sum p_1 p_2, sum p_1 G, sum p_2 G, G = sqrt(p_1 p_2).
    Use them where a rule is scored under many phase maps or controls: each then costs one pass over small arrays. They
    hold for equal weights and one phase per model and position; with a phase per token they do not.

    >>> p = np.log([[[0.5, 0.5]], [[0.9, 0.1]]])
    >>> brier_of(sufficient_statistics(p, np.array([0])), 0.0).round(3)  # the linear pool: .3^2 + .3^2
    array([0.18])
    """
    if log_p.ndim != 3 or log_p.shape[0] != 2 or targets.shape != log_p.shape[1:2]:
        shapes = f"{log_p.shape} and {targets.shape}"
        raise ValueError(f"`log_p` and `targets` must have shapes (2, n, V) and (n,), got {shapes}")
    p = np.exp(log_p)
    geometric = np.exp(0.5 * (log_p[0] + log_p[1]))
    realised = np.take_along_axis(p, targets[None, :, None], axis=2)[:, :, 0]
    products = [(p[0], p[0]), (p[1], p[1]), (p[0], p[1]), (p[0], geometric), (p[1], geometric)]
    sums = [np.einsum("nv,nv->n", first, second) for first, second in products]
    return np.stack([*realised, geometric.sum(axis=1), *sums])


def normaliser_of(statistics: np.ndarray, coherence: np.ndarray | float) -> np.ndarray:
    """Z = 1 + c B of Born Rule Fusion at equal weights; below fusion.MIN_NORMALISER it is undefined.

    Parameters: `statistics` (8, n); `coherence` c, a number, (n,), or (..., n) for many at once. Returns (..., n).
    """
    return 1 + np.asarray(coherence, dtype=np.float64) * statistics[2]


def _fused_target(statistics: np.ndarray, coherence: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """q_y and Z, (..., n) each."""
    normaliser = normaliser_of(statistics, coherence)
    _require_defined(normaliser < fusion.MIN_NORMALISER)
    first, second = statistics[:2]
    numerator = 0.5 * (first + second) + np.asarray(coherence) * np.sqrt(first * second)
    return np.maximum(numerator, 0) / normaliser, normaliser


def brier_of(statistics: np.ndarray, coherence: np.ndarray | float) -> np.ndarray:
    """Brier score of Born Rule Fusion at equal weights from its sufficient statistics.

    Parameters: `statistics` (8, n); `coherence` c = cos(phi_1 - phi_2), a number, (n,), or (..., n). Returns (..., n).
    Raises UndefinedStatisticError where Z vanishes (equal models in antiphase).

    Notes: 1 - 2 q_y + (A + B + 2 C + 4 c^2 C + 4 c (E + F)) / (4 Z^2), the letters being rows 3 to 7. Rounding grows as
    1 / Z^2: near antiphase of equal models the sum of the fused distribution's own squares is more exact.
    """
    fused, normaliser = _fused_target(statistics, coherence)
    c = np.asarray(coherence, dtype=np.float64)
    squares1, squares2, products, cross1, cross2 = statistics[3:]
    squares = squares1 + squares2 + 2 * products + 4 * c**2 * products + 4 * c * (cross1 + cross2)
    return 1 - 2 * fused + squares / (4 * normaliser**2)


def log_loss_of(statistics: np.ndarray, coherence: np.ndarray | float) -> np.ndarray:
    """Log loss -ln q_y in nats of Born Rule Fusion at equal weights from its sufficient statistics.

    Parameters and shapes as in `brier_of`. Raises UndefinedStatisticError where Z or q_y vanishes: in antiphase a
    token on which both models agree is ruled out, and its loss is infinite.
    """
    fused, _ = _fused_target(statistics, coherence)
    if (fused <= 0).any():
        message = f"the realised token is ruled out at {int((fused <= 0).sum())} of {fused.size} positions"
        raise UndefinedStatisticError("infinite log loss", message)
    return -np.log(fused)
