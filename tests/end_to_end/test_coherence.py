"""The Phase Coherence Test through the command line: reasons, refusals, plans, proxies and seeds."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.config import CoherenceStageConfig
from brf_exp.stages import coherence as stage
from brf_exp.stages import pair_test

FAST = (
    "evaluation.n_resamples=99",
    "evaluation.n_repairings=99",
    "evaluation.n_negative_controls=20",
    "evaluation.controls=false",
    "progress=false",
)
PASSED = {"planted": {"verdict": "supported"}, "twin": {"verdict": "falsified"}}
Here = Callable[..., Path]


def gaps(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, n).round(3)


def load(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in strict JSON")

    return json.loads((folder / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)


def documents(lengths: tuple[int, ...]) -> dict[str, np.ndarray]:
    names = np.repeat([f"d{number}" for number in range(len(lengths))], lengths)
    return {"doc_id": names, "position": np.concatenate([np.arange(n) for n in lengths])}


# --- named reasons ----------------------------------------------------------------------------------------------------

EQUAL = (24,) * 21
HALF_ZERO = {key: np.where(gaps(seed, 504) < 1, 0, gaps(seed, 504)) for seed, key in enumerate("ab")}
OUTCOMES: dict[str, tuple[dict[str, np.ndarray], tuple[int, ...] | None, str, str]] = {
    "constant gaps": ({"a": np.ones(504), "b": gaps(1, 504)}, EQUAL, "constant gaps", "has no phases to relate"),
    "all zero": ({"a": np.zeros(504), "b": np.zeros(504)}, EQUAL, "constant gaps", "has no phases to relate"),
    "half zero": (HALF_ZERO, EQUAL, "ties at zero", "half of the gaps are exactly 0"),
    "few documents": ({"a": gaps(0, 190), "b": gaps(1, 190)}, (10,) * 19, "documents", "too few documents to decide"),
    "one token": ({"a": gaps(0, 30), "b": gaps(1, 30)}, (1,) * 30, "documents of one token", "nothing can vary"),
    "5 rows": ({"a": gaps(0, 5), "b": gaps(1, 5)}, None, "documents", "too few documents to decide"),
    "40 rows": ({"a": gaps(0, 40), "b": gaps(1, 40)}, None, "document length", "too short for their autocorrelation"),
    "same rows": ({"a": gaps(0, 504), "b": gaps(0, 504)}, EQUAL, "identical models", "one and the same"),
    "three constant": ({k: np.ones(504) for k in "abc"}, EQUAL, "constant gaps", "of 3 pairs of models, 0 support"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_decides_nothing_is_a_result_with_its_reason(
    submitted: Callable[..., Path], here: Here, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(stage, "planted_controls", lambda data, config: PASSED)
    made, lengths, reason, words = OUTCOMES[case]
    runs = submitted(made, **(documents(lengths) if lengths else {}))
    results = load(here("coherence", "pair=mine", *FAST[:3], f"runs_dir={runs}"))
    assert (results["verdict"], results["reason"]) == ("inconclusive", reason)
    assert results["sentence"].startswith("For mine, ")
    assert words in results["sentence"]
    assert results["pseudo_documents"] is (lengths is None)


def test_the_planted_worlds_of_odd_gaps_are_run_too(submitted: Callable[..., Path], here: Here) -> None:
    runs = submitted(HALF_ZERO, **documents(EQUAL))
    results = load(here("coherence", "pair=mine", *FAST[:3], f"runs_dir={runs}"))
    assert results["controls"]["planted"]["verdict"] == "supported"
    assert results["reason"] == "ties at zero"


# --- refusals ---------------------------------------------------------------------------------------------------------

SETTINGS = {
    "phase.scale=0": "`phase.scale` must be from 1e-9 to 1e9, got 0.0.",
    "phase.scale=-1": "`phase.scale` must be from 1e-9 to 1e9, got -1.0.",
    "phase.scale=1e-300": "`phase.scale` must be from 1e-9 to 1e9, got 1e-300.",
    "phase.scale=nan": "`phase.scale` must be from 1e-9 to 1e9, got nan.",
    "phase.name=sine": "`phase.name` must be one of arctan, exponential, linear, quantile, table, tanh, got 'sine'.",
    "phase=table": "`phase.table` must be a CSV file of gap,phase for phase=table, got null.",
    "seed=4294967296": "`seed` must be from 0 to 4294967295, got 4294967296.",
    "seed=-1": "`seed` must be from 0 to 4294967295, got -1.",
    "evaluation.confidence_level=0.9999999999999999": "`evaluation.confidence_level` must be above 0 and at most",
    "evaluation.n_folds=1": "`evaluation.n_folds` must be from 2 to 1000, got 1.",
    "evaluation.n_repairings=0": "`evaluation.n_repairings` must be at least 1, got 0.",
    "evaluation.min_documents=1": "`evaluation.min_documents` must be at least 2, got 1.",
    "claims.delta=1": "`claims.delta` must be at least 0 and below 1, got 1.0.",
    "memory_mb=-1": "`memory_mb` must be at least 0, got -1.",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_the_mathematics_would_refuse_is_refused_before(
    refused: Callable[..., str], tmp_path: Path, setting: str
) -> None:
    message = refused("coherence", "captures=[/nowhere/a,/nowhere/b]", setting, f"runs_dir={tmp_path / 'runs'}")
    assert message.startswith(SETTINGS[setting])
    assert not (tmp_path / "runs").exists()


TABLES = {
    "gap,phase\n0,0\n": "two or more",
    "gap,phase\n1,0\n0,1\n": "must increase",
    "gap,phase\n0,0\n0,1\n": "must increase",
    "gap,phase\n0,0\n1,inf\n": "at most 1e+09",
    "gap,phase\n0,0\n1,nan\n": "finite",
    "gap,phase\n0,-1e308\n1,1e308\n": "at most 1e+09",
    "gap,phase\n": "two or more",
    "gap;phase\n0;0\n": "columns gap,phase",
    "": "columns gap,phase",
    "\x00\xff": "columns gap,phase",
}


@pytest.mark.parametrize("table", TABLES)
def test_a_broken_table_of_phases(
    refused: Callable[..., str], submitted: Callable[..., Path], tmp_path: Path, table: str
) -> None:
    runs = submitted({"a": gaps(0, 504), "b": gaps(1, 504)}, **documents(EQUAL))
    (tmp_path / "map.csv").write_text(table, encoding="latin-1")
    message = refused(
        "coherence", "pair=mine", "phase=table", f"phase.table={tmp_path / 'map.csv'}", *FAST, f"runs_dir={runs}"
    )
    assert message.startswith("`phase.table` must be a CSV file with columns gap,phase")
    assert TABLES[table] in message
    assert not list(runs.glob("coherence/*"))


def test_a_table_that_does_not_vary_is_a_result(here: Here, submitted: Callable[..., Path], tmp_path: Path) -> None:
    runs = submitted({"a": gaps(0, 504), "b": gaps(1, 504)}, **documents(EQUAL))
    (tmp_path / "map.csv").write_text("gap,phase\n0,1\n9,1\n", encoding="utf-8")
    table = ("phase=table", f"phase.table={tmp_path / 'map.csv'}")
    results = load(here("coherence", "pair=mine", *table, *FAST, f"runs_dir={runs}"))
    assert results["phases"]["table"]["excess"] is None
    assert results["phases"]["arctan"]["excess"] is not None


CRASH = """
import sys
from brf_exp.cli import entry_point
from brf_exp.stages import pair_test
def broken(*arguments, **settings):
    raise ValueError("operands could not be broadcast together")
