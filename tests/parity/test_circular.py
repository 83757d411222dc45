"""Circular statistics against scipy, astropy and pycircstat2."""

import numpy as np
import pytest
from astropy.stats import circstats
from scipy import stats

from brf_exp.maths.circular import harmonic_lengths, kuramoto_order, rayleigh, v_test_pvalue


@pytest.fixture(params=[(1, 13), (2, 60), (3, 400)])
def angles(request: pytest.FixtureRequest) -> np.ndarray:
    seed, n = request.param
    return np.random.default_rng(seed).vonmises(1.0, 0.3, n)


def test_rayleigh_against_astropy_and_scipy(angles: np.ndarray) -> None:
    found = rayleigh(angles)
    assert found.n == angles.size
    assert found.pvalue == pytest.approx(circstats.rayleightest(angles), rel=1e-12)
    assert found.mean_direction_rad == pytest.approx(stats.circmean(angles, high=np.pi, low=-np.pi))
    assert found.resultant_length == pytest.approx(1 - stats.circvar(angles))
    assert found.statistic == pytest.approx(angles.size * found.resultant_length**2)
    assert v_test_pvalue(angles, direction_rad=1.0) == pytest.approx(circstats.vtest(angles, mu=1.0), rel=1e-12)


def test_rayleigh_against_pycircstat2(angles: np.ndarray) -> None:
    hypothesis = pytest.importorskip("pycircstat2.hypothesis")
    theirs = hypothesis.rayleigh_test(alpha=np.mod(angles, 2 * np.pi))
    found = rayleigh(angles)
    assert found.resultant_length == pytest.approx(theirs.r, rel=1e-9)
    assert found.statistic == pytest.approx(theirs.z, rel=1e-9)
    # Zar's closed form there, Greenwood & Durand's series here.
    assert found.pvalue == pytest.approx(theirs.pval, rel=0.03, abs=1e-4)


def test_underflow_keeps_the_logarithm() -> None:
    found = rayleigh(np.zeros(2000))
    assert found.pvalue == 0.0
    assert found.log_pvalue == pytest.approx(-2000)


def test_harmonics_against_astropy(angles: np.ndarray) -> None:
    expected = [circstats.circmoment(angles, p=k)[1] for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(harmonic_lengths(angles), expected, rtol=1e-9)


def test_kuramoto_of_two_is_half_the_angle() -> None:
    first, second = np.random.default_rng(4).uniform(0, 2 * np.pi, size=(2, 50))
    np.testing.assert_allclose(
        kuramoto_order(np.stack([first, second])), np.abs(np.cos((first - second) / 2)), atol=1e-12
    )
