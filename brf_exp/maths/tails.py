"""What lies outside the shared tokens of two models' top-k rows, at most.

Tokens outside S are of three kinds: listed by model 1 only (its probability is known, the other's lies between 0 and
the cap), listed by model 2 only, and listed by neither (both lie between 0 and their caps).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.topk import KnownTokens


def require_two_models(known: KnownTokens) -> None:
    """Raises ValueError for more models than two."""
    if known.n_models != 2:
        raise ValueError(f"`known` must be of two models, got {known.n_models}")


@dataclass(frozen=True)
class TailSums:
    """Upper bounds outside S: `squares` (2, n) of sum p_i^2, `product` (n,) of sum p_1 p_2."""

    squares: np.ndarray
    product: np.ndarray


def tail_sums(known: KnownTokens) -> TailSums:
    """Second moments outside S, at most.

    sum p_i^2: the listed tokens exactly, the others at most cap times mass. sum p_1 p_2: a model's unlisted mass earns
    most on the likeliest tokens of the other's list, each taking up to its cap; all of them earn at least as much as
    a token listed by neither, so the list is filled first and min(cap_1 m_2, cap_2 m_1) is left for the masses m that
    remain. Raises ValueError for more models than two.
    """
    require_two_models(known)
    own = [np.exp(rows) for rows in known.own]
    cap = np.exp(known.cap)
    squares = np.stack([(p**2).sum(axis=1) for p in own]) + cap * known.unlisted
    earned2, left2 = _filled(own[0], known.unlisted[1], cap[1])
    earned1, left1 = _filled(own[1], known.unlisted[0], cap[0])
    return TailSums(squares, earned1 + earned2 + np.minimum(cap[0] * left2, cap[1] * left1))


def _filled(listed: np.ndarray, mass: np.ndarray, cap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest sum of listed (n, k) times what the other model puts there, and the mass it has left; (n,) each."""
    ranked = -np.sort(-listed, axis=1)
    put = np.clip(mass[:, None] - np.arange(listed.shape[1]) * cap[:, None], 0, cap[:, None]) * (ranked > 0)
    return (ranked * put).sum(axis=1), np.maximum(mass - put.sum(axis=1), 0)


def corners(known: KnownTokens) -> np.ndarray:
    """Log-probabilities (2, n, 12) of the pairs outside S at one of which every rule's numerator is largest.

    Numerators are monotone in each probability or convex in its square root, so only ends count: the most and the
    least likely token of a list, the cap, and nothing.
    """
    nothing = np.full_like(known.cap[0], -np.inf)
    listed = [_listed_ends(rows) for rows in known.own]
    open_ends = [(known.cap[model], nothing) for model in (0, 1)]
    pairs = [(a, b) for a in listed[0] for b in open_ends[1]] + [(a, b) for a in open_ends[0] for b in listed[1]]
    pairs += [(a, b) for a in open_ends[0] for b in open_ends[1]]
    return np.stack([np.stack([pair[model] for pair in pairs], axis=1) for model in (0, 1)])


def _listed_ends(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest log-probability listed, (n,) each; -inf where none is."""
    smallest = np.where(np.isfinite(own), own, np.inf).min(axis=1)
    return own.max(axis=1), np.where(np.isposinf(smallest), -np.inf, smallest)


def largest_outside(known: KnownTokens, numerator: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Largest value of a rule's `numerator` on log-probabilities (2, n, P) that a token outside S can have, (n,)."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(numerator(corners(known)), nan=0.0).max(axis=1)
