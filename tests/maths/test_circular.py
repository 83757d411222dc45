import numpy as np
import pytest

from brf_exp.maths.circular import pairwise_phase_consistency, rayleigh


@pytest.mark.parametrize("angles", [[], [1.0, np.nan], [np.inf]])
def test_rayleigh_needs_finite_angles(angles: list[float]) -> None:
    with pytest.raises(ValueError, match="^angles must be finite and at least one$"):
        rayleigh(np.array(angles))


def test_rayleigh_of_one_angle() -> None:
    found = rayleigh(np.array([0.4]))
    assert (found.n, found.resultant_length) == (1, pytest.approx(1.0))
    assert found.mean_direction_rad == pytest.approx(0.4)
    assert 0 <= found.pvalue <= 1


@pytest.mark.parametrize("n", range(2, 13))
def test_pvalue_stays_in_the_unit_interval_at_small_n(n: int) -> None:
    for spread in np.linspace(0, np.pi, 60):
        found = rayleigh(np.linspace(-spread, spread, n))
        assert 0 <= found.pvalue <= 1
        assert np.isfinite(found.log_pvalue)


def test_pairwise_phase_consistency_needs_a_pair() -> None:
    assert pairwise_phase_consistency(5, 1.0) == 1.0
    assert pairwise_phase_consistency(2, 0.0) == -1.0
    with pytest.raises(ValueError, match="^n must be at least 2, got 1$"):
        pairwise_phase_consistency(1, 1.0)
