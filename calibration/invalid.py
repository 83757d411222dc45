"""Tests that must not be used, so that it can be seen that they fail: negative controls of the calibration."""

import numpy as np
from scipy import stats

from brf_exp.maths.documents import Offsets


def padded_document_permutation(z1: np.ndarray, z2: np.ndarray, offsets: Offsets) -> float:
    """p of a permutation of documents of unequal length, padded with zeros to the longest."""
    first, second = _padded(z1, offsets), _padded(z2, offsets)
    products = first @ np.conj(second).T
    centred = products - products.mean(axis=0) - products.mean(axis=1, keepdims=True) + products.mean()
    parts = centred.real.ravel(), centred.imag.ravel()
    covariance = np.array([[a @ b for b in parts] for a in parts]) / (offsets.size - 2)
    return _elliptic(complex(np.trace(centred)), covariance)


def _padded(z: np.ndarray, offsets: Offsets) -> np.ndarray:
    lengths = np.diff(offsets)
    table = np.zeros((lengths.size, int(lengths.max())), dtype=np.complex128)
    table[np.arange(table.shape[1]) < lengths[:, None]] = z
    return table


def stratified_permutation(z1: np.ndarray, z2: np.ndarray, difficulty: np.ndarray, *, n_strata: int) -> float:
    """p of a permutation of single tokens within strata of equal difficulty, by its first two moments."""
    order = np.argsort(difficulty, kind="stable")
    excess, covariance = 0j, np.zeros((2, 2))
    for rows in np.array_split(order, n_strata):
        a, b = z1[rows] - z1[rows].mean(), z2[rows] - z2[rows].mean()
        excess += (a * np.conj(b)).sum()
        covariance += _permuted_covariance(a, b)
    return _elliptic(excess, covariance)


def _permuted_covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Covariance (2, 2) of the real and imaginary part of sum a_i conj(b_pi(i)) over permutations; a, b centred."""
    power = (np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum() / (a.size - 1)
    pseudo = (a**2).sum() * np.conj((b**2).sum()) / (a.size - 1)
    return np.array([[power + pseudo.real, pseudo.imag], [pseudo.imag, power - pseudo.real]]) / 2


def _elliptic(total: complex, covariance: np.ndarray) -> float:
    """p of a two-dimensional normal deviation from 0."""
    point = np.array([total.real, total.imag])
    return float(stats.chi2.sf(point @ np.linalg.solve(covariance, point), 2))
