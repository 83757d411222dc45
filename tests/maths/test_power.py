import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from brf_exp.maths.power import MAX_POSITIONS, MIN_DOCUMENTS, Pilot, positions_for, power_at
from brf_exp.maths.resampling import minimum_detectable_effect, ratio_estimate
from brf_exp.maths.undefined import UndefinedStatisticError

DOCUMENT_SD = 0.05
PILOT = Pilot(DOCUMENT_SD / np.sqrt(40), n_positions=10_000, n_documents=40)


def _rejected(seed: int, n_documents: int, effect: float, alpha: float = 0.05) -> float:
    """Share of 4000 samples of documents of 250 positions in which the harness's test finds a positive effect."""
    sums = np.random.default_rng(seed).normal(effect, DOCUMENT_SD, size=(n_documents, 4000)) * 250
    found = ratio_estimate(sums, np.full(n_documents, 250))
    return float((found.mean / found.standard_error > stats.t.ppf(1 - alpha / 2, n_documents - 1)).mean())


@pytest.mark.parametrize(
    ("n_documents", "effect", "alpha"),
    # As many documents as the pilot had, more, and so few that there are hardly any degrees of freedom.
    [(40, 0.02, 0.05), (80, 0.012, 0.05), (20, 0.03, 0.05), (4, 0.1, 0.05), (3, 0.1, 0.05), (60, 0.018, 0.05 / 3)],
)
def test_power_against_simulated_documents(n_documents: int, effect: float, alpha: float) -> None:
    rejected = _rejected(n_documents, n_documents, effect, alpha)
    expected = power_at(250 * n_documents, effect=effect, pilot=PILOT, alpha=alpha)
    assert expected.n_documents == n_documents
    assert 0.3 < rejected < 0.9
    # Four standard errors of 4000 samples.
    assert expected.power == pytest.approx(rejected, abs=4 * np.sqrt(rejected * (1 - rejected) / 4000))


def test_interval_is_that_of_a_variance() -> None:
    pilot = Pilot(0.008, 10_000, 40)
    found = power_at(10_000, effect=0.02, pilot=pilot)
    assert found.interval[0] < found.power < found.interval[1]
    for end, q in zip(found.interval, (0.025, 0.975), strict=True):
        other = Pilot(0.008 * np.sqrt(39 / stats.chi2.ppf(q, 39)), 10_000, 40)
        assert end == pytest.approx(power_at(10_000, effect=0.02, pilot=other).power)
    fewer = power_at(10_000, effect=0.02, pilot=Pilot(0.008, 10_000, 5))
    assert fewer.interval[1] - fewer.interval[0] > found.interval[1] - found.interval[0]
    narrow = power_at(10_000, effect=0.02, pilot=pilot, confidence_level=0.5)
    assert found.interval[0] < narrow.interval[0] < narrow.interval[1] < found.interval[1]


def test_interval_covers_the_power_that_the_true_standard_error_gives() -> None:
    """Pilots of 12 documents: their intervals hold the truth in about 95 of 100 cases."""
    rng = np.random.default_rng(1)
    truth = power_at(5_000, effect=0.02, pilot=Pilot(DOCUMENT_SD / np.sqrt(12), 3_000, 12)).power
    errors = rng.normal(0, DOCUMENT_SD, (600, 12)).std(axis=1, ddof=1) / np.sqrt(12)
    intervals = [power_at(5_000, effect=0.02, pilot=Pilot(error, 3_000, 12)).interval for error in errors]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.92 <= covered <= 0.98


def test_power_meets_the_minimum_detectable_effect() -> None:
    effect = minimum_detectable_effect(0.01, 39)
    assert power_at(10_000, effect=effect, pilot=Pilot(0.01, 10_000, 40)).power == pytest.approx(0.8, abs=0.01)


def test_power_grows_from_half_alpha_to_one() -> None:
    pilot = Pilot(0.01, 10_000, 40)
    powers = [power_at(10_000, effect=effect, pilot=pilot).power for effect in (0.0, 0.01, 0.02, 0.04, 5.0)]
    assert powers[0] == pytest.approx(0.025, abs=1e-6)
    assert powers == sorted(powers)
    assert powers[-1] == pytest.approx(1.0)
    by_size = [power_at(n, effect=0.02, pilot=pilot).power for n in (500, 5_000, 50_000, 10**12)]
    assert by_size == sorted(by_size) and by_size[0] < 0.3 and by_size[-1] == pytest.approx(1.0)


