"""What top-k rows of two models say of a fused forecast q: exact on the shared tokens, bounded outside them.

On the shared tokens S (topk.KnownTokens) everything but the normaliser Z is known: q_t = fixed_t + scaled_t r with
r = 1 / Z. For most rules the fixed part is 0 and the scaled part the rule's numerator. Outside S three sums of squares
and products are bounded, from the tokens that one model lists, the caps and the masses. Every rule of two models has a
function here; they are what the Brier score and the top-1 probability are computed from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.tails import TailSums, largest_outside, require_two_models, tail_sums
from brf_exp.maths.topk import KnownTokens, pool_tail
from brf_exp.maths.topk_rules import power_mean_losses


@dataclass(frozen=True)
class PartialForecast:
    """A fused forecast at n positions, as far as top-k rows tell it.

    `fixed`, `scaled` (n, K): q = fixed + scaled r on S, the realised token first. `reciprocal` (2, n): bounds of r.
    `outside` (2, 3, n): bounds of sum fixed^2, sum fixed scaled, sum scaled^2 outside S, all >= 0. `peak` (2, 2, n):
    bounds of the largest probability outside S, each at both ends of r, where it may exceed 1. `undefined` (n,): Z may
    be 0.
    """

    fixed: np.ndarray
    scaled: np.ndarray
    reciprocal: np.ndarray
    outside: np.ndarray
    peak: np.ndarray
    undefined: np.ndarray

    def chosen(self, other: "PartialForecast", theirs: np.ndarray) -> "PartialForecast":
        """This forecast, and `other` at the positions `theirs` (n,)."""
        return PartialForecast(
            fixed=np.where(theirs[:, None], other.fixed, self.fixed),
            scaled=np.where(theirs[:, None], other.scaled, self.scaled),
            reciprocal=np.where(theirs, other.reciprocal, self.reciprocal),
            outside=np.where(theirs, other.outside, self.outside),
            peak=np.where(theirs, other.peak, self.peak),
            undefined=np.where(theirs, other.undefined, self.undefined),
        )


def _of_numerators(
    known: KnownTokens,
    scores: np.ndarray,
    normaliser: np.ndarray,
    *,
    squares: np.ndarray,
    largest: np.ndarray,
    floors: tuple[np.ndarray, np.ndarray] | None = None,
) -> PartialForecast:
    """A forecast scores / Z. `normaliser` (2, n); `squares` (n,) bounds the sum of squared numerators outside S and
    `largest` (n,) the largest of them from above, `floors` two arrays (n, k) those of the listed tokens from below."""
    lists = np.zeros((scores.shape[0], 1)) if floors is None else np.concatenate(floors, axis=1)
    least = (lists**2).sum(axis=1)
    nothing = np.zeros_like(least)
    outside = np.stack([[nothing, nothing, least], [nothing, nothing, np.maximum(squares, least)]])
    undefined = ~((normaliser[0] >= fusion.MIN_NORMALISER) & np.isfinite(normaliser[0]))
    reciprocal = 1 / np.where(undefined, 1.0, normaliser[::-1])
    peak = np.stack([lists.max(axis=1) * reciprocal, largest * reciprocal])
    return PartialForecast(np.zeros_like(scores), scores, reciprocal, outside, peak, undefined)


def _weights(weight: float) -> np.ndarray:
    return np.array([weight, 1 - weight])


def coherent_forecast(known: KnownTokens, *, coherence: np.ndarray | float, weight: float = 0.5) -> PartialForecast:
    """Born Rule Fusion with c = cos(phi_1 - phi_2) per position (n,) or one number.

    N = w_1 p_1 + w_2 p_2 + 2 c s G with s = sqrt(w_1 w_2), G = sqrt(p_1 p_2) and Z = 1 + 2 c s B.
    """
    c, weights = np.broadcast_to(np.asarray(coherence, dtype=np.float64), known.target.shape[1:]), _weights(weight)
    squares = _coherent_squares(tail_sums(known), c, weights)
    cross = 2 * np.sqrt(weights.prod()) * c

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.coherent_numerator(log_p, weights, coherence=c)

    normaliser = np.sort(1 + cross * known.overlap, axis=0)
    floors = (_coherent_floor(known, 0, c, weights), _coherent_floor(known, 1, c, weights))
    largest = largest_outside(known, numerator)
    return _of_numerators(known, numerator(known.shared), normaliser, squares=squares, largest=largest, floors=floors)


def _coherent_floor(known: KnownTokens, model: int, c: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least numerator of each token that only `model` lists, (n, k): x^2 + y^2 + 2 c x y over what y can be."""
    x = np.sqrt(weights[model]) * np.exp(0.5 * known.own[model])
    opposed = np.maximum(-c, 0)[:, None]
    y = np.minimum(opposed * x, np.sqrt(weights[1 - model] * np.exp(known.cap[1 - model]))[:, None])
    return np.maximum(x**2 + y**2 - 2 * opposed * x * y, 0)


