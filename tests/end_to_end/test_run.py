"""The main job on the embedded pair, small, through the command line."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run_folder(command, small, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    done = command("run", *small, f"runs_dir={runs}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def load(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_every_stage_left_whole_results(run_folder):
    for stage in ("coherence", "discriminate", "audit", "claims"):
        assert load(run_folder / stage)["schema"] == 1
        assert (run_folder / stage / "manifest.json").is_file()
    assert not list(run_folder.glob("*.partial"))


def test_the_report_stands_alone(run_folder):
    page = (run_folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    assert "<script" not in page
    assert 'src="http' not in page


def test_every_claim_has_a_verdict(run_folder):
    claims = {claim["id"]: claim for claim in load(run_folder / "claims")["claims"]}
    assert {"brf.phase_coherence", "brf.discrimination", "brf.novel_cross_terms"} <= set(claims)
    assert claims["brf.composability"]["verdict"] == "not tested"
    assert claims["brf.novel_cross_terms"]["verdict"] == "falsified"
    allowed = {"supported", "falsified", "inconclusive", "not tested"}
    assert {claim["verdict"] for claim in claims.values()} <= allowed


def test_the_third_model_is_used(run_folder):
    coherence = load(run_folder / "coherence")
    assert coherence["proxy"] == "tiny_mixed"
    assert coherence["phases"]["arctan"]["residual"] is not None
    assert [point["reliability"] for point in coherence["reliability_curve"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_the_planted_controls_came_out_as_they_must(run_folder):
    for stage in ("coherence", "discriminate"):
        controls = load(run_folder / stage)["controls"]
        assert controls["planted"]["verdict"] == "supported"
        assert controls["twin"]["verdict"] != "supported"


def test_running_again_does_nothing_twice(run_folder, small, command):
    captures = sorted(run_folder.parents[1].glob("captures/*/*/part-*.parquet"))
    before = [path.stat().st_mtime_ns for path in captures]
    again = command("run", *small, f"runs_dir={run_folder.parents[1]}")
    assert Path(again.stdout.splitlines()[-1]) == run_folder
    assert [path.stat().st_mtime_ns for path in captures] == before
    assert len(before) == 5  # two models and the proxy, and the two models a second time


def test_a_sweep_over_phases_captures_nothing_again(run_folder, small, command):
    runs = run_folder.parents[1]
    captures = sorted(runs.glob("captures/*/*"))
    done = command("coherence", "-m", "phase=arctan,tanh", *small, f"runs_dir={runs}")
    assert done.returncode == 0, done.stderr
    assert sorted(runs.glob("captures/*/*")) == captures
    assert len(list(runs.glob("coherence/*/results.json"))) == 2
