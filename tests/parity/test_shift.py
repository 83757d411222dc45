"""Excess terms and their shift moments against all circular shifts, one by one."""

import numpy as np
import pytest

from brf_exp.maths.coherence import shift_null, shift_null_monte_carlo
from brf_exp.maths.pairing import Pairing, excess_term, pair_table, true_pairing


def _phasors(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.exp(1j * rng.gamma(2.0, 0.6, n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 13, 50, 101])
def test_excess_term_against_all_shifts(n: int) -> None:
    rng = np.random.default_rng(n)
    z1, z2 = _phasors(rng, n), _phasors(rng, n)
    by_shift = np.array([sum(z1[t] * np.conj(z2[(t - shift) % n]) for t in range(n)) for shift in range(n)])
    deviations = by_shift - by_shift.mean()
    excess, covariance = excess_term(z1, z2)
    assert excess == pytest.approx(deviations[0], abs=1e-10)
    # The mean over shifts is the product of the sums; the excess is n times the circular covariance.
    assert by_shift.mean() == pytest.approx(z1.sum() * np.conj(z2.sum()) / n, abs=1e-10)
    assert excess == pytest.approx(n * np.mean((z1 - z1.mean()) * np.conj(z2 - z2.mean())), abs=1e-10)
    expected = np.cov(deviations.real, deviations.imag, bias=True) if n > 1 else np.zeros((2, 2))
    np.testing.assert_allclose(covariance, [expected[0, 0], expected[1, 1], expected[0, 1]], atol=1e-10)


def test_closed_form_is_the_quadratic_form_of_all_shifts() -> None:
    rng = np.random.default_rng(5)
    lengths = [7, 12, 31]
    total, covariance = 0j, np.zeros((2, 2))
    terms = []
    for n in lengths:
        z1, z2 = _phasors(rng, n), _phasors(rng, n)
        by_shift = np.array([(z1 * np.conj(np.roll(z2, shift))).sum() for shift in range(n)])
        deviations = by_shift - by_shift.mean()
        total += deviations[0]
        covariance += np.cov(deviations.real, deviations.imag, bias=True)
        terms.append(excess_term(z1, z2))
    pairing = Pairing(np.array(lengths), np.array([t[0] for t in terms]), np.stack([t[1] for t in terms]))
    point = np.array([total.real, total.imag])
    q = point @ np.linalg.inv(covariance) @ point
    found = shift_null(pairing)
    assert found.statistic == pytest.approx(q, rel=1e-9)
    assert found.pvalue == pytest.approx(np.exp(-q / 2), rel=1e-9)


def test_closed_form_against_monte_carlo() -> None:
    rng = np.random.default_rng(6)
    offsets = np.arange(0, 20 * 60 + 1, 60)
    z1, z2 = _phasors(rng, 1200), _phasors(rng, 1200)
    exact = shift_null(true_pairing(pair_table(z1, z2, offsets))).pvalue
    drawn = shift_null_monte_carlo(z1, z2, offsets, n=4000, rng=rng)
    assert 0.01 < exact < 0.99
    assert drawn == pytest.approx(exact, abs=0.03)
