"""What top-k rows of two models say of a fused forecast q: exact on the shared tokens, bounded outside them.

On the shared tokens S (topk.KnownTokens) everything but the normaliser Z is known: q_t = fixed_t + scaled_t r with
r = 1 / Z. For most rules the fixed part is 0 and the scaled part the rule's numerator. Outside S three sums of squares
and products are bounded, from the tokens that one model lists, the caps and the masses. Every rule of two models has a
function here (majority vote in vote_forecasts.py); they are what the Brier score and the top-1 probability are
computed from. `rows` are KnownTokens, or TopRows where several rules are asked for at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.forecast_rows import PartialForecast, Rows, TopRows, top_rows
from brf_exp.maths.tails import TailSums, product_squares
from brf_exp.maths.topk import TARGET, pool_tail
from brf_exp.maths.topk_rules import power_mean_losses, product_losses

Numerator = Callable[[np.ndarray], np.ndarray]
Floors = tuple[np.ndarray, np.ndarray]


def _of_numerators(
    scores: np.ndarray,
    normaliser: np.ndarray,
    *,
    squares: np.ndarray,
    largest: np.ndarray,
    floors: Floors | None = None,
    undefined: np.ndarray | bool = False,
) -> PartialForecast:
    """A forecast scores / Z. `normaliser` (2, n); `squares` (n,) bounds the sum of squared numerators outside S and
    `largest` (n,) the largest of them from above, `floors` both from below; `undefined`, besides where Z vanishes."""
    nothing = np.zeros_like(squares)
    least, peak = (nothing, nothing) if floors is None else floors
    outside = np.stack([[nothing, nothing, least], [nothing, nothing, np.maximum(squares, least)]])
    undefined = np.asarray(undefined | ~((normaliser[0] >= fusion.MIN_NORMALISER) & np.isfinite(normaliser[0])))
    reciprocal = 1 / np.where(undefined, 1.0, normaliser[::-1])
    peaks = np.stack([peak * reciprocal, largest * reciprocal])
    return PartialForecast(None, scores, reciprocal, outside, peaks, undefined)


def _weights(weight: float) -> np.ndarray:
    return np.array([weight, 1 - weight])


def _mixed(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """w_1 x_1 + w_2 x_2, (2, n) to (n,); no matrix product, whose digits depend on n."""
    return weights[0] * values[0] + weights[1] * values[1]


def _largest(rows: TopRows, numerator: Numerator) -> np.ndarray:
    """Largest numerator that a token outside S can have, (n,)."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(numerator(rows.corners), nan=0.0).max(axis=1)


