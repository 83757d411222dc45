"""Sample-size planning: sizes and powers from a pair's precision, and not a word on its effect."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.config import CoherenceStageConfig
from brf_exp.errors import StatisticalError
from brf_exp.maths.coherence import coherence
from brf_exp.maths.decisions import Verdict
from brf_exp.maths.phases import Phasors
from brf_exp.maths.power import Pilot, positions_for, power_at
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages import coherence as stage
from brf_exp.stages import planning
from brf_exp.stages.claim_tests import _coherence_power
from brf_exp.stages.phase_test import MapResult
from brf_exp.storage.runs import read_json

LENGTHS = (40,) * 25
N = sum(LENGTHS)
# What a plan must not tell: the effect, its tests, and what they decide.
EFFECTS = "excess value pvalue verdict reason sentence statistic residual kappa".split()
Write = Callable[..., str]
Settings = Callable[..., CoherenceStageConfig]


def gaps(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, n)


@pytest.fixture
def result() -> MapResult:
    rng = np.random.default_rng(0)
    offsets = np.arange(0, N + 1, 40)
    z = [Phasors("arctan", rng.exponential(1.0, N), 1.0) for _ in range(2)]
    plain, _ = coherence(*z, offsets, n_repairings=99, confidence_level=0.95, n_resamples=99, rng=rng)
    return MapResult("arctan", 1.0, None, None, plain, None, None, Verdict("inconclusive", "controls"))


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_every_number_is_that_of_the_power_analysis(result: MapResult) -> None:
    made = planning.plan(result, delta=0.05, alpha=0.05)
    assert made is not None and result.plain is not None
    pilot = Pilot(result.plain.test.standard_error / result.plain.possible, N, 25)
    assert (made["on"], made["n_documents"], made["positions_per_document"]) == ("phases", 25, 40)
    assert made["standard_error_share"] == pilot.standard_error
    distances = {"find": lambda share: share, "support": lambda share: share - 0.05, "falsify": lambda share: 0.05}
    for question in made["questions"]:
        distance = distances[question["question"]](question["true_share"])
        expected = power_at(10_000, effect=distance, pilot=pilot)
        assert question["at_10000_tokens"]["power"] == pytest.approx(expected.power, rel=1e-12)
        for power in (0.8, 0.9):
            size = positions_for(power, effect=distance, pilot=pilot)
            assert question["needed"][str(power)]["n_positions"] == size.n_positions
    asked = [(question["question"], question["true_share"]) for question in made["questions"]]
    assert ("find", 0.05) in asked
    assert ("support", 0.05) not in asked
    assert ("falsify", 0.0) in asked


def test_a_stricter_level_takes_more_tokens(result: MapResult) -> None:
    plans = [planning.plan(result, delta=0.05, alpha=alpha) for alpha in (0.05, 0.05 / 3)]
    for single, several in zip(*(made["questions"] for made in plans if made), strict=True):
        assert several["needed"]["0.8"]["n_positions"] >= single["needed"]["0.8"]["n_positions"]
        assert several["at_10000_tokens"]["power"] <= single["at_10000_tokens"]["power"]
    smallest = [made["questions"][0]["needed"]["0.8"]["n_positions"] for made in plans if made]
    assert smallest[1] > 1.2 * smallest[0]


def test_residual_phases_go_before_plain_ones(result: MapResult) -> None:
    made = planning.plan(replace(result, residual=result.plain), delta=0.05, alpha=0.05)
    assert made is not None
    assert made["on"] == "residual phases"


def test_without_a_test_or_a_delta_there_is_no_plan(result: MapResult) -> None:
    nothing = replace(result, plain=None, verdict=Verdict("inconclusive", "ties at zero"))
    assert planning.plan(nothing, delta=0.05, alpha=0.05) is None
    assert planning.plan(result, delta=0.0, alpha=0.05) is None
    with pytest.raises(UndefinedStatisticError) as caught:
        planning.summary("p", "c", nothing, delta=0.05, alpha=0.05)
    assert caught.value.reason == "ties at zero"


def test_the_table_has_a_line_per_question(result: MapResult) -> None:
    made = planning.summary("a-b", "proverbs.txt", result, delta=0.05, alpha=0.05)
    lines = planning.text_of(made).splitlines()
    assert lines[0] == "a-b, proverbs.txt, map arctan: measured on 1,000 tokens in 25 documents, phases."
    table = lines[-len(made["questions"]) :]
    for line, question in zip(table, made["questions"], strict=True):
        assert line.startswith(f"{planning.QUESTIONS[question['question']]} {question['true_share']:g}")
        assert f"{question['needed']['0.8']['n_positions']:,}" in line
        assert f"{question['at_10000_tokens']['power']:.2f}" in line


def test_what_no_sample_can_show_is_never(result: MapResult) -> None:
    made = planning.summary("p", "c", result, delta=1e-9, alpha=0.05)
    assert all(question["needed"]["0.9"]["n_positions"] is None for question in made["questions"])
    assert "never" in planning.text_of(made)


# --- the stage --------------------------------------------------------------------------------------------------------


def test_the_stage_prints_a_plan_and_tells_no_effect(
    write_capture: Write, settings: Settings, capsys: pytest.CaptureFixture[str], controls_pass: None
) -> None:
    a, b, p = (write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("abp"))
    folder = stage.run(settings(a, b, proxy=p, planning=True))
    printed = capsys.readouterr().out
    made = read_json(folder / "results.json")
    assert printed == planning.text_of(made) + "\n"
    assert (folder.parent.name, made["stage"], made["on"]) == ("planning", "planning", "residual phases")
    assert not keys_of(made) & set(EFFECTS)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "manifest.json", "results.json"]
    # Found made, it is printed again.
    assert stage.run(settings(a, b, proxy=p, planning=True)) == folder
    assert capsys.readouterr().out == printed
    # The test itself makes the same plan, and the claim quotes it.
    results = read_json(stage.run(settings(a, b, proxy=p)) / "results.json")
    assert results["planning"] == {name: made[name] for name in results["planning"]}
    quoted = _coherence_power(results)
    assert quoted is not None
    (found,) = [q for q in made["questions"] if (q["question"], q["true_share"]) == ("find", 0.05)]
    assert (quoted.power, list(quoted.interval)) == (
        found["at_10000_tokens"]["power"],
        found["at_10000_tokens"]["interval"],
    )


def test_a_delta_of_zero_is_tested_without_a_plan(
    write_capture: Write, settings: Settings, controls_pass: None
) -> None:
    a, b = (write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("ab"))
    results = read_json(stage.run(settings(a, b, claims__delta=0.0)) / "results.json")
    assert results["planning"] is None
    assert _coherence_power(results) is None


@pytest.mark.parametrize(
    ("made", "lengths", "reason"),
    [
        ([np.ones(N), gaps(1)], LENGTHS, "constant gaps"),
        ([gaps(0, 30), gaps(1, 30)], (1,) * 30, "documents of one token"),
        ([gaps(0) * (np.arange(N) % 3 == 0), gaps(1) * (np.arange(N) % 3 == 0)], LENGTHS, "ties at zero"),
    ],
)
def test_where_nothing_can_be_planned_one_line_says_why(
    write_capture: Write,
    settings: Settings,
    tmp_path: Path,
    made: list[np.ndarray],
    lengths: tuple[int, ...],
    reason: str,
) -> None:
    a, b = (write_capture(name, values, lengths) for name, values in zip("ab", made, strict=True))
    with pytest.raises(StatisticalError, match=f"^`planning` cannot be computed for a-b: .*{reason}.*\\.$"):
        stage.run(settings(a, b, planning=True))
    assert not list((tmp_path / "runs").glob("planning/*/results.json"))
