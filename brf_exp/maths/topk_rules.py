"""Fusion rules on top-k rows of M models: log loss as an interval, with what two rules' losses have in common.

A rule's loss at a position is ln Z - ln N(y). N(y) is exact; Z is known up to what lies outside the shared
tokens. Most rules share their unknowns, the Bhattacharyya coefficients B of pairs of models: their losses are kept
as functions of B, so that contrasts can be bounded jointly, both rules at the same B. Rules whose normaliser has
another unknown keep (lower, upper) only.

`weight` is the first of two models' weight, or an array (M,) of all weights, or (C, M) of C candidates' weights: then
all of them are scored at once, results have an axis of candidates before that of positions, and no function of B.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.token_sums import cross_sums, pool_sums, power_mean_sums
from brf_exp.maths.topk import TARGET, TINY, KnownTokens, pool_tail

PIECES = 8
# Pairs of models up to which contrasts are bounded jointly: the corners of the box of all B are 2^pairs.
MAX_JOINT_PAIRS = 6
Weight = float | np.ndarray


@dataclass(frozen=True)
class RuleLosses:
    """Log losses of one rule at n positions, in nats; of C candidates where noted at the top.

    `bounds` (2, n): lower and upper end; the upper one is inf where nothing bounds it. `coefficients` (P + 3, n) or
    None: where the B of the P pairs of models are the only unknowns, the loss is ln(a + sum_p k_p B_p) - ln(u + v / B)
    with rows a, k_1 .. k_P, u, v; v is 0 for more than one pair, and the loss is monotone in every B.
    `undefined` (n,): positions where the normaliser may be 0. `overlaps` (P, 2, n): the bounds of the B's that the
    coefficients refer to, which depend on the temperature of the models.
    """

    bounds: np.ndarray
    coefficients: np.ndarray | None
    undefined: np.ndarray
    overlaps: np.ndarray | None = None

    @property
    def middle(self) -> np.ndarray:
        """Midpoint per position, what tuning looks at."""
        return 0.5 * (self.bounds[0] + self.bounds[1])

    @property
    def bounded(self) -> bool:
        """Whether every position has an upper end."""
        return bool(np.isfinite(self.bounds).all())

    def at(self, overlaps: np.ndarray) -> np.ndarray:
        """Loss at given values of B, (..., P, n) -> (..., n)."""
        if self.coefficients is None:
            raise ValueError("this rule's loss is not a function of the overlaps alone")
        return _loss_at(self.coefficients, overlaps)


def _loss_at(coefficients: np.ndarray, overlaps: np.ndarray) -> np.ndarray:
    a, k, u, v = coefficients[0], coefficients[1:-2], coefficients[-2], coefficients[-1]
    safe = np.maximum(overlaps, fusion.MIN_NORMALISER)
    normaliser = a + (k * safe).sum(axis=-2)
    log_normaliser = np.log(np.maximum(normaliser, fusion.MIN_NORMALISER))
    return log_normaliser - np.log(np.maximum(u + v / safe[..., 0, :], TINY))


def _form(
    known: KnownTokens,
    bounds: np.ndarray,
    undefined: np.ndarray,
    *,
    k: Sequence[np.ndarray] | float = 0.0,
    u: np.ndarray | float = 0.0,
    v: np.ndarray | float = 0.0,
) -> RuleLosses:
    """Losses with their function of the B's, a = 1; many candidates' have none."""
    if bounds.ndim > 2:
        return RuleLosses(bounds, None, undefined)
    coefficients = np.empty((known.overlaps.shape[0] + 3, known.n))
    coefficients[0], coefficients[-2], coefficients[-1] = 1.0, u, v
    coefficients[1:-2] = k
    return RuleLosses(bounds, coefficients, undefined, known.overlaps)


def _along_overlap(known: KnownTokens, k: Sequence[np.ndarray], u: np.ndarray) -> RuleLosses:
    """Losses ln(1 + sum_p k_p B_p) - ln u, `k` (..., n) for each of the P pairs, `u` (..., n)."""
    overlaps = np.maximum(known.overlaps, fusion.MIN_NORMALISER)
    least, most = np.ones_like(u), np.ones_like(u)
    # Each B at the end that makes the normaliser least, and at the one that makes it largest.
    for slope, (lower, upper) in zip(k, overlaps, strict=True):
        ends = slope * lower, slope * upper
        least += np.minimum(*ends)
        most += np.maximum(*ends)
    undefined = (least < fusion.MIN_NORMALISER) | (u <= 0)
    normalisers = np.maximum(np.stack([least, most]), fusion.MIN_NORMALISER)
    bounds = np.log(normalisers, out=normalisers)
    bounds -= np.log(np.maximum(u, TINY))
    return _form(known, bounds, undefined, k=k, u=u)


def _along_pool(known: KnownTokens, u: np.ndarray | float, v: np.ndarray) -> RuleLosses:
    """Losses -ln(u + v / B) of two models, `u` (..., n) and `v` (n,)."""
    reciprocals = 1 / np.maximum(known.overlap, fusion.MIN_NORMALISER)
    p = np.stack([u + v * reciprocal for reciprocal in reciprocals])
    undefined = (p[1] <= 0) | ((v > 0) & (known.overlap[0] < fusion.MIN_NORMALISER))
    return _form(known, -np.log(np.maximum(p, TINY)), undefined, u=u, v=v)


def _point(known: KnownTokens, p: np.ndarray) -> RuleLosses:
    """The loss of a forecast that needs no normalisation, `p` (..., n) at the realised token."""
    losses = -np.log(np.maximum(p, TINY))
    return _form(known, np.stack([losses, losses]), p <= 0, u=p)


def _between(lower: np.ndarray, upper: np.ndarray, log_numerator: np.ndarray) -> RuleLosses:
    safe = np.maximum(np.stack([lower, upper]), fusion.MIN_NORMALISER)
    return RuleLosses(np.log(safe) - log_numerator, None, ~(lower >= fusion.MIN_NORMALISER))


def weights_of(weight: Weight, n_models: int) -> np.ndarray:
    """Weights (M,) from the first of two models' weight, from all of them, or from 0.5 meaning equal ones; (C, M)
    of many candidates as they are."""
    if isinstance(weight, np.ndarray):
        return weight
    if n_models == 2:
        return np.array([weight, 1 - weight])
    if weight != 0.5:
        raise ValueError(f"`weight` must be an array of {n_models} weights, got {weight}")
    return fusion.equal_weights(n_models)


def _mixed(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """sum_i w_i x_i, weights (..., M) and values (M, n) to (..., n); no matrix product, whose digits depend on n."""
    found = weights[..., 0, None] * values[0]
    for model in range(1, values.shape[0]):
        found += weights[..., model, None] * values[model]
    return found


def _each(weights: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of weights (M,) to (n,), of each candidate's: (..., n)."""
    return function(weights) if weights.ndim == 1 else np.stack([function(row) for row in weights])