def _geometric(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted geometric mean of two rows."""
    return values[0] ** weights[0] * values[1] ** weights[1]


def coherent_forecast(rows: Rows, *, coherence: np.ndarray | float, weight: float = 0.5) -> PartialForecast:
    """Born Rule Fusion with c = cos(phi_1 - phi_2) per position (n,) or one number.

    N = w_1 p_1 + w_2 p_2 + 2 c s G with s = sqrt(w_1 w_2), G = sqrt(p_1 p_2) and Z = 1 + 2 c s B.
    """
    rows, weights = top_rows(rows), _weights(weight)
    c = np.broadcast_to(np.asarray(coherence, dtype=np.float64), rows.known.target.shape[1:])
    cross = 2 * np.sqrt(weights.prod()) * c
    corner_roots = rows.corner_roots
    largest = _coherent_scores(corner_roots**2, corner_roots[0] * corner_roots[1], weights, cross).max(axis=1)
    return _of_numerators(
        _coherent_scores(rows.p, rows.geometric, weights, cross),
        np.sort(1 + cross * rows.known.overlap, axis=0),
        squares=_coherent_squares(rows.tail, c, weights),
        largest=largest,
        floors=_coherent_floors(rows, c, weights),
    )


def _coherent_scores(p: np.ndarray, geometric: np.ndarray, weights: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """fusion.coherent_numerator from probabilities and their geometric means, no exponential left to take."""
    scores = weights[0] * p[0]
    scores += weights[1] * p[1]
    if cross.any():
        scores += cross[:, None] * geometric
        np.maximum(scores, 0, out=scores)
    return scores


def _coherent_floors(rows: TopRows, c: np.ndarray, weights: np.ndarray) -> Floors:
    """Least sum of squares and least largest value of the numerators of the tokens that one model alone lists."""
    squares = _mixed(weights**2, rows.own_squares)
    largest = (weights[:, None] * rows.own_largest).max(axis=0)
    opposed = np.flatnonzero(c < 0)
    if opposed.size:
        each = [_opposed_floor(rows, model, opposed, -c[opposed], weights) for model in (0, 1)]
        squares[opposed] = sum(np.vecdot(values, values) for values in each)
        largest[opposed] = np.maximum(*(values.max(axis=1) for values in each))
    return squares, largest


def _opposed_floor(
    rows: TopRows, model: int, chosen: np.ndarray, opposed: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Least numerator of each token that only `model` lists where c = -opposed < 0, (rows, k).

    x^2 + y^2 - 2 |c| x y over what y can be: least at y = |c| x, or at its cap.
    """
    x = np.sqrt(weights[model] * rows.own[model][chosen])
    most = np.sqrt(weights[1 - model] * rows.cap[1 - model][chosen])[:, None]
    y = np.minimum(opposed[:, None] * x, most)
    return np.maximum(x**2 + y**2 - 2 * opposed[:, None] * x * y, 0)


def _coherent_squares(tail: TailSums, c: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Upper bound of sum N^2 outside S, N = L + 2 c s G, L the linear pool.

    For c >= 0 with sum p_i G <= sqrt(sum p_i^2 sum p_1 p_2). For c < 0 with L >= 2 s G: N^2 is at most
    (w_1 p_1)^2 + (w_2 p_2)^2 + w_1 w_2 (2 - 8 |c| + 4 c^2) p_1 p_2.
    """
    product = weights.prod()
    alone = _mixed(weights**2, tail.squares)
    linear_cross = _mixed(weights, np.sqrt(tail.squares * tail.product))
    aligned = product * (2 + 4 * c**2) * tail.product + 4 * c * np.sqrt(product) * linear_cross
    opposed = product * np.maximum(2 + 8 * c + 4 * c**2, 0) * tail.product
    return alone + np.where(c >= 0, aligned, opposed)


def linear_forecast(rows: Rows, *, weight: float = 0.5) -> PartialForecast:
    """The linear pool."""
    return coherent_forecast(rows, coherence=0.0, weight=weight)


def single_forecast(rows: Rows, *, model: int) -> PartialForecast:
    """One model alone: what it lists is exact."""
    rows = top_rows(rows)
    squares = rows.own_squares[model] + rows.cap[model] * rows.known.unlisted[model]
    return _of_numerators(
        rows.p[model],
        np.ones((2, rows.known.n)),
        squares=squares,
        largest=np.maximum(rows.own_largest[model], rows.cap[model]),
        floors=(rows.own_squares[model], rows.own_largest[model]),
    )


def routed_forecast(rows: Rows, *, confidence: np.ndarray) -> PartialForecast:
    """The model with the larger confidence (2, n) at each position; ties go to the first."""
    rows = top_rows(rows)
    first, second = (single_forecast(rows, model=model) for model in (0, 1))
    return first.chosen(second, np.argmax(confidence, axis=0) == 1)


def log_linear_forecast(rows: Rows, *, weight: float = 0.5) -> PartialForecast:
    """The logarithmic pool; outside S the squares' sum is bounded by Hoelder's inequality, as Z is."""
    rows, weights = top_rows(rows), _weights(weight)
    known, tail = rows.known, rows.tail

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.product_numerator(log_p, weights)

    if weight == 0.5:
        largest = (rows.corner_roots[0] * rows.corner_roots[1]).max(axis=1)
        return _of_numerators(rows.geometric, known.overlap, squares=tail.product, largest=largest)
    scores = numerator(known.shared)
    inside = scores.sum(axis=1)
    tail_sum = pool_tail(known, weight) if 0 < weight < 1 else _geometric(known.remainder, weights)
    normaliser = np.stack([inside, inside + tail_sum])
    squares = _geometric(tail.squares, weights)
    return _of_numerators(scores, normaliser, squares=squares, largest=_largest(rows, numerator))


def product_forecast(rows: Rows, *, exponent: float = 1.0) -> PartialForecast:
    """G^s / Z, G = sqrt(p_1 p_2), Z as bounded for the log loss.

    Outside S, sum G^2s <= theta^(2 s - 2) sum G^2 for s >= 1, theta the largest G there. Raises ValueError for
    s < 0.5, where the squares have no bound without the vocabulary size.
    """
    rows = top_rows(rows)
    known, weights = rows.known, _weights(0.5)

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.product_numerator(log_p, weights, exponent=exponent)

    losses, largest = product_losses(known, exponent=exponent), _largest(rows, numerator)
    if exponent >= 1:
        squares = largest ** (2 - 2 / exponent) * rows.tail.product
    else:
        squares = product_squares(known, exponent, rows.tail)
    normaliser = np.exp(losses.bounds + exponent * known.target.mean(axis=0))
    scores = numerator(known.shared)
    return _of_numerators(scores, normaliser, squares=squares, largest=largest, undefined=losses.undefined)


def power_mean_forecast(rows: Rows, *, order: float = 0.5, weight: float = 0.5) -> PartialForecast:
    """Power mean of any order; orders 0 and 1 are the logarithmic and the linear pool."""
    if order == 0:
        return log_linear_forecast(rows, weight=weight)
    if order == 1:
        return linear_forecast(rows, weight=weight)
    rows, weights = top_rows(rows), _weights(weight)

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.power_mean_numerator(log_p, weights, order=order)

    scores = numerator(rows.known.shared)
    losses = power_mean_losses(rows.known, order=order, weight=weight)
    normaliser = np.exp(losses.bounds + np.log(np.maximum(scores[:, TARGET], 1e-300)))
    floors = None
    if order > 0:
        factor = weights ** (1 / order)
        floors = _mixed(factor**2, rows.own_squares), (factor[:, None] * rows.own_largest).max(axis=0)
    return _of_numerators(
        scores,
        normaliser,
        squares=_power_mean_squares(rows.tail, order, weights),
        largest=_largest(rows, numerator),
        floors=floors,
        undefined=losses.undefined,
    )


def _power_mean_squares(tail: TailSums, order: float, weights: np.ndarray) -> np.ndarray:
    """Upper bound of the sum of squared power means outside S.

    Power means increase with their order: below 0 the logarithmic pool bounds them, below 1 the linear pool. The
    square of a mean of order r is the mean of order r / 2 of the squares: at most their linear pool up to r = 2, and
    sum_i w_i^(2 / r) p_i^2 from there on (subadditivity).
    """
    if order < 0:
        return _geometric(tail.squares, weights)
    if order < 1:
        return _mixed(weights**2, tail.squares) + 2 * weights.prod() * tail.product
    return _mixed(weights if order <= 2 else weights ** (2 / order), tail.squares)


def lin_log_forecast(rows: Rows, *, mixture: float = 0.5, weight: float = 0.5) -> PartialForecast:
    """(1 - lam) LinearPool(weight) + lam LogPool(equal weights): the fixed part is linear, r = 1 / B."""
    rows = top_rows(rows)
    linear = linear_forecast(rows, weight=weight)
    log_pool = log_linear_forecast(rows)
    shares = np.array([1 - mixture, mixture])
    squares, pool_squares = linear.outside[:, 2], log_pool.outside[:, 2]
    products = np.stack([np.zeros_like(squares[0]), np.sqrt(squares[1] * pool_squares[1])])
    outside = np.stack([shares[0] ** 2 * squares, shares.prod() * products, shares[1] ** 2 * pool_squares], axis=1)
    return PartialForecast(
        fixed=shares[0] * linear.scaled,
        scaled=shares[1] * log_pool.scaled,
        reciprocal=log_pool.reciprocal,
        outside=outside,
        peak=shares[0] * linear.peak + shares[1] * log_pool.peak,
        undefined=log_pool.undefined,
    )


def contrastive_forecast(rows: Rows, *, strength: float = 0.5) -> PartialForecast:
    """p_1^(1 + beta) p_2^(-beta) / Z: a token that model 2 does not list may have any numerator, so Z is bounded from
    below only, and every probability may be next to 0. Where S is the whole vocabulary nothing is left open."""
    rows = top_rows(rows)
    known = rows.known

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.contrastive_numerator(log_p, _weights(0.5), strength=strength)

    scores = numerator(known.shared)
    floor = np.exp((1 + strength) * known.own[0] - strength * known.cap[1][:, None])
    lower = scores.sum(axis=1) + floor.sum(axis=1)
    endless = np.where(known.has_no_tail, 0.0, np.inf)
    # No double holds a larger normaliser; fuse() calls such a position undefined.
    normaliser = np.stack([lower, np.where(known.has_no_tail, lower, np.finfo(np.float64).max)])
    floors = np.vecdot(floor, floor), floor.max(axis=1)
    return _of_numerators(scores, normaliser, squares=endless, largest=endless, floors=floors)


FORECASTS: Mapping[str, Callable[..., PartialForecast]] = {
    "linear": linear_forecast,
    "single": single_forecast,
    "log_linear": log_linear_forecast,
    "product": product_forecast,
    "power_mean": power_mean_forecast,
    "lin_log_mixture": lin_log_forecast,
    "constant_coherence": coherent_forecast,
    "routing": routed_forecast,
    "contrastive": contrastive_forecast,
}


def forecast(rows: Rows, rule: str, **parameters: Any) -> PartialForecast:
    """A rule's forecast by name. Raises ValueError for a rule that is not one of FORECASTS."""
    if rule not in FORECASTS:
        raise ValueError(f"`rule` must be one of {', '.join(sorted(FORECASTS))}, got {rule!r}")
    return FORECASTS[rule](rows, **parameters)