pair_test.uniform_ranks = broken
sys.argv = ["brf-exp", *sys.argv[1:]]
entry_point()
"""


def test_a_bug_stays_a_bug(submitted: Callable[..., Path]) -> None:
    runs = submitted({"a": gaps(0, 504), "b": gaps(1, 504)}, **documents(EQUAL))
    line = [sys.executable, "-c", CRASH, "coherence", "pair=mine", *FAST, f"runs_dir={runs}"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: operands could not be broadcast together"
    assert done.stdout == ""
    assert not list(runs.glob("coherence/*/results.json"))


# --- submissions ------------------------------------------------------------------------------------------------------


def test_a_submission_of_three_models_is_three_pairs(submitted: Callable[..., Path], here: Here) -> None:
    runs = submitted({key: gaps(seed, 504) for seed, key in enumerate("abc")}, **documents(EQUAL))
    results = load(here("coherence", "pair=mine", *FAST, f"runs_dir={runs}"))
    assert results["models"] == ["model-a", "model-b", "model-c"]
    named = [(pair["models"], pair["proxy"]) for pair in results["pairs"]]
    assert named == [
        (["model-a", "model-b"], "model-c"),
        (["model-a", "model-c"], "model-b"),
        (["model-b", "model-c"], "model-a"),
    ]
    assert results["alpha"] == pytest.approx(0.05 / 3)
    two = load(here("coherence", "pair=mine", "proxy=c", *FAST, f"runs_dir={runs}"))
    assert (two["models"], two["proxy"]) == (["model-a", "model-b"], "model-c")
    assert "pairs" not in two


def test_planning_prints_a_table_and_then_the_folder(
    submitted: Callable[..., Path], capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    from brf_exp.cli import main

    runs = submitted({"a": gaps(0, 504), "b": gaps(1, 504)}, **documents(EQUAL))
    line = ["coherence", "pair=mine", "planning=true", *FAST, f"runs_dir={runs}"]
    assert main(line) == 0
    printed = capsys.readouterr().out.splitlines()
    folder = Path(printed[-1])
    assert folder.is_absolute()
    assert folder.parent == runs / "planning"
    assert "tokens for power 0.8" in printed[-9]
    results = load(folder)
    assert results["stage"] == "planning"
    assert not {"verdict", "excess", "phases", "sentence"} & set(results)
    message = "`claims.delta` must be above 0 with planning=true"
    assert refused(*line, "claims.delta=0").startswith(message)


# --- the embedded models ----------------------------------------------------------------------------------------------


@pytest.fixture
def of_captures(
    embedded: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """A function that tests captures of embedded models, its planted worlds taken as passed."""
    monkeypatch.setattr(stage, "planted_controls", lambda data, config: PASSED)
    monkeypatch.setattr(pair_test, "SCALE_FACTORS", (1.0,))

    def run(*models: str, seed: int = 0, proxy: str | None = None) -> dict[str, Any]:
        config = CoherenceStageConfig(
            runs_dir=str(tmp_path / "runs"),
            captures=[embedded[name] for name in models],
            proxy=embedded.get(proxy or "", proxy),
            seed=seed,
            progress=False,
        )
        config.evaluation.n_resamples = config.evaluation.n_repairings = 99
        config.evaluation.n_negative_controls = 20
        return load(stage.run(config))

    return run


def test_an_embedded_model_on_the_same_texts_is_the_proxy(of_captures: Callable[..., dict[str, Any]]) -> None:
    results = of_captures("tiny_prose", "tiny_code")
    assert (results["proxy"], results["aligned_share"]) == ("tiny_mixed", 1.0)
    assert results["phases"]["arctan"]["residual"] is not None
    # One tokenizer, the same texts: aligned by characters it says what it says token by token.
    matched = of_captures("tiny_prose", "tiny_code", proxy="tiny_mixed")
    assert (matched["proxy"], matched["aligned_share"]) == ("tiny_mixed", None)
    left, right = (found["phases"]["arctan"]["residual"]["excess"] for found in (results, matched))
    assert left == pytest.approx(right, abs=0.01)
    assert results["verdict"] == matched["verdict"]


def test_no_proxy_when_none_is_wanted(of_captures: Callable[..., dict[str, Any]]) -> None:
    results = of_captures("tiny_prose", "tiny_code", proxy="none")
    assert (results["proxy"], results["aligned_share"]) == (None, None)
    assert (results["verdict"], results["reason"]) == ("inconclusive", "no difficulty proxy")


def test_an_embedded_model_is_not_its_own_proxy(of_captures: Callable[..., dict[str, Any]]) -> None:
    results = of_captures("tiny_prose", "tiny_mixed")
    assert (results["proxy"], results["aligned_share"]) == (None, None)
    assert of_captures("tiny_prose", "tiny_mixed", proxy="tiny_mixed")["reason"] == "proxy under test"
    assert of_captures("tiny_prose", "tiny_prose", proxy="tiny_mixed")["reason"] == "identical models"


def test_three_capture_folders_are_three_models(embedded: dict[str, str], here: Here, tmp_path: Path) -> None:
    folders = ",".join(embedded[name] for name in ("tiny_mixed", "tiny_prose", "tiny_code"))
    results = load(here("coherence", f"captures=[{folders}]", *FAST, f"runs_dir={tmp_path / 'runs'}"))
    assert results["pair"] == "tiny_mixed-tiny_prose-tiny_code"
    assert results["corpus"] == "stdlib"
    assert [pair["proxy"] for pair in results["pairs"]] == ["tiny_code", "tiny_prose", "tiny_mixed"]


@pytest.mark.parametrize(
    ("models", "proxy", "verdict"),
    [
        (("tiny_prose", "tiny_code"), "tiny_mixed", "inconclusive"),
        (("tiny_prose", "tiny_mixed"), "tiny_code", "supported"),
    ],
)
def test_the_verdict_does_not_hang_on_the_seed(
    of_captures: Callable[..., dict[str, Any]], models: tuple[str, str], proxy: str, verdict: str
) -> None:
    assert [of_captures(*models, seed=seed, proxy=proxy)["verdict"] for seed in range(5)] == [verdict] * 5
