import numpy as np
import pytest
from scipy import special, stats

from brf_exp.maths.circular import (
    cluster_ppc,
    kuramoto_order,
    pairwise_phase_consistency,
    rayleigh,
    rayleigh_of_mean,
    v_test_of_mean,
)
from brf_exp.maths.undefined import UndefinedStatisticError


@pytest.mark.parametrize("angles", [[], [1.0, np.nan], [np.inf]])
def test_rayleigh_needs_finite_angles(angles: list[float]) -> None:
    with pytest.raises(ValueError, match="^angles must be finite and at least one$"):
        rayleigh(np.array(angles))


def test_rayleigh_of_mean_needs_angles() -> None:
    with pytest.raises(ValueError, match="^n must be at least 1, got 0$"):
        rayleigh_of_mean(0, 0j)


def test_rayleigh_of_one_angle() -> None:
    for found in (rayleigh(np.array([0.4])), rayleigh_of_mean(1, np.exp(0.4j))):
        assert (found.n, found.resultant_length) == (1, pytest.approx(1.0))
        assert found.mean_direction_rad == pytest.approx(0.4)
        assert 0 <= found.pvalue <= 1


@pytest.mark.parametrize("n", range(1, 61))
def test_pvalues_stay_in_the_unit_interval(n: int) -> None:
    """For every length of the mean; what the series gives outside is clamped, and the logarithm stays finite."""
    for length in np.linspace(0, 1, 101):
        found = rayleigh_of_mean(n, complex(length))
        assert 0 <= found.pvalue <= 1
        assert found.log_pvalue == (np.log(found.pvalue) if found.pvalue > 0 else -found.statistic)
        assert 0 <= v_test_of_mean(n, complex(length)) <= 1
        assert 0 <= v_test_of_mean(n, complex(-length)) <= 1
    assert rayleigh_of_mean(n, 0j).pvalue == 1.0
    assert v_test_of_mean(n, 0j) == pytest.approx(0.5)


@pytest.mark.parametrize("n", [10, 40, 60, 2000])
def test_pvalues_are_uniform_for_uniform_angles(n: int) -> None:
    means = np.exp(1j * np.random.default_rng(n).uniform(0, 2 * np.pi, (2000, n))).mean(axis=1)
    of_length = [rayleigh_of_mean(n, complex(mean)).pvalue for mean in means]
    along = [v_test_of_mean(n, complex(mean), direction_rad=0.7) for mean in means]
    assert stats.kstest(of_length, "uniform").pvalue > 0.001
    assert stats.kstest(along, "uniform").pvalue > 0.001


def test_v_test_looks_one_way() -> None:
    mean = 0.3 * np.exp(1.2j)
    pvalues = [v_test_of_mean(50, mean, direction_rad=1.2 + turn) for turn in (0, 0.5, 1.0, np.pi / 2, np.pi)]
    assert pvalues == sorted(pvalues)
    assert pvalues[0] < 0.01 and pvalues[3] == pytest.approx(0.5) and pvalues[4] > 0.99


def test_pairwise_phase_consistency_needs_a_pair() -> None:
    assert pairwise_phase_consistency(5, 1.0) == 1.0
    assert pairwise_phase_consistency(2, 0.0) == -1.0
    with pytest.raises(ValueError, match="^n must be at least 2, got 1$"):
        pairwise_phase_consistency(1, 1.0)


def test_cluster_ppc_by_hand() -> None:
    # Two documents that agree, of 3 and 1 positions: all three pairs have cosine 1.
    assert cluster_ppc(np.array([3j, 1j]), np.array([3, 1])) == pytest.approx(1)
    # Three documents at right angles: cosines 0, -1 and 0.
    assert cluster_ppc(np.array([1, 1j, -1]), np.ones(3, dtype=int)) == pytest.approx(-1 / 3)
    with pytest.raises(UndefinedStatisticError, match="^cluster PPC needs two documents$") as caught:
        cluster_ppc(np.array([3j]), np.array([3]))
    assert caught.value.reason == "documents"


@pytest.mark.parametrize("concentration", [0.0, 1.5])
def test_cluster_ppc_is_unbiased_for_dependent_positions(concentration: float) -> None:
    """Each document has a direction of its own, and its positions lie about that: independent they are not."""
    rng = np.random.default_rng(1)
    n_worlds, lengths = 4000, np.array([40, 10, 25, 5, 40])
    direction = rng.vonmises(0, concentration, (n_worlds, lengths.size))
    z = np.exp(1j * (np.repeat(direction, lengths, axis=1) + rng.normal(0, 0.5, (n_worlds, lengths.sum()))))
    sums = np.add.reduceat(z, np.concatenate([[0], np.cumsum(lengths)[:-1]]), axis=1)
    found = np.array([cluster_ppc(row, lengths) for row in sums])
    # E cos of two positions: squares of the mean lengths of a von Mises and of a normal angle.
    truth = (special.i1(concentration) / special.i0(concentration)) ** 2 * np.exp(-(0.5**2))
    error = found.std() / np.sqrt(n_worlds)
    assert error < 0.01
    assert found.mean() == pytest.approx(truth, abs=4 * error)
    # The consistency of independent positions counts what a document shares as well.
    plain = [pairwise_phase_consistency(int(lengths.sum()), abs(row.mean())) for row in z]
    assert np.mean(plain) > truth + 10 * error


def test_kuramoto_order_of_equal_and_opposed_phases() -> None:
    phases = np.array([[0.3, 0.0, 0.0], [0.3, np.pi, 2 * np.pi / 3], [0.3, 0.0, 4 * np.pi / 3]])
    np.testing.assert_allclose(kuramoto_order(phases), [1, 1 / 3, 0], atol=1e-15)
