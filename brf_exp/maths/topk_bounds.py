"""What top-k rows leave open of top-1 accuracy, and of the difference of two rules' losses."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from brf_exp.maths.rules import RULES
from brf_exp.maths.topk import TARGET, KnownTokens
from brf_exp.maths.topk_rules import MAX_JOINT_PAIRS, PIECES, RuleLosses, weights_of


def accuracy_bounds(known: KnownTokens, rule: str, **parameters: Any) -> np.ndarray:
    """Is the realised token the fused arg-max? Surely and possibly, (2, n) bool.

    Parameters: `rule` of rules.RULES with its own `parameters`; `weight` as everywhere here.
    """
    weights = weights_of(parameters.pop("weight", 0.5), known.n_models)
    numerator = RULES[rule].numerator
    scores = numerator(known.shared, weights, **parameters)
    outside = _best_outside(known, lambda log_p: numerator(log_p, weights, **parameters))
    outside = np.where(known.has_no_tail, 0.0, outside)
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


def difference_bounds(candidate: RuleLosses, reference: RuleLosses) -> np.ndarray:
    """Lower and upper bound per position of candidate minus reference loss, (2, n); infinite where nothing bounds it.

    Where both depend on the same B's alone they are taken at the same values of them; at two temperatures the models
    have two sets of B's, and nothing is shared. Without a mixed numerator (u or v is 0) their difference is ln of a
    ratio of linear functions, monotone along every B, and its ends are at corners of the box of all B. For two models
    and a mixed numerator B's interval is cut into PIECES, on each of which interval arithmetic contains every value,
    each loss being monotone.
    """
    separate = np.stack([candidate.bounds[0] - reference.bounds[1], candidate.bounds[1] - reference.bounds[0]])
    box, other = candidate.overlaps, reference.overlaps
    if box is None or other is None or box.shape[0] > MAX_JOINT_PAIRS:
        return separate
    return np.where((box == other).all(axis=(0, 1)), _joint(candidate, reference, box), separate)


def _joint(candidate: RuleLosses, reference: RuleLosses, box: np.ndarray) -> np.ndarray:
    """Bounds of the difference over all B's within `box` (P, 2, n), (2, n)."""
    corners = [candidate.at(np.stack(corner)) - reference.at(np.stack(corner)) for corner in product(*box)]
    ends = np.stack([np.minimum.reduce(corners), np.maximum.reduce(corners)])
    mixed = _mixed(candidate) | _mixed(reference)
    return np.where(mixed, _in_pieces(candidate, reference, box), ends) if mixed.any() else ends


def _in_pieces(candidate: RuleLosses, reference: RuleLosses, box: np.ndarray) -> np.ndarray:
    """Bounds of the difference along the one B, by interval arithmetic on pieces of its interval, (2, n)."""
    ((lower, upper),) = box
    points = (lower + (upper - lower) * np.linspace(0, 1, PIECES + 1)[:, None])[:, None]
    first, second = candidate.at(points), reference.at(points)
    least = np.minimum(first[:-1], first[1:]) - np.maximum(second[:-1], second[1:])
    most = np.maximum(first[:-1], first[1:]) - np.minimum(second[:-1], second[1:])
    return np.stack([least.min(axis=0), most.max(axis=0)])


def _mixed(losses: RuleLosses) -> np.ndarray:
    """Where the numerator has a part with B and one without, (n,) bool."""
    assert losses.coefficients is not None
    return np.asarray((losses.coefficients[-2] > 0) & (losses.coefficients[-1] > 0))
