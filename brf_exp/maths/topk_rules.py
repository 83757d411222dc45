"""Fusion rules on top-k rows of M models: log loss as an interval, with what two rules' losses have in common.

A rule's loss at a position is ln Z - ln N(y). N(y) is exact; Z is known up to what lies outside the shared
tokens. Most rules share their unknowns, the Bhattacharyya coefficients B of pairs of models: their losses are kept
as functions of B, so that contrasts can be bounded jointly, both rules at the same B. Rules whose normaliser has
another unknown keep (lower, upper) only.

`weight` is the first of two models' weight, or an array (M,) of all weights.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.topk import TARGET, KnownTokens, pool_tail

PIECES = 8
# Pairs of models up to which contrasts are bounded jointly: the corners of the box of all B are 2^pairs.
MAX_JOINT_PAIRS = 6
Weight = float | np.ndarray


@dataclass(frozen=True)
class RuleLosses:
    """Log losses of one rule at n positions, in nats.

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
        return self.bounds.mean(axis=0)

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
    return np.log(np.maximum(normaliser, fusion.MIN_NORMALISER)) - np.log(np.maximum(u + v / safe[..., 0, :], 1e-300))


def _along_overlap(known: KnownTokens, a: Weight, k: np.ndarray | float, u: Weight, v: Weight) -> RuleLosses:
    """Losses as a function of the B's: `k` (P, n) or a number for all pairs; the others (n,) or numbers."""
    n_pairs, n = known.overlaps.shape[0], known.n
    k = np.broadcast_to(np.asarray(k, dtype=np.float64), (n_pairs, n))
    single = [np.broadcast_to(np.asarray(row, dtype=np.float64), (1, n)) for row in (a, u, v)]
    coefficients = np.concatenate([single[0], k, single[1], single[2]])
    # Each B at the end that makes the normaliser least, and at the one that makes it largest.
    least = np.where(k >= 0, known.overlaps[:, 0], known.overlaps[:, 1])
    most = np.where(k >= 0, known.overlaps[:, 1], known.overlaps[:, 0])
    smallest = single[0][0] + (k * least).sum(axis=0)
    empty_pool = (single[2][0] > 0) & (known.overlaps[:, 0].min(axis=0) < fusion.MIN_NORMALISER)
    nothing = (single[1][0] <= 0) & (single[2][0] <= 0)
    undefined = (smallest < fusion.MIN_NORMALISER) | nothing | empty_pool
    bounds = _ordered(_loss_at(coefficients, np.stack([least, most])))
    return RuleLosses(bounds, coefficients, undefined, known.overlaps)


def _ordered(ends: np.ndarray) -> np.ndarray:
    """Two rows as (smaller, larger)."""
    return np.stack([np.minimum(ends[0], ends[1]), np.maximum(ends[0], ends[1])])


def weights_of(weight: Weight, n_models: int) -> np.ndarray:
    """Weights (M,) from the first of two models' weight, from all of them, or from 0.5 meaning equal ones."""
    if isinstance(weight, np.ndarray):
        return weight
    if n_models == 2:
        return np.array([weight, 1 - weight])
    if weight != 0.5:
        raise ValueError(f"`weight` must be an array of {n_models} weights, got {weight}")
    return fusion.equal_weights(n_models)


def _pairs(n_models: int) -> list[tuple[int, int]]:
    return list(combinations(range(n_models), 2))


def coherent_losses(known: KnownTokens, *, coherence: np.ndarray | float, weight: Weight = 0.5) -> RuleLosses:
    """Born Rule Fusion with c = cos(phi_i - phi_j) per position and pair: Z = 1 + 2 sum c_ij sqrt(w_i w_j) B_ij.

    `coherence`: (P, n), or (n,) or a number for all pairs alike.
    """
    w, pairs = weights_of(weight, known.n_models), _pairs(known.n_models)
    c = np.broadcast_to(coherence, (len(pairs), known.n))
    cross = np.stack([2 * np.sqrt(w[i] * w[j]) * c[place] for place, (i, j) in enumerate(pairs)])
    p = np.exp(known.target)
    roots = np.stack([np.sqrt(p[i] * p[j]) for i, j in pairs])
    numerator = w @ p + (cross * roots).sum(axis=0)
    return _along_overlap(known, 1.0, cross, np.maximum(numerator, 0.0), 0.0)


def linear_losses(known: KnownTokens, *, weight: Weight = 0.5) -> RuleLosses:
    """The linear pool: a point."""
    return _point(known, weights_of(weight, known.n_models) @ np.exp(known.target))


def _point(known: KnownTokens, p: np.ndarray) -> RuleLosses:
    """The loss of a forecast that needs no normalisation."""
    return _along_overlap(known, 1.0, 0.0, p, 0.0)


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
    log_numerator = w @ known.target
    if known.n_models == 2 and w[0] == 0.5:
        return _along_overlap(known, 1.0, 0.0, 0.0, np.exp(log_numerator))
    inside = fusion.product_numerator(known.shared, w).sum(axis=1)
    return _between(inside, inside + _pool_tail(known, w), log_numerator)


def _pool_tail(known: KnownTokens, weights: np.ndarray) -> np.ndarray:
    """Upper bound of sum prod_i p_i^w_i outside S, (n,)."""
    if known.n_models == 2 and 0 < weights[0] < 1:
        return pool_tail(known, float(weights[0]))
    return np.prod(known.remainder ** weights[:, None], axis=0)


