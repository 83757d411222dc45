"""What top-k rows leave open of top-1 accuracy, and of the difference of two rules' losses."""

from itertools import product
from typing import Any

import numpy as np

from brf_exp.maths.rules import RULES
from brf_exp.maths.tails import largest_outside
from brf_exp.maths.token_sums import BLOCK_NUMBERS
from brf_exp.maths.topk import TARGET, KnownTokens
from brf_exp.maths.topk_rules import MAX_JOINT_PAIRS, PIECES, RuleLosses, weights_of


def accuracy_bounds(known: KnownTokens, rule: str, **parameters: Any) -> np.ndarray:
    """Is the realised token the fused arg-max? Surely and possibly, (2, n) bool.

    Parameters: `rule` of rules.RULES with its own `parameters`, numbers or arrays (..., n); `weight` of one candidate.
    """
    weights = weights_of(parameters.pop("weight", 0.5), known.n_models)

    def scores(log_p: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        given = {
            name: value[..., rows] if isinstance(value, np.ndarray) else value for name, value in parameters.items()
        }
        return RULES[rule].numerator(log_p, weights, **given)

    outside = np.where(known.has_no_tail, 0.0, largest_outside(known, scores))
    target, best_known = np.empty(known.n), np.empty(known.n)
    # In blocks that stay in the processor's cache.
    n_rows = max(1, BLOCK_NUMBERS // known.shared.shape[2])
    for start in range(0, known.n, n_rows):
        rows = slice(start, start + n_rows)
        of_shared = scores(known.shared[:, rows], rows)
        target[rows], best_known[rows] = of_shared[:, TARGET], of_shared[:, 1:].max(axis=1)
    # A tie may be broken either way: possible, not sure.
    return np.stack([target > np.maximum(best_known, outside), target >= best_known])


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