def _coherent_squares(tail: TailSums, c: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Upper bound of sum N^2 outside S, N = L + 2 c s G, L the linear pool.

    For c >= 0 with sum p_i G <= sqrt(sum p_i^2 sum p_1 p_2). For c < 0 with L >= 2 s G: N^2 is at most
    (w_1 p_1)^2 + (w_2 p_2)^2 + w_1 w_2 (2 - 8 |c| + 4 c^2) p_1 p_2.
    """
    product = weights.prod()
    alone = weights**2 @ tail.squares
    linear_cross = weights @ np.sqrt(tail.squares * tail.product)
    aligned = product * (2 + 4 * c**2) * tail.product + 4 * c * np.sqrt(product) * linear_cross
    opposed = product * np.maximum(2 + 8 * c + 4 * c**2, 0) * tail.product
    return alone + np.where(c >= 0, aligned, opposed)


def linear_forecast(known: KnownTokens, *, weight: float = 0.5) -> PartialForecast:
    """The linear pool."""
    return coherent_forecast(known, coherence=0.0, weight=weight)


def single_forecast(known: KnownTokens, *, model: int) -> PartialForecast:
    """One model alone: what it lists is exact."""
    listed = np.exp(known.own[model])
    squares = (listed**2).sum(axis=1) + np.exp(known.cap[model]) * known.unlisted[model]
    one = np.ones((2, listed.shape[0]))
    largest = np.maximum(listed.max(axis=1), np.exp(known.cap[model]))
    floors = (listed, listed[:, :0])
    return _of_numerators(known, np.exp(known.shared[model]), one, squares=squares, largest=largest, floors=floors)


def routed_forecast(known: KnownTokens, *, confidence: np.ndarray) -> PartialForecast:
    """The model with the larger confidence (2, n) at each position; ties go to the first."""
    require_two_models(known)
    first, second = (single_forecast(known, model=model) for model in (0, 1))
    return first.chosen(second, np.argmax(confidence, axis=0) == 1)


def log_linear_forecast(known: KnownTokens, *, weight: float = 0.5) -> PartialForecast:
    """The logarithmic pool; outside S the squares' sum is bounded by Hoelder's inequality, as Z is."""
    weights, tail = _weights(weight), tail_sums(known)

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.product_numerator(log_p, weights)

    scores = numerator(known.shared)
    if weight == 0.5:
        normaliser, squares = known.overlap, tail.product
    else:
        inside = scores.sum(axis=1)
        tail_sum = pool_tail(known, weight) if 0 < weight < 1 else _geometric(known.remainder, weights)
        normaliser = np.stack([inside, inside + tail_sum])
        squares = _geometric(tail.squares, weights)
    return _of_numerators(known, scores, normaliser, squares=squares, largest=largest_outside(known, numerator))


def _geometric(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted geometric mean of two rows."""
    return values[0] ** weights[0] * values[1] ** weights[1]


def product_forecast(known: KnownTokens, *, exponent: float = 1.0) -> PartialForecast:
    """G^s / Z, G = sqrt(p_1 p_2): outside S, sum G^s <= theta^(s - 1) sum G and sum G^2s <= theta^(2 s - 2) sum G^2,
    theta the largest G there. Raises ValueError for s < 1, which has no bound without the vocabulary size."""
    if exponent < 1:
        raise ValueError(f"`exponent` must be at least 1 on top-k rows, got {exponent}")

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.product_numerator(log_p, _weights(0.5), exponent=exponent)

    scores = numerator(known.shared)
    inside = scores.sum(axis=1)
    largest = largest_outside(known, numerator)
    theta = largest ** (1 / exponent)
    normaliser = np.stack([inside, inside + theta ** (exponent - 1) * pool_tail(known, 0.5)])
    squares = theta ** (2 * exponent - 2) * tail_sums(known).product
    return _of_numerators(known, scores, normaliser, squares=squares, largest=largest)


def power_mean_forecast(known: KnownTokens, *, order: float = 0.5, weight: float = 0.5) -> PartialForecast:
    """Power mean of any order; orders 0 and 1 are the logarithmic and the linear pool."""
    if order == 0:
        return log_linear_forecast(known, weight=weight)
    if order == 1:
        return linear_forecast(known, weight=weight)
    weights = _weights(weight)

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.power_mean_numerator(log_p, weights, order=order)

    scores = numerator(known.shared)
    losses = power_mean_losses(known, order=order, weight=weight)
    normaliser = np.exp(losses.bounds + np.log(np.maximum(scores[:, 0], 1e-300)))
    floors = None
    if order > 0:
        factor = weights ** (1 / order)
        floors = (factor[0] * np.exp(known.own[0]), factor[1] * np.exp(known.own[1]))
    squares = _power_mean_squares(tail_sums(known), order, weights)
    largest = largest_outside(known, numerator)
    return _of_numerators(known, scores, normaliser, squares=squares, largest=largest, floors=floors)


def _power_mean_squares(tail: TailSums, order: float, weights: np.ndarray) -> np.ndarray:
    """Upper bound of the sum of squared power means outside S.

    Power means increase with their order: below 0 the logarithmic pool bounds them, below 1 the linear pool. The
    square of a mean of order r is the mean of order r / 2 of the squares: at most their linear pool up to r = 2, and
    sum_i w_i^(2 / r) p_i^2 from there on (subadditivity).
    """
    if order < 0:
        return _geometric(tail.squares, weights)
    if order < 1:
        return weights**2 @ tail.squares + 2 * weights.prod() * tail.product
    return (weights if order <= 2 else weights ** (2 / order)) @ tail.squares


def lin_log_forecast(known: KnownTokens, *, mixture: float = 0.5, weight: float = 0.5) -> PartialForecast:
    """(1 - lam) LinearPool(weight) + lam LogPool(equal weights): the fixed part is linear, r = 1 / B."""
    linear = linear_forecast(known, weight=weight)
    log_pool = log_linear_forecast(known)
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


def contrastive_forecast(known: KnownTokens, *, strength: float = 0.5) -> PartialForecast:
    """p_1^(1 + beta) p_2^(-beta) / Z: a token that model 2 does not list may have any numerator, so Z is bounded from
    below only, and every probability may be next to 0."""
    require_two_models(known)

    def numerator(log_p: np.ndarray) -> np.ndarray:
        return fusion.contrastive_numerator(log_p, _weights(0.5), strength=strength)

    scores = numerator(known.shared)
    floor = np.exp((1 + strength) * known.own[0] - strength * known.cap[1][:, None])
    lower = scores.sum(axis=1) + floor.sum(axis=1)
    endless = np.full_like(lower, np.inf)
    # No double holds a larger normaliser; fuse() calls such a position undefined.
    normaliser = np.stack([lower, np.full_like(lower, np.finfo(np.float64).max)])
    floors = (floor, floor[:, :0])
    return _of_numerators(known, scores, normaliser, squares=endless, largest=endless, floors=floors)


@dataclass(frozen=True)
class VoteForecast:
    """The vote-gated forecast for each model's vote, and whether that vote can have won, `possible` (2, n)."""

    of_model: tuple[PartialForecast, PartialForecast]
    possible: np.ndarray


def vote_forecast(known: KnownTokens, *, hit_rate: np.ndarray) -> VoteForecast:
    """hit_rate (n,) on the voted token, the rest shared out as the linear pool.

    Where the arg-max tokens differ, the one with the larger mean probability wins. A model that does not list the
    other's token leaves that open within its cap: then either vote may be possible.
    """
    pools = [_voted_pool(known, model) for model in (0, 1)]
    agree = known.argmax_ids[0] == known.argmax_ids[1]
    # Means equal but for their last digit are a tie.
    leads = np.stack([pools[0][1] >= pools[1][0] - 1e-15, pools[1][1] >= pools[0][0] - 1e-15])
    linear = linear_forecast(known)
    first, second = (_gated(known, linear, model, pools[model], hit_rate) for model in (0, 1))
    return VoteForecast((first, second), np.stack([agree | leads[0], ~agree & leads[1]]))


def _voted_pool(known: KnownTokens, model: int) -> np.ndarray:
    """Bounds (2, n) of the linear pool at a model's arg-max token."""
    matches = known.shared_ids == known.argmax_ids[model][:, None]
    listed = np.exp(np.where(matches, known.shared[1 - model], -np.inf).max(axis=1))
    at_most = np.where(matches.any(axis=1), listed, np.exp(known.cap[1 - model]))
    return 0.5 * (np.exp(known.max_log_p[model]) + np.stack([listed, at_most]))


def _gated(
    known: KnownTokens, linear: PartialForecast, model: int, pool: np.ndarray, hit_rate: np.ndarray
) -> PartialForecast:
    """The forecast if `model`'s vote v wins: hit_rate on v, (1 - hit_rate) L r elsewhere, r = 1 / (1 - L(v))."""
    voted = known.shared_ids == known.argmax_ids[model][:, None]
    unshared = ~voted.any(axis=1)
    others = np.where(voted, 0.0, linear.scaled)
    # What S holds besides v is part of 1 - L(v), and better conditioned where L(v) is near 1.
    rest = np.maximum(np.stack([1 - pool[1], 1 - pool[0]]), np.maximum(others.sum(axis=1), fusion.MIN_NORMALISER))
    reciprocal, miss = 1 / rest[::-1], 1 - hit_rate
    squares = np.maximum(linear.outside[:, 2] - unshared * pool[0] ** 2, 0)
    alone = np.broadcast_to(unshared * hit_rate**2, squares.shape)
    peak = miss * linear.peak * reciprocal
    gated = np.stack([np.broadcast_to(hit_rate, reciprocal.shape), np.maximum(hit_rate, peak[1])])
    return PartialForecast(
        fixed=voted * hit_rate[:, None],
        scaled=miss[:, None] * others,
        reciprocal=reciprocal,
        outside=np.stack([alone, np.zeros_like(squares), miss**2 * squares], axis=1),
        peak=np.where(unshared, gated, peak),
        undefined=rest[1] <= fusion.MIN_NORMALISER,
    )


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


def forecast(known: KnownTokens, rule: str, **parameters: Any) -> PartialForecast:
    """A rule's forecast by name. Raises ValueError for a rule that is not one of FORECASTS."""
    if rule not in FORECASTS:
        raise ValueError(f"`rule` must be one of {', '.join(sorted(FORECASTS))}, got {rule!r}")
    return FORECASTS[rule](known, **parameters)
