"""Every fusion rule on top-k rows of two models: log loss as an interval, top-1 accuracy as an interval.

A rule's loss at a position is ln Z - ln N(y). N(y) is exact; Z is known up to what lies outside the shared
tokens. Most rules share one unknown, the Bhattacharyya coefficient B: their losses are kept at points along B, so
that contrasts can be bounded jointly, both rules at the same B. Rules whose normaliser has another unknown keep
(lower, upper) only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.topk import TARGET, KnownTokens

PIECES = 8


@dataclass(frozen=True)
class RuleLosses:
    """Log losses of one rule at n positions, in nats.

    `bounds` (2, n): lower and upper end. `coefficients` (4, n) or None: where B is the only unknown, the loss is
    ln(a + k B) - ln(u + v / B) with rows a, k, u, v; it is monotone in B.
    `undefined` (n,): positions where the normaliser may be 0.
    """

    bounds: np.ndarray
    coefficients: np.ndarray | None
    undefined: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """Midpoint per position, what tuning looks at."""
        return self.bounds.mean(axis=0)

    def at(self, overlap: np.ndarray) -> np.ndarray:
        """Loss at given values of B, (P, n) -> (P, n)."""
        if self.coefficients is None:
            raise ValueError("this rule's loss is not a function of the overlap alone")
        return _loss_at(self.coefficients, overlap)


def _loss_at(coefficients: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    a, k, u, v = coefficients
    safe = np.maximum(overlap, fusion.MIN_NORMALISER)
    return np.log(np.maximum(a + k * safe, fusion.MIN_NORMALISER)) - np.log(np.maximum(u + v / safe, 1e-300))


def _along_overlap(known: KnownTokens, a: Any, k: Any, u: Any, v: Any) -> RuleLosses:
    n = known.overlap.shape[1]
    coefficients = np.stack([np.broadcast_to(np.asarray(row, dtype=np.float64), (n,)) for row in (a, k, u, v)])
    a, k, u, v = coefficients
    smallest = np.minimum(a + k * known.overlap[0], a + k * known.overlap[1])
    empty_pool = (v > 0) & (known.overlap[0] < fusion.MIN_NORMALISER)
    undefined = (smallest < fusion.MIN_NORMALISER) | ((u <= 0) & (v <= 0)) | empty_pool
    return RuleLosses(_ordered(_loss_at(coefficients, known.overlap)), coefficients, undefined)


def _ordered(ends: np.ndarray) -> np.ndarray:
    """Two rows as (smaller, larger)."""
    return np.stack([np.minimum(ends[0], ends[1]), np.maximum(ends[0], ends[1])])


def _weights(weight: float) -> np.ndarray:
    return np.array([weight, 1 - weight])


def coherent_losses(known: KnownTokens, *, coherence: np.ndarray | float, weight: float = 0.5) -> RuleLosses:
    """Born Rule Fusion with c = cos(phi_1 - phi_2) per position (or one number): Z = 1 + 2 c sqrt(w_1 w_2) B."""
    cross = 2 * np.sqrt(weight * (1 - weight)) * np.broadcast_to(coherence, known.target.shape[1:])
    p = np.exp(known.target)
    numerator = weight * p[0] + (1 - weight) * p[1] + cross * np.sqrt(p[0] * p[1])
    return _along_overlap(known, 1.0, cross, np.maximum(numerator, 0.0), 0.0)


def linear_losses(known: KnownTokens, *, weight: float = 0.5) -> RuleLosses:
    """The linear pool: a point."""
    return coherent_losses(known, coherence=0.0, weight=weight)


def single_losses(known: KnownTokens, *, model: int) -> RuleLosses:
    """One model alone: a point."""
    return _along_overlap(known, 1.0, 0.0, np.exp(known.target[model]), 0.0)


def routed_losses(known: KnownTokens, *, confidence: np.ndarray) -> RuleLosses:
    """The model with the larger confidence (2, n) at each position; ties go to the first."""
    chosen = np.argmax(confidence, axis=0)
    return _along_overlap(known, 1.0, 0.0, np.exp(np.take_along_axis(known.target, chosen[None], axis=0)[0]), 0.0)


def oracle_losses(known: KnownTokens) -> RuleLosses:
    """The model that does better at each position: an upper bound on routing, never a rival."""
    return _along_overlap(known, 1.0, 0.0, np.exp(known.target.max(axis=0)), 0.0)


def log_linear_losses(known: KnownTokens, *, weight: float = 0.5) -> RuleLosses:
    """The logarithmic pool: Z = B at equal weights, else bounded by Hoelder's inequality."""
    log_numerator = weight * known.target[0] + (1 - weight) * known.target[1]
    if weight == 0.5:
        return _along_overlap(known, 1.0, 0.0, 0.0, np.exp(log_numerator))
    inside = fusion.product_numerator(known.shared, _weights(weight)).sum(axis=1)
    tail = known.remainder[0] ** weight * known.remainder[1] ** (1 - weight)
    return _between(inside, inside + tail, log_numerator)


