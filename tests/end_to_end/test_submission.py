"""A real submission with exact values from its full vocabulary, through the command line."""

import json

import pytest


@pytest.fixture(scope="module")
def ingested(submission, command, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    done = command("ingest", f"submission={submission}", f"runs_dir={runs}")
    assert done.returncode == 0, done.stderr
    return runs


@pytest.fixture(scope="module")
def expected(submission):
    return json.loads((submission / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def coherence(ingested, results):
    return results("coherence", "pair=textgenrnn-hn", "phase=arctan", "phase.scale=1", f"runs_dir={ingested}")


@pytest.fixture(scope="module")
def discrimination(ingested, results):
    return results(
        "discriminate",
        "pair=textgenrnn-hn",
        "phase=arctan",
        "phase.scale=1",
        "evaluation.split=none",
        "evaluation.tune=false",
        f"runs_dir={ingested}",
    )


def test_circular_statistics_equal_the_full_vocabulary_ones(coherence, expected):
    found = coherence["phases"]["arctan"]
    assert coherence["n_positions"] == expected["n"]
    assert found["resultant_length"] == pytest.approx(expected["Rbar"], rel=1e-12)
    assert found["mean_direction_rad"] == pytest.approx(expected["mean_direction"], rel=1e-12)
    assert found["rayleigh_z"] == pytest.approx(expected["z"], rel=1e-12)
    assert found["resultant_length_independent"] == pytest.approx(expected["Rbar_if_independent"], rel=1e-12)


def test_without_a_third_model_nothing_is_supported(coherence):
    assert coherence["verdict"] == "inconclusive"
    assert coherence["reason"] == "no difficulty proxy"
    assert coherence["negative_control_rate"] <= 0.1
    assert coherence["sentence"].startswith("For textgenrnn-hn, ")


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("linear", "nll_linear"),
        ("log_linear", "nll_log_pool"),
        ("brf", "nll_brf"),
        ("brf_zero", "nll_zero_phase"),
        ("model_a", "nll_a"),
        ("model_b", "nll_b"),
    ],
)
def test_every_interval_contains_the_exact_loss(discrimination, expected, rule, key):
    lower, upper = discrimination["rules"][rule]["log_loss_nats"]
    assert lower - 1e-6 <= expected[key] <= upper + 1e-6
    assert upper - lower <= 0.13


def test_the_linear_pool_is_a_point(discrimination, expected):
    lower, upper = discrimination["rules"]["linear"]["log_loss_nats"]
    assert lower == upper == pytest.approx(expected["nll_linear"], abs=1e-6)


def test_below_minimum_rate_is_bracketed(discrimination, expected):
    lower, upper = discrimination["below_minimum_interval"]
    assert lower <= expected["frac_brf_below_min"] <= upper
    bhattacharyya = discrimination["bhattacharyya"]
    assert bhattacharyya[0] <= expected["mean_bhattacharyya"] <= bhattacharyya[1]


def test_untuned_scores_decide_nothing(discrimination):
    assert (discrimination["verdict"], discrimination["reason"]) == ("inconclusive", "not tuned")


def test_the_same_results_again_without_work(ingested, command):
    arguments = ("coherence", "pair=textgenrnn-hn", "phase=arctan", "phase.scale=1", f"runs_dir={ingested}")
    first, second = command(*arguments), command(*arguments)
    assert first.stdout == second.stdout
    assert second.returncode == 0
