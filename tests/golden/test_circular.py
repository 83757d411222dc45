"""Published numbers of circular statistics; the tolerance is the digits that were printed."""

import numpy as np
import pytest

from brf_exp.maths.circular import harmonic_lengths, pairwise_phase_consistency, rayleigh, v_test_pvalue

# Jammalamadaka & SenGupta (2001), p. 23: mean direction 48.63 degrees; moments from R's CircStats, as in astropy.
JAMMALAMADAKA = [51, 67, 40, 109, 31, 358]
# Zar (2010), example 26.2: vanishing directions; mean 99 degrees, r = .82522, and example 27.1: z = 5.448.
ZAR_26_2 = [45, 55, 81, 96, 110, 117, 132, 154]
# Zar (2010), example 27.2: V-test against 90 degrees, P < .0005; astropy's Rayleigh p is negative here (-1.01e-5).
ZAR_27_2 = [66, 75, 86, 88, 88, 93, 97, 101, 118, 130]
# Zar (2010), example 27.4.
ZAR_27_4 = [10, 15, 25, 30, 30, 30, 35, 45, 50, 60, 75, 80, 100, 110, 255, 270, 280, 280, 300, 320, 330, 350, 350, 355]
# Mardia (1972): stopping places of a roulette wheel; mean 51 degrees, R = .71.
ROULETTE = [43, 45, 52, 61, 75, 88, 88, 279, 357]
# astropy's test of rayleightest and vtest, made with R's CircStats.
ASTROPY_FIVE = [190.18, 175.48, 155.95, 217.83, 156.36]
# The same, four angles.
ASTROPY_FOUR = [130, 90, 0, 145]
# R's CircStats by way of astropy's test of grouped data, each angle repeated as often as it was seen.
GROUPED = np.repeat([0, 3.6, 36, 72, 108, 169.2, 324], [12, 1, 6, 1, 2, 1, 1])
# The docstring of pingouin.circ_rayleigh: z = 1.236 (radians).
PINGOUIN_RAD = [0.785, 1.570, 3.141, 0.839, 5.934]
# The test data of pycircstat (radians): z = 3.1678.
PYCIRCSTAT_RAD = [
    *(-0.94904375, 0.26575165, -0.03226759, 1.98389239, 2.0084918, 0.56965871, -0.19199522, -0.33080002),
    *(-0.03141245, 1.18560637, 4.31138236, 4.84776075, 2.10336819, 3.45465972, 4.64572697, 5.80976322),
    *(6.27160926, 0.67979652, 1.33776004, 0.58059308),
]


@pytest.mark.parametrize(
    ("degrees", "mean_degrees", "tolerance"),
    [
        (JAMMALAMADAKA, 48.6272, 5e-5),
        (ZAR_26_2, 98.9878, 5e-5),
        (ASTROPY_FOUR, 101.168943, 5e-7),
        (ROULETTE, 51.05, 5e-3),
    ],
)
def test_mean_direction(degrees: list[float], mean_degrees: float, tolerance: float) -> None:
    assert np.rad2deg(rayleigh(np.deg2rad(degrees)).mean_direction_rad) == pytest.approx(mean_degrees, abs=tolerance)


@pytest.mark.parametrize(
    ("degrees", "length", "tolerance"),
    [
        (JAMMALAMADAKA, 1 - 0.1635635, 5e-8),
        (ASTROPY_FIVE, 0.9202565, 5e-8),
        (GROUPED, 0.766282, 5e-7),
        (ZAR_26_2, 0.825218, 5e-7),
        (ZAR_27_2, 0.952137, 5e-7),
        (ZAR_27_4, 0.563045, 5e-7),
        (ROULETTE, 0.710991, 5e-7),
    ],
)
def test_resultant_length(degrees: list[float], length: float, tolerance: float) -> None:
    assert rayleigh(np.deg2rad(degrees)).resultant_length == pytest.approx(length, abs=tolerance)