def product_losses(known: KnownTokens, *, exponent: float = 1.0) -> RuleLosses:
    """prod p_i^(s / 2): for s > 1 the tail is at most theta^(s - 1) sqrt(r_1 r_2), theta the largest
    sqrt(p_1 p_2) outside S; for s < 1 it has no bound without the vocabulary size and is not offered."""
    if exponent < 1:
        raise ValueError(f"`exponent` must be at least 1 on top-k rows, got {exponent}")
    numerator = exponent * 0.5 * known.target.sum(axis=0)
    inside = fusion.product_numerator(known.shared, _weights(0.5), exponent=exponent).sum(axis=1)
    own = [rows.max(axis=1) for rows in known.own]
    largest = 0.5 * np.maximum(np.maximum(own[0] + known.cap[1], own[1] + known.cap[0]), known.cap[0] + known.cap[1])
    with np.errstate(invalid="ignore"):
        theta = np.where(np.isneginf(largest), 0.0, np.exp(largest))
    tail = theta ** (exponent - 1) * np.sqrt(known.remainder[0] * known.remainder[1])
    return _between(inside, inside + tail, numerator)


def power_mean_losses(known: KnownTokens, *, order: float = 0.5, weight: float = 0.5) -> RuleLosses:
    """Power mean of any order; orders 0 and 1 are the logarithmic and the linear pool."""
    if order == 0:
        return log_linear_losses(known, weight=weight)
    if order == 1:
        return linear_losses(known, weight=weight)
    weights = _weights(weight)
    scores = fusion.power_mean_numerator(known.shared, weights, order=order)
    lower, upper = _power_mean_tail(known, order, weights)
    inside = scores.sum(axis=1)
    return _between(inside + lower, inside + upper, np.log(np.maximum(scores[:, TARGET], 1e-300)))


