"""Size, power and coverage of the Phase Coherence Test on simulated pairs, and tests that must fail.

Fixed seeds. The short version simulates 200 short corpora per design; `-m slow` holds the rows of docs/calibration.md
to the band of 1,000 simulations, computing those that are not there yet.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths.pairing import true_pairing
from brf_exp.maths.resampling import ratio_test
from calibration import claims, rows
from calibration.captures import available_pairs, ngram_difficulty, separate_documents
from calibration.components import kuramoto_pvalue, phasors_of, rejection_rates
from calibration.designs import DESIGNS, Design, generator
from calibration.invalid import padded_document_permutation, stratified_permutation
from calibration.measures import Results, rates_below, supported_rate
from calibration.rows import simulate_components, simulate_procedure
from calibration.store import compute

N, LENGTH = 200, 96
LOWEST, HIGHEST = 0.01, 0.11
SHORT = (
    ("AR .9", "quantile"),
    ("AR .6, icc .2", "arctan"),
    ("ragged, 20 documents", "quantile"),
    ("shared document .2", "arctan"),
    ("shared position .1", "arctan"),
)


@cache
def short_rates(design: str, phase: str) -> dict[str, float]:
    """Rejection rates of every component test on corpora of short documents."""
    its = replace(DESIGNS[design], length=LENGTH)
    return rejection_rates([simulate_components(its, f"{design}, {phase}", phase, i) for i in range(N)])


@pytest.mark.parametrize(("design", "phase"), SHORT)
def test_size(design: str, phase: str) -> None:
    rates = short_rates(design, phase)
    for test in claims.TESTS.keys() & rates.keys():
        claim = claims.covers(test, DESIGNS[design])
        assert claim == claims.NOT or rates[test] <= HIGHEST, test
        assert claim != claims.SIZE or rates[test] >= LOWEST, test


@pytest.mark.parametrize(
    ("test", "design", "phase", "least"),
    [
        ("rayleigh", "AR .6, icc .2", "arctan", 0.95),
        ("rayleigh", "AR .9", "quantile", 0.3),
        ("padded_permutation", "ragged, 20 documents", "quantile", 0.1),
        ("document_permutation", "shared document .2", "arctan", 0.8),
        ("shift", "shared position .1", "arctan", 0.9),
        ("kappa", "shared position .1", "arctan", 0.9),
    ],
)
def test_what_must_fail(test: str, design: str, phase: str, least: float) -> None:
    """Tests that look natural reject where nothing beyond what is named relates the models."""
    assert short_rates(design, phase)[test] > least


def test_nulls_reject_shared_difficulty_and_strata_do_not_remove_it() -> None:
    its = replace(DESIGNS["shared token .3"], length=LENGTH, n_documents=100)
    rates = rejection_rates([simulate_components(its, "strata", "quantile", i) for i in range(40)])
    assert rates["shift"] > 0.9 and rates["dependent"] > 0.9
    assert rates["stratified"] > 0.2


def test_size_with_three_models() -> None:
    its = replace(DESIGNS["AR .6, icc .2"], length=LENGTH)
    pvalues = []
    for index in range(N):
        rng = generator("three models", index)
        pvalues.append(kuramoto_pvalue(its.sample(rng, n_models=3), "arctan", rng))
    assert LOWEST <= np.mean(np.array(pvalues) < 0.05) <= HIGHEST


def test_power_of_the_nulls() -> None:
    its = replace(DESIGNS["AR .6, icc .2"], residual=0.12)
    rates = rejection_rates([simulate_components(its, "power", "arctan", i) for i in range(40)])
    assert min(rates[test] for test in ("kappa", "kappa_recentred", "sign_flip", "shift", "dependent")) > 0.9


def test_interval_covers() -> None:
    """The excess of a true correlation, from one long simulation, lies in about 95 % of the intervals."""
    its = replace(DESIGNS["AR .6, icc .2"], length=LENGTH, residual=0.2)

    def pairing_of(design: Design, index: int):
        rng = generator("coverage", index)
        sample = design.sample(rng)
        return true_pairing(*phasors_of(sample, "arctan", rng), sample.offsets), rng

    truth = pairing_of(replace(its, n_documents=4000), 0)[0].kappa
    covered = 0
    for index in range(1, N + 1):
        pairing, rng = pairing_of(its, index)
        found = ratio_test(pairing.excess.real, pairing.lengths, confidence_level=0.95, n_resamples=9, rng=rng)
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 0.88 <= covered / N <= 0.99


def test_whole_procedure_tells_shared_difficulty_from_more() -> None:
    shared = rows.PROCEDURES["shared token .3"]
    null = [simulate_procedure(shared, "whole procedure", 8, index) for index in range(8)]
    assert all(found["arctan.dependent"] for found in null)
    assert not any(found["arctan.verdict"] == "supported" for found in null)
    planted = [simulate_procedure(replace(shared, residual=0.3), "planted", 5, index) for index in range(5)]
    assert [found["arctan.verdict"] for found in planted].count("supported") >= 4


def test_no_regressor_where_nothing_can_be_supported() -> None:
    found = simulate_procedure(rows.PROCEDURES["independent"], "independent", 0, 0)
    assert not any(found[f"{phase}.dependent"] for phase in rows.PHASES)
    assert found["arctan.residual_share"] is None and found["arctan.verdict"] != "supported"


@pytest.mark.parametrize("name", DESIGNS)
def test_designs_are_what_they_say(name: str) -> None:
    """Scores recovered from the gaps have the variance and the autocorrelation of the design."""
    design = replace(DESIGNS[name], n_documents=400, lattice=0.0)
    sample = design.sample(generator("designs", 0))
    scores = (np.log(sample.gaps[0]) - 0.5) / 0.9
    documents = [row for row in np.split(scores, sample.offsets[1:-1]) if row.size > 20]
    within = np.mean([row.var() for row in documents])
    assert within == pytest.approx(1 - design.icc - design.document, abs=0.15 if design.rho > 0.8 else 0.1)
    again = design.sample(generator("designs", 0))
    assert np.array_equal(again.gaps, sample.gaps) and not np.array_equal(sample.gaps[0], sample.gaps[1])


def test_stratified_permutation_has_the_moments_of_permutations() -> None:
    """The closed form against 4,000 permutations drawn within strata."""
    rng = np.random.default_rng(3)
    z1, z2 = np.exp(1j * rng.exponential(1.0, (2, 60)))
    difficulty = rng.standard_normal(60)
    drawn = []
    order = np.argsort(difficulty)
    for _ in range(4000):
        partner = np.arange(60)
        for stratum in np.array_split(order, 3):
            partner[stratum] = rng.permutation(stratum)
        drawn.append((z1 * np.conj(z2[partner])).sum())
    points = np.column_stack([np.real(drawn), np.imag(drawn)])
    observed = (z1 * np.conj(z2)).sum()
    deviation = np.array([observed.real, observed.imag]) - points.mean(axis=0)
    q = deviation @ np.linalg.solve(np.cov(points.T), deviation)
    assert stratified_permutation(z1, z2, difficulty, n_strata=3) == pytest.approx(stats.chi2.sf(q, 2), abs=0.03)


def test_padding_makes_no_difference_to_equal_documents() -> None:
    from brf_exp.maths.secondary import document_permutation

    z1, z2 = np.exp(1j * np.random.default_rng(4).exponential(1.0, (2, 120)))
    offsets = np.arange(0, 121, 10)
    expected = document_permutation(z1, z2, offsets).pvalue
    assert padded_document_permutation(z1, z2, offsets) == pytest.approx(expected, rel=1e-9)


def test_separate_documents_share_none_and_fit_in_length() -> None:
    lengths = np.random.default_rng(5).integers(20, 300, 61)
    first, second = separate_documents(lengths, np.random.default_rng(6))
    assert first.size == second.size >= 28 and not np.intersect1d(first, second).size
    assert np.unique(first).size == first.size and np.unique(second).size == second.size
    assert np.corrcoef(lengths[first], lengths[second])[0, 1] > 0.95


def test_ngram_difficulty_is_that_of_a_distribution() -> None:
    """In documents of one repeated symbol pair, the second of a pair is certain and the rest nearly so."""
    documents = np.tile([3, 7], 200).astype(np.int32)
    found = ngram_difficulty(documents, np.arange(0, 401, 20), n_folds=5)
    assert found.shape == (400, 2)
    assert found[1::2, 0].max() < 0.1 and found[1::2, 1].max() < 0.3
    assert (found >= 0).all() and found[:, 1].max() <= np.log(2) + 1e-9


RUNS = Path(__file__).parents[2] / "runs"


@cache
def results() -> Results:
    """All rows of the page, computed where they are not there yet."""
    made = [*rows.simulated_rows(), *rows.capture_rows(RUNS)]
    compute(RUNS / "calibration", made, n_processes=2)
    return Results(RUNS / "calibration", made)


@pytest.mark.slow
@pytest.mark.parametrize("phase", rows.PHASES)
@pytest.mark.parametrize("design", DESIGNS)
def test_size_in_full(band: Callable[[int], tuple[float, float]], design: str, phase: str) -> None:
    name = rows.component_name(design, phase)
    rates, (lower, upper) = rates_below(results().columns(name)), band(rows.N_SIMULATIONS)
    for test in claims.TESTS.keys() & rates.keys():
        claim = claims.covers(test, DESIGNS[design])
        assert claim == claims.NOT or rates[test] <= upper, test
        assert claim != claims.SIZE or rates[test] >= lower, test


@pytest.mark.slow
@pytest.mark.parametrize("control", claims.MUST_FAIL, ids=lambda control: f"{control.test}, {control.design}")
def test_what_must_fail_in_full(control: claims.MustFail) -> None:
    rates = rates_below(results().columns(rows.component_name(control.design, control.phase)))
    assert rates[control.test] > control.least


@pytest.mark.slow
@pytest.mark.parametrize("phase", rows.PHASES)
@pytest.mark.parametrize("design", rows.KURAMOTO)
def test_size_with_three_models_in_full(band, design: str, phase: str) -> None:
    lower, upper = band(rows.N_SIMULATIONS)
    assert lower <= rates_below(results().columns(rows.kuramoto_name(design, phase)))["kuramoto"] <= upper


@pytest.mark.slow
@pytest.mark.parametrize("phase", rows.PHASES)
@pytest.mark.parametrize("design", rows.PROCEDURES)
def test_nothing_is_supported_where_nothing_is(band, design: str, phase: str) -> None:
    columns = results().phase_columns(rows.procedure_name(design), phase)
    assert supported_rate(columns) <= band(rows.N_SIMULATIONS)[1]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["separate", "deranged"])
@pytest.mark.parametrize("pair", available_pairs())
def test_mismatched_captures_are_not_supported(pair: str, how: str) -> None:
    assert supported_rate(results().phase_columns(rows.broken_name(pair, how), "arctan")) <= 0.1
