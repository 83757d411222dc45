"""Is the realised token the fused arg-max? For the rules whose scores top-k rows do not give up to one factor.

`weight` is the first of two models' weight, or an array (M,) of all weights. All functions return (2, n) bool: surely,
possibly; a tie counts as possible, not as sure.
"""

from itertools import product

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.tails import largest_outside
from brf_exp.maths.topk import TARGET, KnownTokens
from brf_exp.maths.topk_rules import Weight, log_linear_losses, weights_of

# Models up to which all 2^M corners of what a token outside S can have are looked at.
MOST_CORNERS = 8


def mixture_top(known: KnownTokens, *, mixture: float, weight: Weight = 0.5) -> np.ndarray:
    """(1 - lam) LinearPool(weight) + lam LogPool(equal weights), whose log pool is normalised over the vocabulary.

    A difference of two tokens' scores is linear in r = 1 / Z of the log pool: what holds at both ends of r holds
    between.
    """
    weights, equal = weights_of(weight, known.n_models), fusion.equal_weights(known.n_models)
    pool = log_linear_losses(known)
    reciprocal = np.exp(-(pool.bounds + known.target.mean(axis=0)))
    surely, leads = np.ones(known.n, dtype=bool), np.zeros((known.n, known.shared.shape[2] - 1), dtype=bool)
    for r in reciprocal:

        def scores(log_p: np.ndarray, r: np.ndarray = r) -> np.ndarray:
            linear = fusion.linear_numerator(log_p, weights)
            return (1 - mixture) * linear + mixture * r[:, None] * fusion.product_numerator(log_p, equal)

        found = scores(known.shared)
        target, others = found[:, TARGET], found[:, TARGET + 1 :]
        outside = np.where(known.has_no_tail, 0.0, largest_outside(known, scores))
        surely &= target > np.maximum(others.max(axis=1, initial=0.0), outside)
        leads |= target[:, None] >= others
    is_open = pool.undefined & (mixture > 0)
    return np.stack([surely & ~is_open, leads.all(axis=1) | is_open])


def coherent_top(known: KnownTokens, *, coherence: np.ndarray, weight: Weight = 0.5) -> np.ndarray:
    """Born Rule Fusion of any number of models, `coherence` (P, n) c_ij = cos(phi_i - phi_j) per pair and position.

    The score is convex in the root of each model's probability, so its largest value over what a token outside S can
    have is at a corner: each model gives it the most it can, or nothing.
    """
    weights = weights_of(weight, known.n_models)
    most = _most(known, weights)
    if known.n_models > MOST_CORNERS:
        outside = most.sum(axis=0) ** 2
    else:
        outside = np.zeros(known.n)
        for corner in product((0.0, 1.0), repeat=known.n_models):
            roots = np.array(corner)[:, None, None] * most[:, :, None]
            outside = np.maximum(outside, _scores(roots, coherence)[:, 0])
    roots = np.sqrt(weights)[:, None, None] * np.exp(0.5 * known.shared)
    return _right(known, _scores(roots, coherence), outside)


def token_phase_top(known: KnownTokens, *, phases_rad: np.ndarray, weight: Weight = 0.5) -> np.ndarray:
    """Born Rule Fusion with a phase per token, `phases_rad` (M, n, k + 1) on the tokens of `shared`.

    Phases of tokens outside S are not known: one of them has at most the score with all of them aligned.
    """
    weights = weights_of(weight, known.n_models)
    scores = fusion.born_numerator(known.shared, weights, phases_rad=phases_rad)
    if known.n_models > 2:
        outside = _most(known, weights).sum(axis=0) ** 2
    else:
        outside = largest_outside(known, lambda log_p: fusion.coherent_numerator(log_p, weights, coherence=1.0))
    return _right(known, scores, outside)


def _most(known: KnownTokens, weights: np.ndarray) -> np.ndarray:
    """sqrt(w_i p_i) for the largest p_i that a token outside S can have, (M, n)."""
    largest = np.maximum(known.own_ends[:, 0], known.cap)
    return np.sqrt(weights)[:, None] * np.exp(0.5 * largest)


def _scores(roots: np.ndarray, coherence: np.ndarray) -> np.ndarray:
    """sum_i x_i^2 + 2 sum_{i<j} c_ij x_i x_j of roots x (M, n, K), (n, K)."""
    scores, pairs = (roots**2).sum(axis=0), zip(*np.triu_indices(roots.shape[0], 1), strict=True)
    for c, (i, j) in zip(coherence, pairs, strict=True):
        scores += 2 * c[:, None] * roots[i] * roots[j]
    return np.maximum(scores, 0)


def _right(known: KnownTokens, scores: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Scores on S (n, K), and the most that a token outside can have (n,)."""
    target, best = scores[:, TARGET], scores[:, TARGET + 1 :].max(axis=1, initial=0.0)
    outside = np.where(known.has_no_tail, 0.0, outside)
    return np.stack([target > np.maximum(best, outside), target >= best])
