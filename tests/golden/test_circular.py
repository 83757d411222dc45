"""Published numbers of circular statistics; the tolerance is the digits that were printed."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from scipy import optimize, special, stats

from brf_exp.maths.circular import (
    RayleighResult,
    pairwise_phase_consistency,
    rayleigh,
    rayleigh_of_mean,
    v_test_of_mean,
    v_test_pvalue,
)
from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.phases import phases
from brf_exp.maths.secondary import Harmonic

# Jammalamadaka & SenGupta (2001), p. 23: mean direction 48.63 degrees; moments from R's CircStats, as in astropy.
JAMMALAMADAKA = [51, 67, 40, 109, 31, 358]
# astropy's test of vonmisesmle, made with R's circular (radians): mu 3.006514.
VON_MISES_RAD = [
    *(3.3699057, 4.0411630, 0.5014477, 2.6223103, 3.7336524),
    *(1.8136389, 4.1566039, 2.7806317, 2.4672173, 2.8493644),
]
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
# Homing pigeons, in the tests of pycircstat2: U2 = .13613; R's circular prints the modified value, .1370.
PIGEONS = [20, 135, 145, 165, 170, 200, 300, 325, 335, 350, 350, 350, 355]
# The docstrings of pingouin.circ_rayleigh and circ_vtest (radians): z = 1.236; V = 2.486 against 1.
PINGOUIN_RAD = [0.785, 1.570, 3.141, 0.839, 5.934]
# The test data of pycircstat (radians): z = 3.1678.
PYCIRCSTAT_RAD = [
    *(-0.94904375, 0.26575165, -0.03226759, 1.98389239, 2.0084918, 0.56965871, -0.19199522, -0.33080002),
    *(-0.03141245, 1.18560637, 4.31138236, 4.84776075, 2.10336819, 3.45465972, 4.64572697, 5.80976322),
    *(6.27160926, 0.67979652, 1.33776004, 0.58059308),
]

Form = Callable[[np.ndarray], RayleighResult]


def _of_mean(angles: np.ndarray) -> RayleighResult:
    return rayleigh_of_mean(angles.size, complex(np.exp(1j * angles).mean()))


# All angles at once, and from nothing but their number and their mean.
both_forms = pytest.mark.parametrize("form", [rayleigh, _of_mean])


@both_forms
@pytest.mark.parametrize(
    ("degrees", "mean_degrees", "tolerance"),
    [
        (JAMMALAMADAKA, 48.6272, 5e-5),
        (np.rad2deg(VON_MISES_RAD), np.rad2deg(3.006514), 5e-5),
        (ZAR_26_2, 98.9878, 5e-5),
        (ASTROPY_FOUR, 101.168943, 5e-7),
        (ROULETTE, 51.05, 5e-3),
    ],
)
def test_mean_direction(form: Form, degrees: list[float], mean_degrees: float, tolerance: float) -> None:
    found = form(np.deg2rad(degrees))
    assert np.rad2deg(found.mean_direction_rad) == pytest.approx(mean_degrees, abs=tolerance)


@both_forms
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
def test_resultant_length(form: Form, degrees: list[float], length: float, tolerance: float) -> None:
    assert form(np.deg2rad(degrees)).resultant_length == pytest.approx(length, abs=tolerance)


@both_forms
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
def test_rayleigh_statistic(form: Form, angles_rad: list[float], z: float, tolerance: float) -> None:
    assert form(np.array(angles_rad)).statistic == pytest.approx(z, abs=tolerance)


@both_forms
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
def test_rayleigh_pvalue(form: Form, angles_rad: list[float], pvalue: float, relative: float) -> None:
    found = form(np.array(angles_rad))
    assert found.pvalue == pytest.approx(pvalue, rel=relative)
    assert found.log_pvalue == pytest.approx(np.log(pvalue), abs=1e-4)


@both_forms
@pytest.mark.parametrize(
    ("angles_rad", "pvalue", "tolerance"),
    [
        (np.deg2rad(ZAR_26_2), 0.00185164, 5e-9),
        (np.deg2rad(ZAR_27_2), 5.30386e-06, 5e-12),
        (np.deg2rad(ASTROPY_FIVE), 0.0069155, 5e-8),
        (PYCIRCSTAT_RAD, 0.0400878, 5e-8),
        (PINGOUIN_RAD, 0.304844, 5e-7),
    ],
)
def test_closed_form_of_zar(form: Form, angles_rad: list[float], pvalue: float, tolerance: float) -> None:
    """Zar (2010), equation 27.4, exp(sqrt(1 + 4n + 4(n^2 - R^2)) - (1 + 2n)), from the number and length found.

    The values are those of pycircstat2.rayleigh_test and pingouin.circ_rayleigh.
    """
    found = form(np.array(angles_rad))
    n, total = found.n, found.n * found.resultant_length
    assert np.exp(np.sqrt(1 + 4 * n + 4 * (n**2 - total**2)) - (1 + 2 * n)) == pytest.approx(pvalue, abs=tolerance)


def _exact_tail(n: int, z: float) -> float:
    """P(n R^2 > z) for n independent uniform angles, 1 - R int J1(R t) J0(t)^n dt with R = sqrt(n z).

    Kluyver's (1906) integral, as a sum of Gauss-Legendre panels.
    """
    total = np.sqrt(n * z)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    t = (np.arange(0, 120, 2.0)[:, None] + 1 + nodes).ravel()
    return float(1 - total * np.tile(weights, 60) @ (special.j1(total * t) * special.j0(t) ** n))


TAILS = [
    # Exact tails, the numbers kept from an earlier evaluation of the integral.
    *((10, 2.9957, 0.045865), (20, 4.6, 0.0084848), (49, 6.9, 0.00083637), (50, 2.9957, 0.04924)),
    *((50, 4.6, 0.00944), (50, 6.9, 0.000840), (100, 6.9, 0.00092316), (200, 9.2, 9.2817e-05)),
]


@pytest.mark.parametrize(("n", "z", "pvalue"), TAILS)
def test_rayleigh_against_exact_tails(n: int, z: float, pvalue: float) -> None:
    assert _exact_tail(n, z) == pytest.approx(pvalue, rel=1e-3)
    found = rayleigh_of_mean(n, complex(np.sqrt(z / n)))
    assert found.statistic == pytest.approx(z, rel=1e-12)
    # From n = 50 on the correction is left out, as in astropy: a fifth too high at .001 for n = 50.
    assert found.pvalue == pytest.approx(_exact_tail(n, z), rel=0.002 if n < 50 else 0.21)
    assert found.pvalue >= 0.998 * _exact_tail(n, z)


@pytest.mark.parametrize(
    ("n", "at_5_percent", "at_1_percent"),
    # Exact critical values of z, likewise.
    [(10, 2.9187, 4.2899), (20, 2.9579, 4.4514), (50, 2.9807, 4.5446), (100, 2.9883, 4.5750)],
)
def test_exact_critical_values(n: int, at_5_percent: float, at_1_percent: float) -> None:
    for level, expected in ((0.05, at_5_percent), (0.01, at_1_percent)):
        exact = optimize.brentq(lambda z, level=level: _exact_tail(n, z) - level, 1.0, 6.0)
        assert exact == pytest.approx(expected, abs=1e-4)
        found = rayleigh_of_mean(n, complex(np.sqrt(exact / n))).pvalue
        assert found == pytest.approx(level, rel=0.005 if n < 50 else 0.07)
    # The limit for many angles: -ln .05 and -ln .01, 2.9957 and 4.6052.
    assert rayleigh_of_mean(10**9, complex(np.sqrt(2.9957 / 1e9))).pvalue == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize(("degrees", "pvalue"), [(ASTROPY_FIVE, 0.9994725), (ASTROPY_FOUR, 0.62236782)])
def test_v_test(degrees: list[float], pvalue: float) -> None:
    # astropy's test of vtest, made with R's CircStats.
    assert v_test_pvalue(np.deg2rad(degrees)) == pytest.approx(pvalue, abs=5e-8)
    mean = complex(np.exp(1j * np.deg2rad(degrees)).mean())
    assert v_test_of_mean(len(degrees), mean) == pytest.approx(pvalue, abs=5e-8)


@both_forms
@pytest.mark.parametrize(
    ("angles_rad", "direction_rad", "v", "u_tolerance", "pvalue"),
    [
        # Zar (2010), example 27.2: V = 9.498, u = 4.248, P < .0005.
        (np.deg2rad(ZAR_27_2), np.pi / 2, 9.49761, (4.24746, 5e-6), None),
        # The docstring of pingouin.circ_vtest: V = 2.486, p = .0579 without a correction.
        (PINGOUIN_RAD, 1.0, 2.485943, (2.485943 * np.sqrt(2 / 5), 5e-7), 0.057946),
    ],
)
def test_v_statistic(
    form: Form,
    angles_rad: list[float],
    direction_rad: float,
    v: float,
    u_tolerance: tuple[float, float],
    pvalue: float | None,
) -> None:
    found = form(np.array(angles_rad))
    along = found.n * found.resultant_length * np.cos(found.mean_direction_rad - direction_rad)
    assert along == pytest.approx(v, abs=5e-6)
    u = along * np.sqrt(2 / found.n)
    assert u == pytest.approx(u_tolerance[0], abs=u_tolerance[1])
    if pvalue is not None:
        assert stats.norm.sf(u) == pytest.approx(pvalue, abs=5e-7)


@both_forms
def test_zar_27_2_is_clamped(form: Form) -> None:
    angles = np.deg2rad(ZAR_27_2)
    found = form(angles)
    assert found.pvalue == 0.0
    assert found.log_pvalue == -found.statistic
    assert 0.0 <= v_test_pvalue(angles, direction_rad=np.pi / 2) < 0.0005
    assert 0.0 <= v_test_of_mean(10, complex(np.exp(1j * angles).mean()), direction_rad=np.pi / 2) < 0.0005


def test_moments_of_jammalamadaka() -> None:
    z = np.exp(1j * np.deg2rad(JAMMALAMADAKA))
    moments = np.array([Harmonic(z, k)[:].mean() for k in (1, 2, 3, 4)])
    # The book's third length is off in its fifth digit (.236564 is right), as astropy's own tolerance knows.
    np.testing.assert_allclose(np.abs(moments)[[0, 1, 3]], [1 - 0.1635635, 0.4800428, 0.2255761], atol=5e-8)
    assert abs(moments[2]) == pytest.approx(0.236541, abs=5e-5)
    np.testing.assert_allclose(np.angle(moments[1:]), [1.588121, 1.963919, 2.685556], atol=5e-6)


def test_pairwise_phase_consistency_is_the_mean_over_pairs() -> None:
    # Vinck et al. (2010), eq. 14: the mean cosine over all pairs of distinct observations.
    angles = np.array(PYCIRCSTAT_RAD)
    pairs = [np.cos(a - b) for i, a in enumerate(angles) for j, b in enumerate(angles) if i != j]
    found = pairwise_phase_consistency(angles.size, rayleigh(angles).resultant_length)
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)


def test_watson_is_a_sum_over_harmonics() -> None:
    """U2 = (1 / 2 pi^2) sum_k n R_k^2 / k^2, Mardia & Jupp (2000), section 6.3: Rayleigh's statistic is its first term.

    Whole degrees repeat after 360 harmonics, so that the sum of 1 / k^2 over each class has a closed form.
    """
    angles = np.deg2rad(PIGEONS)
    z, k, n = np.exp(1j * angles), np.arange(1, 361), angles.size
    statistics = [rayleigh_of_mean(n, complex(Harmonic(z, order)[:].mean())).statistic for order in k.tolist()]
    found = statistics @ special.polygamma(1, k / 360) / 360**2 / (2 * np.pi**2)
    assert found == pytest.approx(0.13613, abs=5e-6)
    u = np.sort(angles) / (2 * np.pi)
    middles = (np.arange(n) + 0.5) / n
    direct = ((u - middles - u.mean() + 0.5) ** 2).sum() + 1 / (12 * n)
    assert found == pytest.approx(direct, abs=1e-12)
    # Stephens (1970): what R prints for these data.
    assert (found - 0.1 / n + 0.1 / n**2) * (1 + 0.8 / n) == pytest.approx(0.1370, abs=5e-5)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_random_pairing_of_distinct_ranks(n: int) -> None:
    """E[(n - 1) R^2] = 1 exactly: the phases of distinct ranks sum to 0, so that R^2 has mean 1 / (n - 1)."""
    gaps = np.arange(n) ** 1.5
    ranks = gap_distribution([gaps]).middle_ranks(gaps)
    phi = phases("quantile", gaps, ranks=ranks)
    lengths = [rayleigh(phi - phi[list(order)]).resultant_length for order in permutations(range(n))]
    assert (n - 1) * np.mean(np.square(lengths)) == pytest.approx(1, abs=1e-12)
