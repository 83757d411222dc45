"""Top-k rows of two models with what every forecast of them is made of, and what they tell of a forecast."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from brf_exp.maths.tails import TailSums, corners, require_two_models, tail_sums
from brf_exp.maths.topk import TARGET, KnownTokens


class TopRows:
    """Top-k rows of two models; what the forecasts of several rules share is worked out once, when first asked for.

    Raises ValueError for more models than two.
    """

    def __init__(self, known: KnownTokens) -> None:
        require_two_models(known)
        # Rows one after another in memory, so that sums along them are fast and do not depend on what else is there.
        self.known = replace(known, shared=np.ascontiguousarray(known.shared))

    @cached_property
    def p(self) -> np.ndarray:
        """Probabilities on the shared tokens, (2, n, K)."""
        return self._roots**2

    @cached_property
    def geometric(self) -> np.ndarray:
        """sqrt(p_1 p_2) on the shared tokens, (n, K)."""
        return self._roots[0] * self._roots[1]

    @cached_property
    def _roots(self) -> np.ndarray:
        return np.exp(0.5 * self.known.shared)

    @cached_property
    def own(self) -> tuple[np.ndarray, ...]:
        """Probabilities of the tokens that one model alone lists, (n, k) each; 0 where unused."""
        return tuple(np.exp(rows) for rows in self.known.own)

    @cached_property
    def own_squares(self) -> np.ndarray:
        """Their sums of squares, (2, n)."""
        return np.stack([np.vecdot(rows, rows) for rows in self.own])

    @cached_property
    def own_largest(self) -> np.ndarray:
        """The largest of them, (2, n)."""
        return np.stack([rows.max(axis=1) for rows in self.own])

    @cached_property
    def cap(self) -> np.ndarray:
        """The largest probability that an unlisted token can have, (2, n)."""
        return np.exp(self.known.cap)

    @cached_property
    def tail(self) -> TailSums:
        """Second moments outside S, at most."""
        return tail_sums(self.known)

    @cached_property
    def target_listed(self) -> np.ndarray:
        """Whether both models' top rows list the realised token, (n,) bool: what is left of each list besides."""
        in_common = (self.known.shared_ids[:, TARGET + 1 :] >= 0).sum(axis=1)
        left = [rows.shape[1] - np.isfinite(rows).sum(axis=1) - in_common for rows in self.known.own]
        return (left[0] > 0) & (left[1] > 0)

    @cached_property
    def corners(self) -> np.ndarray:
        """Log-probabilities (2, n, P) at one of which every numerator outside S is largest (tails.corners)."""
        return corners(self.known)

    @cached_property
    def corner_roots(self) -> np.ndarray:
        """Roots of the probabilities at the corners, (2, n, P)."""
        return np.exp(0.5 * self.corners)


Rows = KnownTokens | TopRows


def top_rows(rows: Rows) -> TopRows:
    """The rows, ready for forecasts of several rules."""
    return rows if isinstance(rows, TopRows) else TopRows(rows)


@dataclass(frozen=True)
class PartialForecast:
    """A fused forecast at n positions, as far as top-k rows tell it.

    `fixed` (None where it is 0), `scaled` (n, K): q = fixed + scaled r on S, the realised token first. `reciprocal`
    (2, n): bounds of r. `outside` (2, 3, n): bounds of sum fixed^2, sum fixed scaled, sum scaled^2 outside S, all
    >= 0. `peak` (2, 2, n): bounds of the largest probability outside S, each at both ends of r, where it may exceed 1.
    `undefined` (n,): Z may be 0.
    """

    fixed: np.ndarray | None
    scaled: np.ndarray
    reciprocal: np.ndarray
    outside: np.ndarray
    peak: np.ndarray
    undefined: np.ndarray

    @property
    def unbounded(self) -> np.ndarray:
        """Positions whose normaliser has no upper bound, (n,) bool."""
        return np.isinf(self.peak).any(axis=(0, 1)) | (self.reciprocal[0] <= 0)

    @property
    def middle(self) -> np.ndarray:
        """r at the middle of the normaliser's bounds, (n,)."""
        lower, upper = self.reciprocal
        return 2 * lower * (upper / (lower + upper))

    @property
    def at_target(self) -> tuple[np.ndarray | float, np.ndarray]:
        """The fixed and the scaled part at the realised token."""
        return 0.0 if self.fixed is None else self.fixed[:, TARGET], self.scaled[:, TARGET]

    def chosen(self, other: "PartialForecast", theirs: np.ndarray) -> "PartialForecast":
        """This forecast, and `other` at the positions `theirs` (n,)."""
        fixed = None
        if self.fixed is not None or other.fixed is not None:
            nothing = np.zeros_like(self.scaled)
            parts = [nothing if part is None else part for part in (other.fixed, self.fixed)]
            fixed = np.where(theirs[:, None], *parts)
        return PartialForecast(
            fixed=fixed,
            scaled=np.where(theirs[:, None], other.scaled, self.scaled),
            reciprocal=np.where(theirs, other.reciprocal, self.reciprocal),
            outside=np.where(theirs, other.outside, self.outside),
            peak=np.where(theirs, other.peak, self.peak),
            undefined=np.where(theirs, other.undefined, self.undefined),
        )