PILOTS = st.builds(Pilot, st.floats(1e-4, 1.0), n_positions=st.integers(500, 100_000), n_documents=st.integers(2, 400))


@settings(deadline=None, max_examples=40)
@given(PILOTS, st.floats(0.2, 0.99), st.floats(0.05, 5.0))
def test_positions_invert_the_power(pilot: Pilot, power: float, in_errors: float) -> None:
    """The documents found are the fewest that reach the power, and 20 at least."""
    effect = in_errors * pilot.standard_error
    found = positions_for(power, effect=effect, pilot=pilot)
    assert found.n_documents >= MIN_DOCUMENTS
    assert found.n_positions == pytest.approx(found.n_documents * pilot.document_positions, abs=1)
    reached = power_at(found.n_positions, effect=effect, pilot=pilot)
    assert reached.power >= power - 1e-6
    if found.n_documents > MIN_DOCUMENTS:
        fewer = (found.n_documents - 1) * pilot.document_positions
        assert power_at(fewer, effect=effect, pilot=pilot).power < power


def test_positions_grow_with_power_and_shrink_with_the_effect() -> None:
    by_power = [positions_for(power, effect=0.005, pilot=PILOT).n_positions for power in (0.3, 0.5, 0.8, 0.9, 0.99)]
    assert by_power == sorted(by_power) and len(set(by_power)) == 5
    by_effect = [positions_for(0.8, effect=effect, pilot=PILOT).n_positions for effect in (0.01, 0.005, 0.001)]
    assert by_effect == sorted(by_effect) and len(set(by_effect)) == 3
    # Four times the documents for half the effect, once there are many.
    assert by_effect[2] / by_effect[1] == pytest.approx(25, rel=0.02)


def test_positions_of_the_normal_approximation() -> None:
    """Many documents: (z_.975 + z_.8)^2 sd^2 / effect^2 of them, 7.849 sd^2 / effect^2."""
    found = positions_for(0.8, effect=0.0005, pilot=PILOT)
    assert found.n_documents == pytest.approx(7.849 * (DOCUMENT_SD / 0.0005) ** 2, rel=1e-3)


def test_interval_of_positions_is_that_of_the_standard_error() -> None:
    found = positions_for(0.8, effect=0.005, pilot=PILOT)
    assert found.interval[0] < found.n_positions < found.interval[1]
    for end, q in zip(found.interval, (0.975, 0.025), strict=True):
        other = Pilot(PILOT.standard_error * np.sqrt(39 / stats.chi2.ppf(q, 39)), 10_000, 40)
        assert end == positions_for(0.8, effect=0.005, pilot=other).n_positions


def test_a_large_effect_needs_twenty_documents() -> None:
    found = positions_for(0.8, effect=10.0, pilot=PILOT)
    assert (found.n_documents, found.n_positions, found.interval) == (20, 5_000, (5_000, 5_000))


def test_an_effect_that_nothing_affordable_finds_has_no_number() -> None:
    found = positions_for(0.8, effect=1e-7, pilot=PILOT)
    assert (found.n_positions, found.n_documents, found.interval) == (None, None, (None, None))
    # At the limit the lower end has a number and the others have none.
    effect = DOCUMENT_SD * np.sqrt(7.849 * 250 / MAX_POSITIONS)
    ends = positions_for(0.8, effect=0.9 * effect, pilot=PILOT)
    assert ends.n_positions is None and ends.interval[1] is None
    assert ends.interval[0] < MAX_POSITIONS


@pytest.mark.parametrize("effect", [0.0, -0.1, float("nan")])
def test_an_effect_that_is_not_positive_is_refused(effect: float) -> None:
    with pytest.raises(ValueError, match=f"^`effect` must be above 0, got {effect}$"):
        positions_for(0.8, effect=effect, pilot=PILOT)


@pytest.mark.parametrize("power", [0.05, 0.01, 1.0, float("nan")])
def test_a_power_that_no_test_has_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=f"^`power` must be between alpha and 1, got {power}$"):
        positions_for(power, effect=0.1, pilot=PILOT)


def test_a_pilot_needs_documents_that_differ() -> None:
    with pytest.raises(UndefinedStatisticError, match="^at least 2 documents are needed, got 1$") as caught:
        Pilot(0.1, 100, 1)
    assert caught.value.reason == "documents"
    for error in (0.0, float("nan")):
        with pytest.raises(UndefinedStatisticError, match="^the standard error must be above 0$") as caught:
            Pilot(error, 100, 10)
        assert caught.value.reason == "no variation"
