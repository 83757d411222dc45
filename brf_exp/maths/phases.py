"""Phase maps: from the logit gap (top-1 minus top-2, >= 0) to a phase in radians."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import Offsets, circular_shifts

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


def phases(
    name: str,
    gaps: np.ndarray,
    *,
    scale: float | None = None,
    table: PhaseTable | None = None,
    ranks: np.ndarray | None = None,
) -> np.ndarray:
    """Phases (radians) of one model's gaps under the named map.

    Parameters: `gaps` shape (n,), logits; `scale` s > 0 in logits (unused by `quantile` and `table`); `ranks` the
    gaps' uniform ranks in (0, 1), needed by `quantile` only (GapDistribution.uniform_ranks).
    Raises ValueError for an unknown map, a scale that is not positive, or a missing table or ranks.
    """
    if name == "quantile":
        if ranks is None:
            raise ValueError("phase map `quantile` needs the gaps' ranks")
        return TWO_PI * ranks
    if name == "table":
        if table is None:
            raise ValueError("phase map `table` needs a table")
        return table(gaps)
    if name not in PARAMETRIC_MAPS:
        raise ValueError(f"`phase` must be one of {', '.join(sorted([*MAPS, 'table']))}, got {name!r}")
    if scale is None or not scale > 0:
        raise ValueError(f"`scale` must be above 0, got {scale!r}")
    return PARAMETRIC_MAPS[name].function(gaps, scale)


@dataclass(frozen=True)
class Phasors:
    """exp(i phi) of a model's rows, worked out where they are sliced: nothing of the length of the data is kept.

    `values` (n,): gaps, or uniform ranks for the `quantile` map.
    """

    name: str
    values: np.ndarray
    scale: float | None = None
    table: PhaseTable | None = None

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Unit phasors of these rows, complex128."""
        values = self.values[rows]
        if self.name == "arctan" and self.scale is not None and self.scale > 0:
            # exp(2i arctan x) = (1 + ix)^2 / (1 + x^2): the same number, without a sine.
            half = 1 + 1j * (values / self.scale)
            return half * half / (half.real**2 + half.imag**2)
        angle = phases(self.name, values, scale=self.scale, table=self.table, ranks=values)
        z = np.empty(angle.shape, dtype=np.complex128)
        np.cos(angle, out=z.real)
        np.sin(angle, out=z.imag)
        return z


def circular_shift(values: np.ndarray, offsets: Offsets, rng: np.random.Generator) -> np.ndarray:
    """Values turned round within each document by a uniform shift (0 included): a control that keeps their
    distribution and autocorrelation and breaks their tie to the position."""
    return values[circular_shifts(offsets, rng)]
