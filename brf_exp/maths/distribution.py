"""A model's distribution of gaps from one pass over them, in memory that does not grow with the data."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.undefined import UndefinedStatisticError

# Distinct gaps that are told apart (32 MiB). Where there are more, the last bits of all of them are dropped until
# they fit: at 10^8 positions that leaves about six digits.
MAX_CELLS = 2**21


@dataclass(frozen=True)
class GapDistribution:
    """Empirical distribution of gaps (>= 0): `values` of the cells, ascending, and `counts` in them, (C,) each.

    `dropped_bits` of the values' mantissas are zero: 0 unless there are more than MAX_CELLS distinct gaps.
    """

    values: np.ndarray
    counts: np.ndarray
    dropped_bits: int = 0

    @property
    def n(self) -> int:
        """Number of gaps."""
        return int(self.counts.sum())

    @property
    def largest_atom(self) -> float:
        """Share of the most frequent gap: 1 where all are equal."""
        return float(self.counts.max() / self.n)

    @property
    def tie_fraction(self) -> float:
        """Share of positions whose gap another position has as well."""
        return float(self.counts[self.counts > 1].sum() / self.n)

    @property
    def median(self) -> float:
        """The middle gap, or the mean of the two middle ones."""
        upper = np.cumsum(self.counts)
        middle = [(self.n + 1) // 2, self.n // 2 + 1]
        return float(self.values[np.searchsorted(upper, middle)].mean())

    def quantile(self, p: np.ndarray | float) -> np.ndarray:
        """Gaps at probabilities p, linear between the middles of the cells' ranks."""
        upper = np.cumsum(self.counts)
        return np.interp(p, (upper - 0.5 * self.counts) / upper[-1], self.values)

    def uniform_ranks(self, gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Randomised probability integral transform F(g-) + U (F(g) - F(g-)), in (0, 1); shape of `gaps`.

        Ties are broken at random: breaking them by row order would be shared between models and look like
        coherence, so every model must be given a Generator of its own. Gaps that were not counted have the share
        of counted ones below them.
        """
        rounded = _rounded(gaps, self.dropped_bits)
        cells = np.searchsorted(self.values, rounded)
        nearest = np.minimum(cells, self.values.size - 1)
        counted = np.where(self.values[nearest] == rounded, self.counts[nearest], 0)
        below = np.append(0, np.cumsum(self.counts))
        # Away from 0 and 1, so that normal scores are finite.
        uniform = np.clip(rng.random(gaps.shape), 1e-12, 1 - 1e-12)
        return np.clip((below[cells] + uniform * counted) / self.n, 1e-12, 1 - 1e-12)

    def middle_ranks(self, gaps: np.ndarray) -> np.ndarray:
        """Middle of the ranks that each gap's cell takes, in (0, 1); `gaps` must be among those counted."""
        upper = np.cumsum(self.counts)
        return ((upper - 0.5 * self.counts) / upper[-1])[self._cells(gaps)]

    def _cells(self, gaps: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.values, _rounded(gaps, self.dropped_bits))


def _rounded(gaps: np.ndarray, dropped_bits: int) -> np.ndarray:
    """Gaps with the last bits of their mantissas cleared: non-negative floats order like their bits."""
    bits = np.ascontiguousarray(gaps, dtype=np.float64).view(np.uint64)
    shift = np.uint64(dropped_bits)
    return ((bits >> shift) << shift).view(np.float64)


def _merged(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, ascending, with their counts added up."""
    distinct, inverse = np.unique(values, return_inverse=True)
    return distinct, np.bincount(inverse, counts, distinct.size).astype(np.int64)


def gap_distribution(chunks: Iterable[np.ndarray], *, max_cells: int = MAX_CELLS) -> GapDistribution:
    """Distribution of all gaps in the chunks; how they are cut into chunks makes no difference.

    Raises ValueError for negative or non-finite gaps, UndefinedStatisticError for none.
    """
    values, counts, dropped = np.empty(0), np.empty(0, dtype=np.int64), 0
    for gaps in chunks:
        if not (np.isfinite(gaps).all() and (gaps >= 0).all()):
            raise ValueError("gaps must be finite and not negative")
        found, n = np.unique(_rounded(gaps, dropped), return_counts=True)
        values, counts = _merged(np.concatenate([values, found]), np.concatenate([counts, n]))
        while values.size > max_cells:
            dropped += 1
            values, counts = _merged(_rounded(values, dropped), counts)
    if not values.size:
        raise UndefinedStatisticError("no positions")
    return GapDistribution(values, counts, dropped)


def pooled(distributions: Iterable[GapDistribution]) -> GapDistribution:
    """All models' gaps together."""
    made = list(distributions)
    dropped = max(d.dropped_bits for d in made)
    values = _rounded(np.concatenate([d.values for d in made]), dropped)
    return GapDistribution(*_merged(values, np.concatenate([d.counts for d in made])), dropped)


def default_scale(distributions: Iterable[GapDistribution]) -> float:
    """Scale s of the phase maps: the median of all models' gaps together (logits).

    Raises UndefinedStatisticError where it is 0: half of the positions have two equal top logits.
    """
    scale = pooled(distributions).median
    if not scale > 0:
        raise UndefinedStatisticError("ties at zero", "half of the gaps are 0: the pooled median cannot be the scale")
    return scale


def scale_of(name: str, scale: float | None, distributions: Iterable[GapDistribution]) -> float | None:
    """The scale a phase map is used with: the one set, else the default; None for maps without one."""
    if name in ("quantile", "table"):
        return None
    return scale if scale is not None else default_scale(distributions)
