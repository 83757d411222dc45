"""Phase maps: from the logit gap (top-1 minus top-2, >= 0) to a phase in radians."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.documents import Offsets, lengths_of

TWO_PI = 2.0 * np.pi


@dataclass(frozen=True)
class PhaseMap:
    """A named map phi(g; s): `formula` for people, `function(gaps, scale)` for arrays."""

    name: str
    formula: str
    function: Callable[[np.ndarray, float], np.ndarray]


PARAMETRIC_MAPS = {
    made.name: made
    for made in (
        PhaseMap("arctan", "2 arctan(g / s)", lambda g, s: 2.0 * np.arctan(g / s)),
        PhaseMap("linear", "2 pi g / s mod 2 pi", lambda g, s: np.mod(TWO_PI * g / s, TWO_PI)),
        PhaseMap("tanh", "pi tanh(g / s)", lambda g, s: np.pi * np.tanh(g / s)),
        PhaseMap("exponential", "pi (1 - exp(-g / s))", lambda g, s: -np.pi * np.expm1(-g / s)),
    )
}
# The maps of the specification curve, the primary first.
MAPS = (*PARAMETRIC_MAPS, "quantile")


@dataclass(frozen=True)
class PhaseTable:
    """A user's own map: phases (radians) at increasing gaps, linear between, constant beyond the ends."""

    gaps: np.ndarray
    phases_rad: np.ndarray

    def __post_init__(self) -> None:
        if self.gaps.size < 2 or self.gaps.shape != self.phases_rad.shape:
            raise ValueError(f"a phase table needs two or more (gap, phase) rows, got {self.gaps.size}")
        if not (np.isfinite(self.gaps).all() and np.isfinite(self.phases_rad).all()):
            raise ValueError("a phase table must hold finite numbers")
        if (np.diff(self.gaps) <= 0).any():
            raise ValueError("the gaps of a phase table must increase from row to row")

    def __call__(self, gaps: np.ndarray) -> np.ndarray:
        """Phases (radians) at the given gaps."""
        return np.interp(gaps, self.gaps, self.phases_rad)


def pooled_median(gaps: list[np.ndarray]) -> float:
    """Default scale s: the median of all models' gaps together (logits). Raises ValueError where it is 0."""
    scale = float(np.median(np.concatenate(gaps)))
    if not scale > 0:
        raise ValueError(f"the pooled median gap must be above 0 to serve as the scale, got {scale}")
    return scale


def tie_fraction(gaps: np.ndarray) -> float:
    """Share of positions whose gap equals another position's gap."""
    _, counts = np.unique(gaps, return_counts=True)
    return float(counts[counts > 1].sum() / gaps.size)


def uniform_ranks(gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The model's own empirical CDF at each gap, (rank - 1/2) / n; ties are broken at random.

    Stable tie-breaking by row order would be shared between models and look like coherence, so every model
    must be given a Generator of its own.
    """
    order = np.lexsort((rng.random(gaps.size), gaps))
    ranks = np.empty(gaps.size)
    ranks[order] = np.arange(gaps.size) + 0.5
    return ranks / gaps.size


def normal_scores(gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard normal quantiles of `uniform_ranks`."""
    return stats.norm.ppf(uniform_ranks(gaps, rng))


def phases(
    name: str, gaps: np.ndarray, *, scale: float | None, rng: np.random.Generator, table: PhaseTable | None = None
) -> np.ndarray:
    """Phases (radians) of one model's gaps under the named map.

    Parameters: `gaps` shape (n,), logits; `scale` s > 0 in logits (unused by `quantile` and `table`);
    `rng` breaks ties of `quantile`. Raises ValueError for an unknown map or a scale that is not positive.
    """
    if name == "quantile":
        return TWO_PI * uniform_ranks(gaps, rng)
    if name == "table":
        if table is None:
            raise ValueError("phase map `table` needs a table")
        return table(gaps)
    if name not in PARAMETRIC_MAPS:
        raise ValueError(f"`phase` must be one of {', '.join(sorted([*MAPS, 'table']))}, got {name!r}")
    if scale is None or not scale > 0:
        raise ValueError(f"`scale` must be above 0, got {scale!r}")
    return PARAMETRIC_MAPS[name].function(gaps, scale)


def circular_shift(phases_rad: np.ndarray, offsets: Offsets, rng: np.random.Generator) -> np.ndarray:
    """Phases turned round within each document by a uniform shift (0 included): a control that keeps their
    distribution and autocorrelation and breaks their tie to the position."""
    lengths = lengths_of(offsets)
    shifts = (rng.random(lengths.size) * lengths).astype(np.int64)
    starts = np.repeat(offsets[:-1], lengths)
    within = np.arange(phases_rad.size) - starts
    return phases_rad[starts + np.mod(within - np.repeat(shifts, lengths), np.repeat(lengths, lengths))]