def _pairs(n_models: int) -> list[tuple[int, int]]:
    return list(combinations(range(n_models), 2))


def coherent_losses(known: KnownTokens, *, coherence: np.ndarray | float, weight: Weight = 0.5) -> RuleLosses:
    """Born Rule Fusion with c = cos(phi_i - phi_j) per position and pair: Z = 1 + 2 sum c_ij sqrt(w_i w_j) B_ij.

    `coherence`: (P, n), or (n,) or a number for all pairs alike.
    """
    w, pairs = weights_of(weight, known.n_models), _pairs(known.n_models)
    c = np.broadcast_to(coherence, (len(pairs), known.n))
    cross = [2 * np.sqrt(w[..., i] * w[..., j])[..., None] * c[place] for place, (i, j) in enumerate(pairs)]
    p = np.exp(known.target)
    numerator = _mixed(w, p)
    for slope, (i, j) in zip(cross, pairs, strict=True):
        numerator += slope * np.sqrt(p[i] * p[j])
    return _along_overlap(known, cross, np.maximum(numerator, 0.0, out=numerator))


def linear_losses(known: KnownTokens, *, weight: Weight = 0.5) -> RuleLosses:
    """The linear pool: a point."""
    return _point(known, _mixed(weights_of(weight, known.n_models), np.exp(known.target)))


def single_losses(known: KnownTokens, *, model: int) -> RuleLosses:
    """One model alone: a point."""
    return _point(known, np.exp(known.target[model]))


def routed_losses(known: KnownTokens, *, confidence: np.ndarray) -> RuleLosses:
    """The model with the largest confidence (M, n) at each position; ties go to the first."""
    chosen = np.argmax(confidence, axis=0)
    return _point(known, np.exp(np.take_along_axis(known.target, chosen[None], axis=0)[0]))


def oracle_losses(known: KnownTokens) -> RuleLosses:
    """The model that does best at each position: an upper bound on routing, never a rival."""
    return _point(known, np.exp(known.target.max(axis=0)))