def _power_mean_tail(known: KnownTokens, order: float, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the power mean's sum outside S, (n,) each.

    Power means increase with their order, so a neighbouring order whose sum is known is a bound: order 0 is
    bounded by Hoelder, order 1/2 sums to w_1^2 r_1 + w_2^2 r_2 + 2 w_1 w_2 (B outside S), order 1 to sum w_i r_i.
    sum w_i^(1/order) r_i is a lower bound for orders in (0, 1] (superadditivity) and an upper one above 1.
    """
    r = known.remainder
    mean = weights @ r
    if order < 0:
        return np.zeros_like(mean), r[0] ** weights[0] * r[1] ** weights[1]
    separate = weights ** (1 / order) @ r
    if order > 1:
        return mean, separate
    inside = np.exp(0.5 * known.shared.sum(axis=0)).sum(axis=1)
    half = weights**2 @ r + 2 * weights.prod() * np.maximum(known.overlap[1] - inside, 0)
    return separate, half if order <= 0.5 else mean


def _between(lower: np.ndarray, upper: np.ndarray, log_numerator: np.ndarray) -> RuleLosses:
    safe = np.maximum(np.stack([lower, upper]), fusion.MIN_NORMALISER)
    return RuleLosses(np.log(safe) - log_numerator, None, ~(lower >= fusion.MIN_NORMALISER))


def lin_log_losses(known: KnownTokens, *, mixture: float = 0.5, weight: float = 0.5) -> RuleLosses:
    """(1 - lam) LinearPool(weight) + lam LogPool(equal weights)."""
    p = np.exp(known.target)
    linear = weight * p[0] + (1 - weight) * p[1]
    return _along_overlap(known, 1.0, 0.0, (1 - mixture) * linear, mixture * np.sqrt(p[0] * p[1]))


@dataclass(frozen=True)
class Votes:
    """The voted token of two models: whether both vote alike, whether the realised token won, and the voted
    token's linear-pool probability as (lower, upper), each (n,)."""

    agree: np.ndarray
    hit: np.ndarray
    pool: tuple[np.ndarray, np.ndarray]


def votes(known: KnownTokens) -> Votes:
    """Plurality of two arg-max tokens; a tie goes to the larger mean probability.

    Where the other model's probability of a voted token is not in its top-k, it enters the tie-break as 0.
    """
    agree = known.argmax_ids[0] == known.argmax_ids[1]
    means, exact = [], []
    for model in (0, 1):
        other = _log_p_of(known, known.argmax_ids[model], of=1 - model)
        exact.append(np.isfinite(other))
        means.append(0.5 * (np.exp(known.max_log_p[model]) + np.exp(other)))
    second = ~agree & (means[1] > means[0])
    voted = np.where(second, known.argmax_ids[1], known.argmax_ids[0])
    lower = np.where(second, means[1], means[0])
    known_exactly = np.where(second, exact[1], exact[0])
    slack = 0.5 * np.exp(np.where(second, known.cap[0], known.cap[1]))
    return Votes(agree, voted == known.shared_ids[:, TARGET], (lower, np.where(known_exactly, lower, lower + slack)))


def _log_p_of(known: KnownTokens, ids: np.ndarray, *, of: int) -> np.ndarray:
    """Log-probability that model `of` gives to one id per row where the id is shared, else -inf; (n,)."""
    matches = known.shared_ids == ids[:, None]
    return np.where(matches, known.shared[of], -np.inf).max(axis=1)


def vote_losses(known: KnownTokens, ballot: Votes, *, hit_rate: np.ndarray) -> RuleLosses:
    """Vote-gated forecast: -ln hit_rate on a hit, else -ln((1 - hit_rate) linear(y) / (1 - linear(v)))."""
    p = np.exp(known.target)
    linear = 0.5 * (p[0] + p[1])
    ends = []
    for pool in reversed(ballot.pool):
        miss = -np.log1p(-hit_rate) - np.log(linear) + np.log1p(-np.minimum(pool, 1 - 1e-12))
        ends.append(np.where(ballot.hit, -np.log(hit_rate), miss))
    return RuleLosses(np.stack(ends), None, np.zeros(linear.size, dtype=bool))


def accuracy_bounds(known: KnownTokens, rule: str, **parameters: Any) -> tuple[float, float]:
    """Share of positions whose realised token is the fused arg-max, as (surely, possibly).

    A token outside S is scored at the ends of what its unknown probability can be. Every numerator is monotone or
    convex in each probability's square root, so the largest score over a set of tokens and an interval is at an end
    of both: only the most and the least likely listed token and the cap need to be looked at.
    """
    weights = _weights(parameters.pop("weight", 0.5))
    numerator = fusion.RULES[rule].numerator
    scores = numerator(known.shared, weights, **parameters)
    nothing = np.full_like(known.cap[0], -np.inf)
    (most1, least1), (most2, least2) = (_extremes(own) for own in known.own)
    ends1, ends2 = (known.cap[0], nothing), (known.cap[1], nothing)
    pairs = [(first, second) for first in (most1, least1) for second in ends2]
    pairs += [(first, second) for first in ends1 for second in (most2, least2)]
    pairs += [(first, second) for first in ends1 for second in ends2]
    candidates = np.stack([np.stack([first for first, _ in pairs], axis=1), np.stack([s for _, s in pairs], axis=1)])
    with np.errstate(invalid="ignore"):
        outside = np.nan_to_num(numerator(candidates, weights, **parameters), nan=0.0).max(axis=1)
    target = scores[:, TARGET]
    best_known = scores[:, 1:].max(axis=1)
    # A tie may be broken either way: possible, not sure.
    surely = target > np.maximum(best_known, outside)
    return float(surely.mean()), float((target >= best_known).mean())


def _extremes(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest log-probability listed in each row, (n,) each; -inf where none is."""
    used = np.isfinite(own)
    smallest = np.where(used, own, np.inf).min(axis=1)
    return own.max(axis=1), np.where(np.isinf(smallest), -np.inf, smallest)


def difference_bounds(known: KnownTokens, candidate: RuleLosses, reference: RuleLosses) -> np.ndarray:
    """Lower and upper bound per position of candidate minus reference loss, (2, n).

    Where both depend on B alone they are taken at the same B. Without a mixed numerator (u or v is 0) their
    difference is monotone in B and its ends are exact; otherwise B's interval is cut into PIECES, on each of
    which interval arithmetic contains every value, each loss being monotone.
    """
    if candidate.coefficients is None or reference.coefficients is None:
        return np.stack([candidate.bounds[0] - reference.bounds[1], candidate.bounds[1] - reference.bounds[0]])
    if not (_mixed(candidate.coefficients) or _mixed(reference.coefficients)):
        return _ordered(candidate.at(known.overlap) - reference.at(known.overlap))
    lower, upper = known.overlap
    points = lower + (upper - lower) * np.linspace(0, 1, PIECES + 1)[:, None]
    first, second = candidate.at(points), reference.at(points)
    least = np.minimum(first[:-1], first[1:]) - np.maximum(second[:-1], second[1:])
    most = np.maximum(first[:-1], first[1:]) - np.minimum(second[:-1], second[1:])
    return np.stack([least.min(axis=0), most.max(axis=0)])


def _mixed(coefficients: np.ndarray) -> bool:
    return bool(((coefficients[2] > 0) & (coefficients[3] > 0)).any())
