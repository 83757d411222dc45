"""What lies outside the shared tokens of top-k rows, at most.

Of two models, tokens outside S are of three kinds: listed by model 1 only (its probability is known, the other's lies
between 0 and the cap), listed by model 2 only, and listed by neither (both lie between 0 and their caps).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from brf_exp.maths.topk import KnownTokens, pool_tail


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
    """Log-probabilities (M, n, points) of tokens outside S at one of which every rule's numerator is largest.

    Numerators are monotone in each probability or convex in its square root, so only ends count: the most and the
    least likely token of a list, the cap, and nothing. A token outside S is listed by one of two models at most; of
    more models by any but all.
    """
    nothing = np.full_like(known.cap[0], -np.inf)
    free: list[tuple[np.ndarray, ...]] = [(cap, nothing) for cap in known.cap]
    listed: list[tuple[np.ndarray, ...]] = [tuple(ends) for ends in known.own_ends]
    choices: list[tuple[tuple[np.ndarray, ...], ...]]
    if known.n_models == 2:
        choices = [(listed[0], free[1]), (free[0], listed[1]), (free[0], free[1])]
    else:
        choices = [tuple((*listed[model], *free[model]) for model in range(known.n_models))]
    points = [point for choice in choices for point in product(*choice)]
    return np.stack([np.stack([point[model] for point in points], axis=1) for model in range(known.n_models)])


def largest_outside(known: KnownTokens, numerator: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Largest value of a rule's `numerator`, of log-probabilities (M, n, P), that a token outside S can have, (n,)."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(numerator(corners(known)), nan=0.0).max(axis=1)


def product_squares(known: KnownTokens, exponent: float, tail: TailSums) -> np.ndarray:
    """Upper bound of sum G^(2 s) outside S, G = sqrt(p_1 p_2) and s = `exponent` in [1/2, 1], (n,).

    ln sum G^t is convex in t (Lyapunov), so the sum at 2 s lies below those at 1 and 2. Raises ValueError for other
    exponents.
    """
    if not 0.5 <= exponent <= 1:
        raise ValueError(f"`exponent` must be from 0.5 to 1, got {exponent}")
    return pool_tail(known, 0.5) ** (2 - 2 * exponent) * tail.product ** (2 * exponent - 1)
