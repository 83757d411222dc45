"""How many tokens are needed, and what a given number can show: sample sizes of a document-level test."""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from brf_exp.maths.undefined import UndefinedStatisticError

MIN_DOCUMENTS = 20
MAX_POSITIONS = 10**12


@dataclass(frozen=True)
class Pilot:
    """What a pilot tells about precision: the standard error of an effect at its number of positions and documents.

    Documents of a later sample are taken to be as long as these, so that the standard error shrinks with the root of
    the number of positions.
    """

    standard_error: float
    n_positions: int
    n_documents: int

    def __post_init__(self) -> None:
        if self.n_documents < 2:
            raise UndefinedStatisticError("documents", f"at least 2 documents are needed, got {self.n_documents}")
        if not self.standard_error > 0:
            raise UndefinedStatisticError("no variation", "the standard error must be above 0")

    @property
    def document_positions(self) -> float:
        """Mean positions per document."""
        return self.n_positions / self.n_documents

    def error_at(self, n_positions: float) -> float:
        """Standard error at another number of positions."""
        return self.standard_error * float(np.sqrt(self.n_positions / n_positions))

    def df_at(self, n_positions: float) -> float:
        """Degrees of freedom, documents less one, at another number of positions."""
        return max(n_positions / self.document_positions - 1, 1.0)

    def scaled(self, factor: float) -> "Pilot":
        """The same pilot with another standard error."""
        return Pilot(self.standard_error * factor, self.n_positions, self.n_documents)

    def error_factors(self, confidence_level: float) -> tuple[float, float]:
        """Factors by which the true standard error may be smaller or larger: a variance with D - 1 df."""
        df, tail = self.n_documents - 1, (1 - confidence_level) / 2
        low, high = (float(np.sqrt(df / stats.chi2.ppf(q, df))) for q in (1 - tail, tail))
        return low, high


@dataclass(frozen=True)
class PowerEstimate:
    """Power to find an effect, with the interval that the uncertain standard error leaves."""

    power: float
    interval: tuple[float, float]
    n_documents: float


@dataclass(frozen=True)
class SampleSize:
    """Positions and documents that reach a power, with the interval that the uncertain standard error leaves.

    None where no affordable number does (above 10^12 positions).
    """

    n_positions: int | None
    n_documents: int | None
    interval: tuple[int | None, int | None]


def power_at(
    n_positions: int, *, effect: float, pilot: Pilot, alpha: float = 0.05, confidence_level: float = 0.95
) -> PowerEstimate:
    """Power of a two-sided level-alpha t test over documents to find a positive effect with `n_positions` positions."""
    low, high = pilot.error_factors(confidence_level)
    powers = [_power(n_positions, effect, pilot.scaled(factor), alpha) for factor in (1.0, high, low)]
    return PowerEstimate(powers[0], (powers[1], powers[2]), n_positions / pilot.document_positions)


def positions_for(
    power: float, *, effect: float, pilot: Pilot, alpha: float = 0.05, confidence_level: float = 0.95
) -> SampleSize:
    """Fewest positions with which the test of `power_at` has the given power; at least 20 documents.

    Raises ValueError for an effect that is not positive or a power outside (alpha, 1).
    """
    if not effect > 0:
        raise ValueError(f"`effect` must be above 0, got {effect}")
    if not alpha < power < 1:
        raise ValueError(f"`power` must be between alpha and 1, got {power}")
    low, high = pilot.error_factors(confidence_level)
    documents = [_fewest_documents(power, effect, pilot.scaled(factor), alpha) for factor in (1.0, low, high)]
    positions = [None if d is None else int(np.ceil(d * pilot.document_positions - 1e-6)) for d in documents]
    return SampleSize(positions[0], documents[0], (positions[1], positions[2]))


def _fewest_documents(power: float, effect: float, pilot: Pilot, alpha: float) -> int | None:
    def missing(log_documents: float) -> float:
        return _power(np.exp(log_documents) * pilot.document_positions, effect, pilot, alpha) - power

    least, most = np.log(MIN_DOCUMENTS), np.log(MAX_POSITIONS / pilot.document_positions)
    if missing(least) >= 0:
        return MIN_DOCUMENTS
    if missing(most) < 0:
        return None
    return int(np.ceil(np.exp(optimize.brentq(missing, least, most, xtol=1e-9)) - 1e-6))


def _power(n_positions: float, effect: float, pilot: Pilot, alpha: float) -> float:
    df = pilot.df_at(n_positions)
    critical = stats.t.ppf(1 - alpha / 2, df)
    # scipy's noncentral t gives NaN for large noncentrality, where power is 1.
    noncentrality = min(effect / pilot.error_at(n_positions), 30.0)
    return float(np.clip(stats.nct.sf(critical, df, noncentrality), 0.0, 1.0))
