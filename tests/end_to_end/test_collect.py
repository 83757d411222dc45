"""Runs collected through the command line, from what the other stages really write."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq


def test_a_real_run_and_a_test_on_its_own_are_collected(three: Path, here: Callable[..., Path]) -> None:
    runs = three.parents[1]
    settings = ("evaluation.controls=false", "evaluation.n_resamples=49", "evaluation.n_repairings=49")
    pair = [
        next(iter((runs / "captures" / name).glob("*/capture.json"))).parent for name in ("tiny_prose", "tiny_code")
    ]
    alone = here(
        "coherence", f"captures=[{pair[0]},{pair[1]}]", "proxy=none", *settings, f"runs_dir={runs}", "progress=false"
    )
    folder = here("collect", f"runs_dir={runs}", "name=both", "progress=false")
    assert folder.parent == runs / "collect"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert (results["n_runs"], results["n_pairs"], results["left_out"]) == (2, 2, [])
    rows = {row["run"]: row for row in pq.read_table(folder / "table.parquet").to_pylist()}
    assert set(rows) == {three.name, alone.name}
    whole = json.loads((three / "discriminate" / "results.json").read_text(encoding="utf-8"))
    rivals = {name: c for name, c in whole["contrasts"].items() if whole["rules"][name]["role"] == "rival"}
    strongest = max(rivals, key=lambda name: rivals[name]["lower_simultaneous"])
    row = rows[three.name]
    assert row["strongest_rival"] == strongest
    assert row["difference_nats"] == rivals[strongest]["difference_nats"]
    assert (row["k"], row["n_models"], row["condition"]) == (whole["k"], 3, "none")
    judged = json.loads((three / "results.json").read_text(encoding="utf-8"))["verdicts"]
    tested = {name: verdict for name, verdict in judged.items() if verdict != "not tested"}
    assert {name: row[f"verdict_{name.replace('.', '_')}"] for name in tested} == tested
    assert rows[alone.name]["discrimination_verdict"] is None
    with (folder / "claims.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(tested) + 1
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert f"../../run/{three.name}/report/report.html" in report


def test_nothing_to_collect_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    said = refused("collect", f"runs_dir={tmp_path}", "runs=no/*/such,folder", "progress=false")
    assert "got none for 'no/*/such,folder'" in said
    assert "`alpha` must be" in refused("collect", f"runs_dir={tmp_path}", "alpha=2")
    assert "`map` must be one of arctan" in refused("collect", f"runs_dir={tmp_path}", "map=zero")
