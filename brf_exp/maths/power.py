"""Would ten thousand tokens be enough? Power of a document-level test at another sample size."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class PowerEstimate:
    """Power to find an effect, with the interval that the uncertain standard error leaves."""

    power: float
    interval: tuple[float, float]
    n_documents: float


def power_at(
    n_positions: int,
    *,
    effect: float,
    standard_error: float,
    observed_positions: int,
    observed_documents: int,
    alpha: float = 0.05,
    confidence_level: float = 0.95,
) -> PowerEstimate:
    """Power of a one-sided-relevant, two-sided level-alpha t test with `n_positions` positions.

    Documents are taken to be as long as those observed, so the standard error shrinks with the root of the number
    of positions. Its own uncertainty is that of a variance with D - 1 degrees of freedom. Raises ValueError for
    fewer than two documents.
    """
    if observed_documents < 2:
        raise ValueError(f"at least 2 documents are needed, got {observed_documents}")
    error = standard_error * np.sqrt(observed_positions / n_positions)
    n_documents = observed_documents * n_positions / observed_positions
    df = max(n_documents - 1, 1.0)
    observed_df = observed_documents - 1
    tail = (1 - confidence_level) / 2
    ratio = [observed_df / stats.chi2.ppf(q, observed_df) for q in (tail, 1 - tail)]
    powers = [_power(effect, error * np.sqrt(factor), df, alpha) for factor in (1.0, *ratio)]
    return PowerEstimate(powers[0], (powers[1], powers[2]), float(n_documents))


def _power(effect: float, error: float, df: float, alpha: float) -> float:
    critical = stats.t.ppf(1 - alpha / 2, df)
    # scipy's noncentral t gives NaN for large noncentrality, where power is 1.
    noncentrality = min(effect / error, 30.0)
    return float(np.clip(stats.nct.sf(critical, df, noncentrality), 0.0, 1.0))
