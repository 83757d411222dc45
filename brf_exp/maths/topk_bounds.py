"""What top-k rows leave open of top-1 accuracy, and of the difference of two rules' losses."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.topk import TARGET, KnownTokens
from brf_exp.maths.topk_rules import MAX_JOINT_PAIRS, PIECES, RuleLosses, weights_of


def accuracy_bounds(known: KnownTokens, rule: str, **parameters: Any) -> np.ndarray:
    """Is the realised token the fused arg-max? Surely and possibly, (2, n) bool.

    Parameters: `rule` of fusion.RULES with its own `parameters`; `weight` as everywhere here.
    """
    weights = weights_of(parameters.pop("weight", 0.5), known.n_models)
    numerator = fusion.RULES[rule].numerator
    scores = numerator(known.shared, weights, **parameters)
    outside = _best_outside(known, lambda log_p: numerator(log_p, weights, **parameters))
    target, best_known = scores[:, TARGET], scores[:, 1:].max(axis=1)
    # A tie may be broken either way: possible, not sure.
    return np.stack([target > np.maximum(best_known, outside), target >= best_known])


def _best_outside(known: KnownTokens, numerator: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Largest fused score that a token outside S can have, (n,).

    Every numerator is monotone or convex in each probability's square root, so the largest score over a set of tokens
    and an interval is at an end of both: only the most and the least likely listed token, the cap and nothing need
    to be looked at. A token outside S is listed by one of two models at most; of more models by any but all.
    """
    nothing = np.full_like(known.cap[0], -np.inf)
    listed = [_extremes(own) for own in known.own]
    free: list[tuple[np.ndarray, ...]] = [(cap, nothing) for cap in known.cap]
    choices: list[tuple[tuple[np.ndarray, ...], ...]]
    if known.n_models == 2:
        choices = [(listed[0], free[1]), (free[0], listed[1]), (free[0], free[1])]
    else:
        choices = [tuple((*listed[model], *free[model]) for model in range(known.n_models))]
    points = [point for choice in choices for point in product(*choice)]
    candidates = np.stack([np.stack([point[model] for point in points], axis=1) for model in range(known.n_models)])
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(numerator(candidates), nan=0.0).max(axis=1)


def _extremes(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest log-probability listed in each row, (n,) each; -inf where none is."""
    used = np.isfinite(own)
    smallest = np.where(used, own, np.inf).min(axis=1)
    return own.max(axis=1), np.where(np.isinf(smallest), -np.inf, smallest)


def difference_bounds(known: KnownTokens, candidate: RuleLosses, reference: RuleLosses) -> np.ndarray:
    """Lower and upper bound per position of candidate minus reference loss, (2, n); infinite where nothing bounds it.

    Where both depend on the B's alone they are taken at the same B's. Without a mixed numerator (u or v is 0) their
    difference is ln of a ratio of linear functions, monotone along every B, and its ends are at corners of the box of
    all B. For two models and a mixed numerator B's interval is cut into PIECES, on each of which interval
    arithmetic contains every value, each loss being monotone.
    """
    separate = np.stack([candidate.bounds[0] - reference.bounds[1], candidate.bounds[1] - reference.bounds[0]])
    n_pairs = known.overlaps.shape[0]
    if candidate.coefficients is None or reference.coefficients is None or n_pairs > MAX_JOINT_PAIRS:
        return separate
    if not (_mixed(candidate.coefficients) or _mixed(reference.coefficients)):
        corners = [
            candidate.at(np.stack(corner)) - reference.at(np.stack(corner)) for corner in product(*known.overlaps)
        ]
        return np.stack([np.minimum.reduce(corners), np.maximum.reduce(corners)])
    lower, upper = known.overlap
    points = (lower + (upper - lower) * np.linspace(0, 1, PIECES + 1)[:, None])[:, None]
    first, second = candidate.at(points), reference.at(points)
    least = np.minimum(first[:-1], first[1:]) - np.maximum(second[:-1], second[1:])
    most = np.maximum(first[:-1], first[1:]) - np.minimum(second[:-1], second[1:])
    return np.stack([least.min(axis=0), most.max(axis=0)])


def _mixed(coefficients: np.ndarray) -> bool:
    return bool(((coefficients[-2] > 0) & (coefficients[-1] > 0)).any())
