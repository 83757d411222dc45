"""Descriptive circular statistics. Rayleigh's test is here because it was asked for, not because it decides."""

from dataclasses import dataclass

import numpy as np
from astropy.stats import circstats
from scipy import stats

from brf_exp.maths.undefined import UndefinedStatisticError


@dataclass(frozen=True)
class RayleighResult:
    """Mean resultant length R, mean direction, z = n R^2, and the p-value for uniform independent angles."""

    n: int
    resultant_length: float
    mean_direction_rad: float
    statistic: float
    pvalue: float
    log_pvalue: float


def rayleigh(angles_rad: np.ndarray) -> RayleighResult:
    """Rayleigh's test of uniformity (astropy), with its known defects guarded.

    Assumes independent angles: token positions are not, so on captures this is descriptive only. astropy's
    p-value can leave [0, 1] at small n (Zar's example 27.2 gives -1e-5) and underflows to 0 above z = 745;
    it is clamped, and ln p (its leading term -z) is kept beside it.

    Parameters: `angles_rad` shape (n,), n >= 1, finite. Raises ValueError otherwise.
    References: Mardia & Jupp (2000) section 6.3; Greenwood & Durand (1955).

    >>> ages = np.deg2rad([45, 55, 81, 96, 110, 117, 132, 154])  # Zar (2010), example 26.2
    >>> round(rayleigh(ages).resultant_length, 5)
    0.82522
    """
    angles = np.asarray(angles_rad, dtype=np.float64)
    if angles.size == 0 or not np.isfinite(angles).all():
        raise ValueError("angles must be finite and at least one")
    mean = complex(np.cos(angles).mean(), np.sin(angles).mean())
    n = angles.size
    statistic = n * abs(mean) ** 2
    # astropy's p is exact enough from n = 13 on; below it can leave [0, 1], hence the clamp.
    pvalue = float(np.clip(circstats.rayleightest(angles), 0.0, 1.0))
    log_pvalue = float(np.log(pvalue)) if pvalue > 0 else -statistic
    return RayleighResult(n, abs(mean), float(np.angle(mean)), statistic, pvalue, log_pvalue)


def rayleigh_of_mean(n: int, mean: complex) -> RayleighResult:
    """Rayleigh's test from the mean of exp(i angle) alone, for data that are not held in memory.

    p is the approximation that astropy uses, exp(-z) with the correction of Greenwood & Durand below n = 50.

    >>> ages = np.deg2rad([45, 55, 81, 96, 110, 117, 132, 154])  # Zar (2010), example 26.2
    >>> round(rayleigh_of_mean(8, np.exp(1j * ages).mean()).statistic, 3)
    5.448
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    mean = complex(mean)
    z = n * abs(mean) ** 2
    correction = 1.0
    if n < 50:
        second = 24 * z - 132 * z**2 + 76 * z**3 - 9 * z**4
        correction += (2 * z - z**2) / (4 * n) - second / (288 * n**2)
    pvalue = float(np.clip(np.exp(-z) * correction, 0.0, 1.0))
    log_pvalue = float(np.log(pvalue)) if pvalue > 0 else -z
    return RayleighResult(n, abs(mean), float(np.angle(mean)), z, pvalue, log_pvalue)


def v_test_of_mean(n: int, mean: complex, *, direction_rad: float = 0.0) -> float:
    """V-test of uniformity against a direction from the mean of exp(i angle), clamped to [0, 1]; descriptive."""
    z = float(np.sqrt(2 * n) * (mean * np.exp(-1j * direction_rad)).real)
    first, second = 3 * z - z**3, 15 * z + 305 * z**3 - 125 * z**5 + 9 * z**7
    density = stats.norm.pdf(z)
    return float(np.clip(stats.norm.sf(z) + density * (first / (16 * n) + second / (4608 * n**2)), 0.0, 1.0))


def cluster_ppc(sums: np.ndarray, lengths: np.ndarray) -> float:
    """Pairwise phase consistency over pairs of positions from different documents.

    (|sum S_d|^2 - sum |S_d|^2) / (N^2 - sum T_d^2) for document sums `sums` (D,), complex, of T_d = `lengths`
    positions: unbiased where positions of one document are dependent. Raises UndefinedStatisticError for one document.
    """
    if lengths.size < 2:
        raise UndefinedStatisticError("documents", "cluster PPC needs two documents")
    pairs = float(lengths.sum()) ** 2 - float((lengths.astype(np.float64) ** 2).sum())
    return float((abs(sums.sum()) ** 2 - (np.abs(sums) ** 2).sum()) / pairs)


def v_test_pvalue(angles_rad: np.ndarray, *, direction_rad: float = 0.0) -> float:
    """V-test of uniformity against a given mean direction (astropy, clamped to [0, 1]); descriptive."""
    return float(np.clip(circstats.vtest(np.asarray(angles_rad, dtype=np.float64), mu=direction_rad), 0.0, 1.0))


def pairwise_phase_consistency(n: int, resultant_length: float) -> float:
    """PPC = (n R^2 - 1) / (n - 1): R^2 without its bias, for independent angles. Raises ValueError for n < 2."""
    if n < 2:
        raise ValueError(f"n must be at least 2, got {n}")
    return (n * resultant_length**2 - 1) / (n - 1)


def kuramoto_order(phases_rad: np.ndarray) -> np.ndarray:
    """Kuramoto order parameter |mean_i exp(i phi_i)| per position; phases (M, n) -> (n,)."""
    return np.abs(np.exp(1j * phases_rad).mean(axis=0))