def log_linear_losses(known: KnownTokens, *, weight: Weight = 0.5) -> RuleLosses:
    """The logarithmic pool: Z = B for two models at equal weights, else bounded by Hoelder's inequality."""
    w = weights_of(weight, known.n_models)
    log_numerator = _mixed(w, known.target)
    is_half = known.n_models == 2 and w[..., 0] == 0.5
    if w.ndim == 1 and is_half:
        return _along_pool(known, 0.0, np.exp(log_numerator))
    inside = _each_sum(known, w)
    upper = inside + _pool_tail(known, w)
    if np.any(is_half):
        inside[is_half], upper[is_half] = known.overlap
    return _between(inside, upper, log_numerator)


def _each_sum(known: KnownTokens, weights: np.ndarray) -> np.ndarray:
    """sum over S of prod_i p_i^w_i, weights (..., M) to (..., n)."""
    sums = pool_sums(known.shared, np.atleast_2d(weights))
    return sums[0] if weights.ndim == 1 else sums


def _pool_tail(known: KnownTokens, weights: np.ndarray) -> np.ndarray:
    """Upper bound of sum prod_i p_i^w_i outside S, weights (..., M) to (..., n)."""
    if known.n_models == 2 and (weights > 0).all():
        return pool_tail(known, weights[..., 0])
    return np.exp(_mixed(weights, np.log(known.remainder)))


def product_losses(known: KnownTokens, *, exponent: float | np.ndarray = 1.0) -> RuleLosses:
    """prod p_i^(s / M), `exponent` s a number or (C,); without an upper end for s < 1 and an unknown vocabulary."""
    w, s = fusion.equal_weights(known.n_models), np.asarray(exponent, dtype=np.float64)
    if not (s > 0).all():
        raise ValueError(f"`exponent` must be above 0, got {exponent}")
    inside = _each_sum(known, s[..., None] * w)
    return _between(inside, inside + product_tail(known, s), s[..., None] * _mixed(w, known.target))


def product_tail(known: KnownTokens, exponent: float | np.ndarray) -> np.ndarray:
    """Upper bound of sum G^s outside S, G = prod p_i^(1 / M), `exponent` s > 0 a number or (C,); (n,) or (C, n).

    For s >= 1 the sum is at most theta^(s - 1) sum G, theta the largest G there; for s < 1, by Hoelder's inequality,
    |R|^(1 - s) (sum G)^s with |R| tokens outside S, and inf where that number is not known.
    """
    s = np.asarray(exponent, dtype=np.float64)[..., None]
    over, under = np.maximum(s - 1, 0), np.maximum(1 - s, 0)
    tail = np.exp(_largest_pool(known)) ** over * _pool_tail(known, fusion.equal_weights(known.n_models)) ** (1 - under)
    return np.where(under > 0, np.inf, tail) if known.n_outside is None else known.n_outside**under * tail


def _largest_pool(known: KnownTokens) -> np.ndarray:
    """Log of the largest prod_i p_i^(1 / M) that a token outside S can have, (n,)."""
    listed, cap = known.own_ends[:, 0], known.cap
    if known.n_models > 2:
        return np.maximum(listed, cap).mean(axis=0)
    # A token outside S is listed by one of two models at most.
    best = np.maximum(np.maximum(listed[0] + cap[1], listed[1] + cap[0]), cap[0] + cap[1])
    return 0.5 * best


def power_mean_losses(known: KnownTokens, *, order: float = 0.5, weight: Weight = 0.5) -> RuleLosses:
    """Power mean of any order; orders 0 and 1 are the logarithmic and the linear pool."""
    if order == 0:
        return log_linear_losses(known, weight=weight)
    if order == 1:
        return linear_losses(known, weight=weight)
    weights = weights_of(weight, known.n_models)
    sums = power_mean_sums(known.shared, np.atleast_2d(weights), order)
    inside = sums[0] if weights.ndim == 1 else sums
    lower, upper = _power_mean_tail(known, order, weights)
    target = _each(weights, lambda w: fusion.power_mean_numerator(known.target, w, order=order))
    return _between(inside + lower, inside + upper, np.log(np.maximum(target, TINY)))


