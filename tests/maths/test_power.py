import numpy as np
import pytest
from scipy import stats

from brf_exp.maths.power import power_at
from brf_exp.maths.resampling import minimum_detectable_effect, ratio_estimate

OBSERVED = {"observed_positions": 10_000, "observed_documents": 40}


def test_power_against_simulated_documents() -> None:
    """40 documents of 250 positions, 4000 times, tested as the harness tests them."""
    rng = np.random.default_rng(1)
    effect, document_sd = 0.02, 0.05
    sums = rng.normal(effect, document_sd, size=(40, 4000)) * 250
    found = ratio_estimate(sums, np.full(40, 250))
    rejected = (found.mean / found.standard_error > stats.t.ppf(0.975, 39)).mean()
    expected = power_at(10_000, effect=effect, standard_error=document_sd / np.sqrt(40), **OBSERVED)
    assert 0.5 < rejected < 0.9
    assert expected.power == pytest.approx(rejected, abs=0.025)


def test_power_at_another_size_against_simulated_documents() -> None:
    """Observed on 40 documents, asked for 20,000 positions: 80 documents."""
    rng = np.random.default_rng(2)
    effect, document_sd = 0.012, 0.05
    found = ratio_estimate(rng.normal(effect, document_sd, size=(80, 4000)) * 250, np.full(80, 250))
    rejected = (found.mean / found.standard_error > stats.t.ppf(0.975, 79)).mean()
    expected = power_at(20_000, effect=effect, standard_error=document_sd / np.sqrt(40), **OBSERVED)
    assert expected.n_documents == 80
    assert expected.power == pytest.approx(rejected, abs=0.025)


def test_few_documents_have_few_degrees_of_freedom() -> None:
    """1000 positions are 4 documents: simulated as such, whatever was observed."""
    found = ratio_estimate(np.random.default_rng(3).normal(0.1, 0.05, size=(4, 4000)) * 250, np.full(4, 250))
    rejected = (found.mean / found.standard_error > stats.t.ppf(0.975, 3)).mean()
    expected = power_at(1_000, effect=0.1, standard_error=0.05 / np.sqrt(40), **OBSERVED)
    assert expected.power == pytest.approx(rejected, abs=0.025)
    assert rejected < 0.9


def test_interval_is_that_of_a_variance() -> None:
    found = power_at(10_000, effect=0.02, standard_error=0.008, **OBSERVED)
    assert found.interval[0] < found.power < found.interval[1]
    worse = 0.008 * np.sqrt(39 / stats.chi2.ppf(0.025, 39))
    assert found.interval[0] == pytest.approx(power_at(10_000, effect=0.02, standard_error=worse, **OBSERVED).power)
    wide = power_at(10_000, effect=0.02, standard_error=0.008, observed_positions=10_000, observed_documents=5)
    assert wide.interval[1] - wide.interval[0] > found.interval[1] - found.interval[0]


def test_power_meets_the_minimum_detectable_effect() -> None:
    effect = minimum_detectable_effect(0.01, 39)
    assert power_at(10_000, effect=effect, standard_error=0.01, **OBSERVED).power == pytest.approx(0.8, abs=0.01)


def test_power_grows_from_half_alpha_to_one() -> None:
    powers = [power_at(10_000, effect=e, standard_error=0.01, **OBSERVED).power for e in (0.0, 0.01, 0.02, 0.04, 5.0)]
    assert powers[0] == pytest.approx(0.025, abs=1e-6)
    assert powers == sorted(powers)
    assert powers[-1] == pytest.approx(1.0)
    by_size = [power_at(n, effect=0.02, standard_error=0.01, **OBSERVED).power for n in (500, 5_000, 50_000)]
    assert by_size == sorted(by_size) and by_size[0] < 0.3


def test_one_document_is_refused() -> None:
    with pytest.raises(ValueError, match="^at least 2 documents are needed, got 1$"):
        power_at(10_000, effect=0.1, standard_error=0.1, observed_positions=100, observed_documents=1)