@pytest.mark.parametrize(
    ("angles_rad", "z", "tolerance"),
    [
        (np.deg2rad(ZAR_26_2), 5.4479, 5e-5),
        (np.deg2rad(ZAR_27_4), 7.6085, 5e-5),
        (np.deg2rad(ROULETTE), 4.5496, 5e-5),
        (PYCIRCSTAT_RAD, 3.1678, 5e-5),
        (PINGOUIN_RAD, 1.236190, 5e-7),
    ],
)
def test_rayleigh_statistic(angles_rad: list[float], z: float, tolerance: float) -> None:
    assert rayleigh(np.array(angles_rad)).statistic == pytest.approx(z, abs=tolerance)


@pytest.mark.parametrize(
    ("angles_rad", "pvalue", "relative"),
    [
        (np.deg2rad(ASTROPY_FIVE), 0.00640418, 1e-6),
        (np.deg2rad(ASTROPY_FOUR), 0.25634877, 1e-7),
        (np.deg2rad(GROUPED), 1.80766e-07, 1e-5),
        (np.deg2rad(ZAR_26_2), 0.0016442, 5e-5),  # Zar: .001 < P < .002
        (np.deg2rad(ZAR_27_4), 0.000288057, 5e-6),
        (PYCIRCSTAT_RAD, 0.0400557, 5e-6),
        (PINGOUIN_RAD, 0.306200, 5e-6),
    ],
)
def test_rayleigh_pvalue(angles_rad: list[float], pvalue: float, relative: float) -> None:
    found = rayleigh(np.array(angles_rad))
    assert found.pvalue == pytest.approx(pvalue, rel=relative)
    assert found.log_pvalue == pytest.approx(np.log(pvalue), abs=1e-4)


@pytest.mark.parametrize(
    ("n", "z", "pvalue"),
    # Exact tails by Bessel integral, P(R > r) = 1 - r int J1(r t) J0(t)^n dt.
    [(10, 2.9957, 0.045865), (20, 4.6, 0.0084848), (100, 6.9, 0.00092316)],
)
def test_rayleigh_against_exact_tails(n: int, z: float, pvalue: float) -> None:
    half_angle = np.arccos(np.sqrt(z / n))
    found = rayleigh(np.tile([half_angle, -half_angle], n // 2))
    assert found.statistic == pytest.approx(z, rel=1e-12)
    # From n = 50 on astropy leaves the correction out: up to a tenth too high here.
    assert found.pvalue == pytest.approx(pvalue, rel=0.002 if n < 50 else 0.1)


@pytest.mark.parametrize(("degrees", "pvalue"), [(ASTROPY_FIVE, 0.9994725), (ASTROPY_FOUR, 0.62236782)])
def test_v_test(degrees: list[float], pvalue: float) -> None:
    assert v_test_pvalue(np.deg2rad(degrees)) == pytest.approx(pvalue, abs=5e-8)


def test_zar_27_2_is_clamped() -> None:
    angles = np.deg2rad(ZAR_27_2)
    found = rayleigh(angles)
    assert found.pvalue == 0.0
    assert found.log_pvalue == -found.statistic
    assert 0.0 <= v_test_pvalue(angles, direction_rad=np.pi / 2) < 0.0005


def test_moments_of_jammalamadaka() -> None:
    lengths = harmonic_lengths(np.deg2rad(JAMMALAMADAKA))
    # The book's third length is off in its fifth digit (.236564 is right), as astropy's own tolerance knows.
    np.testing.assert_allclose(lengths[[0, 1, 3]], [1 - 0.1635635, 0.4800428, 0.2255761], atol=5e-8)
    assert lengths[2] == pytest.approx(0.236541, abs=5e-5)


def test_pairwise_phase_consistency_is_the_mean_over_pairs() -> None:
    # Vinck et al. (2010), eq. 14: the mean cosine over all pairs of distinct observations.
    angles = np.array(PYCIRCSTAT_RAD)
    pairs = [np.cos(a - b) for i, a in enumerate(angles) for j, b in enumerate(angles) if i != j]
    found = pairwise_phase_consistency(angles.size, rayleigh(angles).resultant_length)
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