def product_losses(known: KnownTokens, *, exponent: float = 1.0) -> RuleLosses:
    """prod p_i^(s / M): for s > 1 the tail is at most theta^(s - 1) times that of s = 1, theta the largest
    prod p_i^(1 / M) outside S; for s < 1 it has no bound without the vocabulary size and is not offered."""
    if exponent < 1:
        raise ValueError(f"`exponent` must be at least 1 on top-k rows, got {exponent}")
    w = fusion.equal_weights(known.n_models)
    inside = fusion.product_numerator(known.shared, w, exponent=exponent).sum(axis=1)
    with np.errstate(invalid="ignore"):
        largest = _largest_pool(known)
        theta = np.where(np.isneginf(largest), 0.0, np.exp(largest))
    tail = theta ** (exponent - 1) * _pool_tail(known, w)
    return _between(inside, inside + tail, exponent * (w @ known.target))


def _largest_pool(known: KnownTokens) -> np.ndarray:
    """Log of the largest prod_i p_i^(1 / M) that a token outside S can have, (n,)."""
    listed = [rows.max(axis=1) for rows in known.own]
    if known.n_models > 2:
        return np.mean(np.maximum(np.stack(listed), known.cap), axis=0)
    # A token outside S is listed by one of two models at most.
    return 0.5 * np.maximum(np.maximum(listed[0] + known.cap[1], listed[1] + known.cap[0]), known.cap[0] + known.cap[1])


def power_mean_losses(known: KnownTokens, *, order: float = 0.5, weight: Weight = 0.5) -> RuleLosses:
    """Power mean of any order; orders 0 and 1 are the logarithmic and the linear pool."""
    if order == 0:
        return log_linear_losses(known, weight=weight)
    if order == 1:
        return linear_losses(known, weight=weight)
    weights = weights_of(weight, known.n_models)
    scores = fusion.power_mean_numerator(known.shared, weights, order=order)
    lower, upper = _power_mean_tail(known, order, weights)
    inside = scores.sum(axis=1)
    return _between(inside + lower, inside + upper, np.log(np.maximum(scores[:, TARGET], 1e-300)))


def _power_mean_tail(known: KnownTokens, order: float, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the power mean's sum outside S, (n,) each.

    Power means increase with their order, so a neighbouring order whose sum is known is a bound: order 0 is
    bounded by Hoelder, order 1/2 sums to sum w_i^2 r_i + 2 sum w_i w_j (B_ij outside S), order 1 to sum w_i r_i.
    sum w_i^(1/order) r_i is a lower bound for orders in (0, 1] (superadditivity) and an upper one above 1.
    """
    r = known.remainder
    mean = weights @ r
    if order < 0:
        return np.zeros_like(mean), _pool_tail(known, weights)
    separate = weights ** (1 / order) @ r
    if order > 1:
        return mean, separate
    half = weights**2 @ r
    for place, (i, j) in enumerate(_pairs(known.n_models)):
        inside = np.exp(0.5 * (known.shared[i] + known.shared[j])).sum(axis=1)
        half = half + 2 * weights[i] * weights[j] * np.maximum(known.overlaps[place, 1] - inside, 0)
    return separate, half if order <= 0.5 else mean


def _between(lower: np.ndarray, upper: np.ndarray, log_numerator: np.ndarray) -> RuleLosses:
    safe = np.maximum(np.stack([lower, upper]), fusion.MIN_NORMALISER)
    return RuleLosses(np.log(safe) - log_numerator, None, ~(lower >= fusion.MIN_NORMALISER))


def lin_log_losses(known: KnownTokens, *, mixture: float = 0.5, weight: Weight = 0.5) -> RuleLosses:
    """(1 - lam) LinearPool(weight) + lam LogPool(equal weights)."""
    w = weights_of(weight, known.n_models)
    linear = w @ np.exp(known.target)
    equal = fusion.equal_weights(known.n_models)
    pool = np.exp(equal @ known.target)
    if known.n_models == 2:
        return _along_overlap(known, 1.0, 0.0, (1 - mixture) * linear, mixture * pool)
    inside = fusion.product_numerator(known.shared, equal).sum(axis=1)
    normaliser = np.stack([inside + _pool_tail(known, equal), inside])
    undefined = (mixture > 0) & (inside < fusion.MIN_NORMALISER)
    p = (1 - mixture) * linear + mixture * pool / np.maximum(normaliser, fusion.MIN_NORMALISER)
    return RuleLosses(_ordered(-np.log(np.maximum(p, 1e-300))), None, undefined)


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
    inside = np.logaddexp.reduce(scores, axis=1)
    ends = np.stack([np.maximum(inside, 0.0), np.full_like(inside, np.inf)])
    log_normaliser = np.where(known.has_no_tail, inside, ends)
    target = np.maximum(scores[:, TARGET], np.log(1e-300))
    return RuleLosses(log_normaliser - target, None, excluded)


def token_phase_losses(known: KnownTokens, *, phases_rad: np.ndarray, weight: Weight = 0.5) -> RuleLosses:
    """Born Rule Fusion with a phase per token, `phases_rad` (M, n, k + 1) on the tokens of `shared`.

    Outside S the phases are unknown: Z lies within sum w_i r_i -+ 2 sum sqrt(w_i w_j) (B_ij outside S) of its part
    on S.
    """
    w = weights_of(weight, known.n_models)
    scores = fusion.born_numerator(known.shared, w, phases_rad=phases_rad)
    inside, mean = scores.sum(axis=1), w @ known.remainder
    cross = np.zeros(known.n)
    for place, (i, j) in enumerate(_pairs(known.n_models)):
        listed = np.exp(0.5 * (known.shared[i] + known.shared[j])).sum(axis=1)
        cross += 2 * np.sqrt(w[i] * w[j]) * np.maximum(known.overlaps[place, 1] - listed, 0)
    lower, upper = inside + np.maximum(mean - cross, 0), inside + mean + cross
    return _between(lower, upper, np.log(np.maximum(scores[:, TARGET], 1e-300)))