def _power_mean_tail(known: KnownTokens, order: float, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the power mean's sum outside S, (..., n) each.

    Power means increase with their order, so a neighbouring order whose sum is known is a bound: order 0 is
    bounded by Hoelder, order 1/2 sums to sum w_i^2 r_i + 2 sum w_i w_j (B_ij outside S), order 1 to sum w_i r_i.
    sum w_i^(1/order) r_i is a lower bound for orders in (0, 1] (superadditivity) and an upper one above 1.
    """
    r = known.remainder
    mean = _mixed(weights, r)
    if order < 0:
        return np.zeros_like(mean), _pool_tail(known, weights)
    separate = _mixed(weights ** (1 / order), r)
    if order > 1:
        return mean, separate
    if order > 0.5:
        return separate, mean
    half = _mixed(weights**2, r)
    for (i, j), rest in zip(_pairs(known.n_models), _overlaps_outside(known), strict=True):
        half += 2 * (weights[..., i] * weights[..., j])[..., None] * rest
    return separate, half


def _overlaps_outside(known: KnownTokens) -> np.ndarray:
    """Upper bounds of the part of each pair's B that lies outside S, (P, n)."""
    if known.n_models == 2:
        return known.overlaps[:, 1] - known.overlaps[:, 0]
    equal = np.zeros((known.overlaps.shape[0], known.n_models))
    for place, pair in enumerate(_pairs(known.n_models)):
        equal[place, list(pair)] = 0.5
    return np.maximum(known.overlaps[:, 1] - pool_sums(known.shared, equal), 0)


def lin_log_losses(known: KnownTokens, *, mixture: float = 0.5, weight: Weight = 0.5) -> RuleLosses:
    """(1 - lam) LinearPool(weight) + lam LogPool(equal weights)."""
    linear = (1 - mixture) * _mixed(weights_of(weight, known.n_models), np.exp(known.target))
    equal = fusion.equal_weights(known.n_models)
    pool = mixture * np.exp(_mixed(equal, known.target))
    if known.n_models == 2:
        return _along_pool(known, linear, pool)
    inside = _each_sum(known, equal)
    normaliser = np.maximum(np.stack([inside, inside + _pool_tail(known, equal)]), fusion.MIN_NORMALISER)
    undefined = np.broadcast_to((mixture > 0) & (inside < fusion.MIN_NORMALISER), linear.shape)
    p = np.stack([linear + pool / total for total in normaliser])
    return RuleLosses(-np.log(np.maximum(p, TINY)), None, undefined)


def contrastive_losses(known: KnownTokens, *, strength: float) -> RuleLosses:
    """p_1^(1 + beta) p_2^(-beta) of the first two models: nothing bounds the tail from above, unless there is none.

    By Hoelder's inequality Z is at least 1 whatever the tail. A token that only the second model excludes makes Z
    infinite: undefined.
    """
    first, second = known.shared[0], known.shared[1]
    used = np.isfinite(first)
    excluded = (used & np.isneginf(second)).any(axis=1)
    second = np.where(np.isneginf(second), 0.0, second)
    scores = np.where(used, (1 + strength) * first - strength * second, -np.inf)
    largest = scores.max(axis=1)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    inside = largest + np.log(np.maximum(np.exp(scores - largest[:, None]).sum(axis=1), TINY))
    ends = np.stack([np.maximum(inside, 0.0), np.full_like(inside, np.inf)])
    log_normaliser = np.where(known.has_no_tail, inside, ends)
    target = np.maximum(scores[:, TARGET], np.log(TINY))
    return RuleLosses(log_normaliser - target, None, excluded)


def token_phase_losses(known: KnownTokens, *, phases_rad: np.ndarray, weight: Weight = 0.5) -> RuleLosses:
    """Born Rule Fusion with a phase per token, `phases_rad` (M, n, k + 1) on the tokens of `shared`.

    Outside S the phases are unknown: Z lies within sum w_i r_i -+ 2 sum sqrt(w_i w_j) (B_ij outside S) of its part
    on S.
    """
    w, target = weights_of(weight, known.n_models), phases_rad[:, :, TARGET]
    scores = _each(w, lambda row: fusion.born_numerator(known.target, row, phases_rad=target))
    inside, mean = _mixed(w, np.exp(known.shared).sum(axis=2)), _mixed(w, known.remainder)
    cross = np.zeros_like(mean)
    for (i, j), rest in zip(_pairs(known.n_models), _overlaps_outside(known), strict=True):
        factor = 2 * np.sqrt(w[..., i] * w[..., j])[..., None]
        inside += factor * cross_sums(known.shared, phases_rad, i, j)
        cross += factor * rest
    inside = np.maximum(inside, 0)
    lower, upper = inside + np.maximum(mean - cross, 0), inside + mean + cross
    return _between(lower, upper, np.log(np.maximum(scores, TINY)))
