"""Error rates and power of the Cross-Term Discrimination Test on simulated losses, and of differences of AUCs.

Fixed seeds. The short version simulates 200 corpora per design; `-m slow` holds the rows of docs/calibration.md to the
band of 1,000 simulations, computing those that are not there yet.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from brf_exp.maths.auc import auc
from calibration import claims
from calibration.designs import Design, generator
from calibration.discrimination_rows import discrimination_rows, rank_designs, size_designs, truncation_designs
from calibration.discrimination_sections import (
    MEASURES,
    RANK_MEASURES,
    TRUNCATED,
    claim_of,
    loss_rates,
    rank_claim_of,
    rank_rates,
    verdicts,
)
from calibration.losses import DELTA, POSITION_SD, LossDesign, simulate_losses
from calibration.measures import Results
from calibration.ranks import sample, simulate_ranks, true_auc
from calibration.store import compute

N = 200
LOWEST, HIGHEST = 0.01, 0.11
SHORT = {
    "20 ragged": LossDesign(20),
    "20 ragged, skewed right": LossDesign(20, skewed=1),
    "40 equal, close": LossDesign(40, ragged=False, correlation=0.9),
}


@cache
def short_columns(name: str) -> dict[str, list]:
    found = [simulate_losses(SHORT[name], name, index) for index in range(N)]
    return {key: [one[key] for one in found] for key in found[0]}


@pytest.mark.parametrize("name", SHORT)
def test_error_rates(name: str) -> None:
    rates = loss_rates(short_columns(name))
    assert max(rates[measure] for measure in TRUNCATED) <= HIGHEST
    for measure in MEASURES:
        claim = claim_of(measure, SHORT[name])
        assert claim == claims.NOT or rates[measure] <= HIGHEST, measure
        assert claim != claims.SIZE or rates[measure] >= LOWEST, measure


@pytest.mark.parametrize("name", SHORT)
def test_a_test_over_tokens_fails(name: str) -> None:
    assert loss_rates(short_columns(name))["tokens"] > 0.4


def test_bootstrap_alone_is_too_near_where_sums_are_skewed() -> None:
    rates = loss_rates(short_columns("20 ragged, skewed right"))
    assert rates["upper_bootstrap"] > rates["upper"] and rates["upper_bootstrap"] > 0.07


def test_power_rises_with_the_gain() -> None:
    columns = short_columns("40 equal, close")
    supported = [verdicts(columns, gain, "supported") for gain in (1, 2, 4, 8)]
    falsified = [verdicts(columns, gain, "falsified") for gain in (0, 1, 2, 4)]
    assert supported == sorted(supported) and supported[-1] > 0.9
    assert falsified == sorted(falsified, reverse=True) and falsified[-1] == 0


def test_truncation_puts_ends_out_of_reach_but_for_a_truth_at_the_bound() -> None:
    for place in (0.0, 0.5, 1.0):
        design = LossDesign(20, width=20 * DELTA, place=place)
        found = [simulate_losses(design, f"truncated {place}", index) for index in range(60)]
        rates = loss_rates({key: [one[key] for one in found] for key in found[0]})
        assert max(rates["upper"], rates["simultaneous"]) <= 0.15
        assert (rates["upper"] > 0) == (place == 1) and (rates["simultaneous"] > 0) == (place == 0)
        assert any(one["gain 0"] == "falsified" for one in found) == (place == 0)
        assert any(one["gain 0"] == "inconclusive (truncation)" for one in found)


def test_losses_have_the_moments_of_their_design() -> None:
    """Variance of a document's sum: the level's share times T^2, and the autoregression's; correlation as stated."""
    design = replace(LossDesign(4000, ragged=False, length=50), n_references=2)
    level, rest = design.icc * 50**2, (1 - design.icc) * _variance_of_sum(50, design.rho)
    for skewed in (0, 1, -1):
        sums = replace(design, skewed=skewed).sums(np.full(4000, 50), generator("moments", skewed + 1))
        assert sums.var(axis=0) == pytest.approx(level + rest, rel=0.12)
        assert np.corrcoef(sums.T)[0, 1] == pytest.approx(design.correlation, abs=0.06)
        assert sums.mean(axis=0) == pytest.approx(0, abs=4 * np.sqrt((level + rest) / 4000))
        # By hand: 2 (125^1.5 + the rest's) / 210^1.5, times .3^1.5 + .7^1.5 for the two parts of a difference.
        assert (sums**3).mean() / sums.std() ** 3 == pytest.approx(0.75 * skewed, abs=0.2)


def _variance_of_sum(n: int, rho: float) -> float:
    place = np.arange(n)
    return float((rho ** np.abs(place[:, None] - place)).sum())


def test_truncated_ends_hold_the_truth() -> None:
    design, rng = LossDesign(10, width=0.02, place=0.25), generator("ends", 0)
    lengths = design.lengths(rng)
    sums = POSITION_SD * design.sums(lengths, rng)
    lower, upper = design.ends(sums, lengths, rng)
    assert (lower < sums).all() and (sums < upper).all()
    assert (upper - lower).sum() / lengths.sum() / sums.shape[1] == pytest.approx(0.02, rel=0.05)


def test_ranks_have_the_auc_of_their_correlation() -> None:
    scores, labels, _ = sample(Design(n_documents=200), generator("auc", 0))
    assert auc(scores[:, 0], labels) == pytest.approx(true_auc(0.4), abs=0.01)
    assert auc(scores[:, -1], labels) == pytest.approx(true_auc(0.2), abs=0.01)


def test_error_rates_of_differences_of_aucs() -> None:
    found = [simulate_ranks(Design(0.3, 0.05, n_documents=20, length=64), "ranks", index) for index in range(N)]
    rates = rank_rates({key: [one[key] for one in found] for key in found[0]})
    assert all(LOWEST <= rates[key] <= HIGHEST for key in ("difference", "missed"))
    assert rates["family"] <= HIGHEST and rates["found"] > 0.5


RUNS = Path(__file__).parents[2] / "runs" / "calibration"


@cache
def results() -> Results:
    """All rows of the page, computed where they are not there yet."""
    made = discrimination_rows()
    compute(RUNS, made, n_processes=2)
    return Results(RUNS, made)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*size_designs(), *truncation_designs()])
def test_error_rates_in_full(band, name: str) -> None:
    design = {**size_designs(), **truncation_designs()}[name]
    rates, (lower, upper) = loss_rates(results().columns(name)), band(results().n(name))
    for measure in MEASURES:
        claim = claim_of(measure, design)
        assert claim == claims.NOT or rates[measure] <= upper, measure
        assert claim != claims.SIZE or rates[measure] >= lower, measure
    # Nothing exact is claimed for skewed sums, but nothing that decides may be far off.
    assert max(rates[measure] for measure in TRUNCATED) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", rank_designs())
def test_error_rates_of_differences_of_aucs_in_full(band, name: str) -> None:
    rates, (lower, upper) = rank_rates(results().columns(name)), band(results().n(name))
    for measure in RANK_MEASURES:
        claim = rank_claim_of(measure, rank_designs()[name])
        assert claim == claims.NOT or rates[measure] <= upper, measure
        assert claim != claims.SIZE or rates[measure] >= lower, measure
    assert max(rates["difference"], rates["missed"]) <= 0.1
