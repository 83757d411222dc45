import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from brf_exp.cli import main
from brf_exp.config import CollectStageConfig
from brf_exp.errors import MissingInputError
from brf_exp.maths.multiplicity import adjusted_pvalues, tail_pvalue
from brf_exp.stages.collect import run
from brf_exp.stages.collect_find import find
from brf_exp.stages.collect_pvalues import agreement_sides
from brf_exp.storage.runs import read_json


@pytest.fixture
def collect(tmp_path, monkeypatch):
    """Collect what lies under tmp_path/runs without drawing; returns folder, results, rows and claim rows."""
    monkeypatch.setattr("brf_exp.report.collect_write._figures", lambda collection: {})

    def make(**settings):
        folder = run(CollectStageConfig(runs_dir=str(tmp_path / "runs"), progress=False, **settings))
        tables = [pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("table", "claims")]
        return folder, read_json(folder / "results.json"), *tables

    return make


@pytest.fixture
def write(tmp_path, write_light_run):
    return lambda name, **numbers: write_light_run(tmp_path / "runs" / "run" / name, **numbers)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def of_claim(rows, claim):
    return {row["pair"]: row for row in rows if row["claim"] == claim}


# Independent of the package and of scipy: straight from the definitions, without sorting tricks.
def brute_holm(p):
    m = len(p)
    adjusted = []
    for i in range(m):
        # The smallest level at which step-down, run from scratch, rejects test i.
        order = sorted(range(m), key=lambda j: (p[j], j))
        stop = order.index(i)
        adjusted.append(min(1.0, max((m - step) * p[order[step]] for step in range(stop + 1))))
    return adjusted


def brute_step_up(p, factor):
    m = len(p)
    found = []
    for i in range(m):
        candidates = []
        for cut in p:
            n_below = sum(q <= cut for q in p)
            if cut >= p[i]:
                candidates.append(factor * m * cut / n_below)
        found.append(min(1.0, min(candidates)))
    return found


@pytest.mark.parametrize("m", [1, 2, 7, 60])
def test_corrections_agree_with_their_definitions(m):
    rng = np.random.default_rng(m)
    for p in (rng.uniform(size=m), rng.beta(0.2, 3, size=m), np.round(rng.uniform(size=m), 1), np.ones(m)):
        made = adjusted_pvalues(p)
        np.testing.assert_allclose(made.holm, brute_holm(p), rtol=1e-12)
        np.testing.assert_allclose(made.benjamini_hochberg, brute_step_up(p, 1.0), rtol=1e-12)
        harmonic = sum(1 / k for k in range(1, m + 1))
        np.testing.assert_allclose(made.benjamini_yekutieli, brute_step_up(p, harmonic), rtol=1e-12)


def test_no_test_at_all_is_a_family_too():
    assert adjusted_pvalues(np.array([])).holm.size == 0


@pytest.mark.parametrize("df", [3, 39, 500])
def test_the_pvalue_of_an_interval_is_that_of_the_t_test_it_came_from(df):
    rng = np.random.default_rng(df)
    for _ in range(50):
        estimate, error, bound, tail = rng.normal(), rng.uniform(0.1, 2), rng.normal(), rng.choice([0.025, 0.05])
        end = estimate - stats.t.ppf(1 - tail, df) * error
        found = tail_pvalue(estimate - bound, estimate - end, tail=tail, df=df)
        np.testing.assert_allclose(found, stats.t.sf((estimate - bound) / error, df), rtol=1e-9)
        assert (found < tail) == (end > bound)
    assert (tail_pvalue(1, 0, tail=0.05, df=df), tail_pvalue(-1, 0, tail=0.05, df=df)) == (0.0, 1.0)


def test_beyond_the_decision_tails_are_those_of_so_few_degrees_of_freedom(collect, write):
    """Of 21 documents few hold most of the positions: at twice the distance t(3) gives .009 where t(20) gives .001."""
    share, error = (0.05 + 2 * stats.t.ppf(0.975, 20) * 0.01, 0.01)
    for name, df in (("few", 3.0), ("equal", 20.0), ("older", None), ("impossible", 0.2)):
        write(name, pair=name, share=(share, error), gain=(-0.005 - 1e-4 - 2 * 1.75 * 0.002, 0.002), effective_df=df)
    _, _, _, rows = collect()
    coherent, better = (of_claim(rows, f"brf.{name}") for name in ("phase_coherence", "discrimination"))
    for name, df in (("few", 3), ("equal", 20), ("older", 1), ("impossible", 1)):
        expected = 2 * stats.t.sf(2 * stats.t.ppf(0.975, df), df)
        assert coherent[name]["supported_pvalue"] == pytest.approx(expected)
        expected = stats.t.sf(2 * stats.t.ppf(0.95, df), df)
        assert better[name]["supported_pvalue"] == pytest.approx(expected)
    assert better["few"]["supported_pvalue"] > 0.009
    assert better["equal"]["supported_pvalue"] < 0.002


def test_ends_of_agreement_have_the_same_tails(write):
    found = read_json(write("one", effective_df=3.0) / "discriminate" / "results.json")
    found["agreement"] = {"negative_share": 0.25, "interval": [0.15, 0.35]}
    rarely, often = agreement_sides(None, found)
    assert often == pytest.approx(2 * stats.t.sf(2 * stats.t.ppf(0.975, 3), 3))
    assert rarely == 1.0


def test_alone_every_verdict_is_that_of_its_run_and_pvalues_say_the_same(collect, write, tmp_path):
    """One run at a time the correction is none: p < 0.05 exactly where the run's own rule decided."""
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(25):
        share, gain = rng.choice([0.0, 0.04, 0.06, 0.1, 0.2]), rng.choice([-0.02, -0.006, -0.004, 0.0, 0.03])
        write("one", share=(share, rng.uniform(0.005, 0.03)), gain=(gain, rng.uniform(0.0005, 0.004)))
        _, results, _, rows = collect()
        for claim in ("brf.phase_coherence", "brf.discrimination"):
            row = of_claim(rows, claim)["tiny"]
            decided = {side for side in ("supported", "falsified") if row[f"{side}_pvalue"] < 0.05}
            assert decided == ({row["verdict"]} - {"inconclusive"})
            assert (row["verdict_adjusted"], row["reason_adjusted"]) == (row["verdict"], row["reason"])
            seen.add((claim, row["verdict"]))
        assert [claim["n_pairs"] for claim in results["claims"]] == [1, 1, 1]
        shutil.rmtree(tmp_path / "runs")
    assert len(seen) == 6


def test_correction_over_pairs_keeps_what_is_sure_and_opens_what_is_not(collect, write):
    # t = (share - 0.05) / 0.01 with 20 df, doubled: 2.5 gives p 0.021, 8 gives 1e-7.
    for name, share in (("sure", 0.13), ("barely", 0.075), ("null", 0.05), ("far-below", -0.05)):
        write(name, pair=name, share=(share, 0.01))
    _, results, _, rows = collect()
    found = of_claim(rows, "brf.phase_coherence")
    assert {pair: row["verdict"] for pair, row in found.items()} == {
        "sure": "supported", "barely": "supported", "null": "inconclusive", "far-below": "falsified",
    }  # fmt: skip
    barely = found["barely"]
    p = 2 * stats.t.sf(2.5, 20)
    assert barely["supported_pvalue"] == pytest.approx(p)
    assert barely["supported_pvalue_holm"] == pytest.approx(3 * p)
    assert (barely["verdict_adjusted"], barely["reason_adjusted"]) == ("inconclusive", "multiplicity")
    assert found["sure"]["verdict_adjusted"] == "supported"
    assert found["far-below"]["verdict_adjusted"] == "falsified"
    claim = next(c for c in results["claims"] if c["id"] == "brf.phase_coherence")
    assert claim["verdicts"] == {"supported": 2, "falsified": 1, "inconclusive": 1}
    assert claim["verdicts_adjusted"] == {"supported": 1, "falsified": 1, "inconclusive": 2}
    assert (
        "Of 4 pairs, 2 supported, 1 falsified and 1 inconclusive; after Holm's correction over 4 tests, 1 sup"
        in (claim["sentence"])
    )


def test_a_gate_keeps_a_small_pvalue_out_of_the_family_but_not_the_test(collect, write):
    for name in ("one", "two"):
        write(name, pair=name, share=(0.13, 0.01))
    path = write("gated", pair="gated", share=(0.2, 0.01)) / "claims" / "results.json"
    judged = read_json(path)
    for claim in judged["claims"]:
        claim |= {"verdict": "inconclusive", "reason": "controls"}
    path.write_text(json.dumps(judged), encoding="utf-8")
    _, results, _, rows = collect()
    found = of_claim(rows, "brf.phase_coherence")
    assert found["gated"]["supported_pvalue"] < 1e-4
    assert found["gated"]["supported_pvalue_holm"] == 1.0
    assert found["one"]["supported_pvalue_holm"] == pytest.approx(3 * found["one"]["supported_pvalue"])
    family = next(f for f in results["families"] if (f["claim"], f["question"]) == ("brf.phase_coherence", "supported"))
    assert (family["n_tests"], family["n_holm"]) == (3, 2)


def test_a_pair_counts_once_by_how_its_runs_were_made(collect, write):
    """The tanh run is the significant one and the larger seed; the arctan run of seed 0 counts nevertheless."""
    write("a-tanh", pair="one", phase="tanh", share=(0.3, 0.01))
    write("b-arctan", pair="one", share=(0.05, 0.01), seed=0)
    write("c-arctan", pair="one", share=(0.3, 0.01), seed=1)
    write("d-renamed", pair="two", models=("org/one-b", "org/one-a"), share=(0.3, 0.01), seed=5)
    write("e-elsewhere", pair="one", corpus="laws", share=(0.05, 0.01))
    _, results, table, rows = collect()
    counted = {row["run"] for row in table if row["coherence_counted"]}
    assert counted == {"b-arctan", "e-elsewhere"}
    assert (results["n_runs"], results["n_pairs"]) == (5, 2)
    row = next(r for r in rows if r["run"] == "b-arctan" and r["claim"] == "brf.phase_coherence")
    assert (row["n_tests"], row["n_other_runs"], row["n_other_runs_agreeing"]) == (2, 3, 0)
    others = [r for r in rows if not r["counted"]]
    assert {r["run"] for r in others} == {"a-tanh", "c-arctan", "d-renamed"}
    assert all(r["verdict_adjusted"] is None and r["supported_pvalue_holm"] is None for r in others)
    _, _, table, _ = collect(map="tanh")
    assert "a-tanh" in {row["run"] for row in table if row["coherence_counted"]}


def test_too_few_draws_for_so_many_pairs_are_named(collect, write):
    for place in range(6):
        write(f"p{place}", pair=f"p{place}", share=(0.3, 0.01), n_repairings=99)
    _, results, _, rows = collect()
    family = next(f for f in results["families"] if (f["claim"], f["question"]) == ("brf.phase_coherence", "supported"))
    assert (family["smallest_possible_pvalue"], family["n_uncorrected"], family["n_holm"]) == (0.01, 6, 0)
    assert family["can_reject"] is False
    assert {row["verdict_adjusted"] for row in of_claim(rows, "brf.phase_coherence").values()} == {"inconclusive"}


def test_one_pair_with_few_draws_does_not_stand_for_all(collect, write):
    write("few", pair="few", share=(0.3, 0.01), n_repairings=39)
    for place in range(3):
        write(f"p{place}", pair=f"p{place}", share=(0.3, 0.01), n_repairings=9999)
    _, results, _, _ = collect()
    family = next(f for f in results["families"] if (f["claim"], f["question"]) == ("brf.phase_coherence", "supported"))
    assert (family["smallest_possible_pvalue"], family["n_holm"], family["can_reject"]) == (1e-4, 4, True)


def test_a_test_without_a_smallest_pvalue_leaves_the_family_without_one(collect, write):
    path = write("one", pair="one") / "manifest.json"
    described = read_json(path)
    del described["determines"]["evaluation"]
    path.write_text(json.dumps(described), encoding="utf-8")
    write("two", pair="two")
    _, results, _, _ = collect()
    floors = {(f["claim"], f["question"]): f["smallest_possible_pvalue"] for f in results["families"]}
    assert floors["discrimination", "difference"] is None
    assert floors["phase coherence", "dependence"] == 1e-5
    assert floors["brf.phase_coherence", "falsified"] is None


def test_more_than_two_models_decide_by_the_worst_of_their_pairs(collect, write):
    path = write("three", pair="three", share=(0.2, 0.01)) / "coherence" / "results.json"
    found = read_json(path)
    parts = [json.loads(json.dumps({name: found[name] for name in ("phases", "primary")})) for _ in range(3)]
    worst = parts[1]["phases"]["arctan"]
    worst["null"]["pvalue"] = 0.004
    found |= {"pairs": parts, "alpha": 0.05 / 3, "confidence_level": 1 - 0.05 / 3}
    path.write_text(json.dumps(found), encoding="utf-8")
    _, _, table, rows = collect()
    assert table[0]["coherence_pvalue"] == pytest.approx(3 * 0.004)
    assert of_claim(rows, "brf.phase_coherence")["three"]["supported_pvalue"] == pytest.approx(3 * 0.004)


def test_broken_runs_are_left_out_by_name_and_stop_nothing(collect, write, tmp_path):
    write("good")
    (write("unfinished", pair="u") / "manifest.json").unlink()
    (write("broken", pair="b") / "coherence" / "results.json").write_text("{", encoding="utf-8")
    nan = write("nan", pair="n") / "coherence" / "results.json"
    nan.write_text(nan.read_text(encoding="utf-8").replace("0.05", "NaN"), encoding="utf-8")
    newer = write("newer", pair="w") / "discriminate" / "results.json"
    newer.write_text(newer.read_text(encoding="utf-8").replace('"schema": 1', '"schema": 2'), encoding="utf-8")
    shutil.rmtree(write("half", pair="h") / "claims")
    wrong = write("wrong", pair="x") / "coherence" / "results.json"
    wrong.write_text(json.dumps(read_json(wrong) | {"n_positions": "many"}), encoding="utf-8")
    lacking = write("lacking", pair="y") / "discriminate" / "results.json"
    lacking.write_text(json.dumps({k: v for k, v in read_json(lacking).items() if k != "contrasts"}), encoding="utf-8")
    nameless = write("nameless", pair="q") / "coherence" / "results.json"
    nameless.write_text(json.dumps(read_json(nameless) | {"pair": None}), encoding="utf-8")
    mapless = write("mapless", pair="r") / "coherence" / "results.json"
    found = read_json(mapless)
    found["phases"]["null"] = found["phases"]["arctan"]
    mapless.write_text(json.dumps(found | {"primary": None}), encoding="utf-8")
    unsaid = write("unsaid", pair="s") / "claims" / "results.json"
    found = read_json(unsaid)
    found["claims"][0]["id"] = None
    unsaid.write_text(json.dumps(found), encoding="utf-8")
    shutil.copytree(tmp_path / "runs" / "run" / "good", tmp_path / "runs" / "run" / "zz-copy")
    (tmp_path / "runs" / "run" / "empty.partial").mkdir()
    (tmp_path / "runs" / "run" / "a-file").write_text("", encoding="utf-8")
    _, results, table, _ = collect()
    assert [row["run"] for row in table] == ["good"]
    reasons = {one["folder"].split("/")[-1]: one["reason"] for one in results["left_out"]}
    for name, words in {
        "unfinished": "not a finished run", "empty.partial": "not a finished run", "broken": "cannot be read",
        "nan": "NaN is no JSON", "newer": "schema 2; this version reads 1",
        "half": "no results of claims", "wrong": "n_positions is 'many'",
        "nameless": "pair is null", "mapless": "its results are not", "unsaid": "id is null",
        "lacking": "KeyError: 'contrasts'", "zz-copy": "the same content as good",
    }.items():  # fmt: skip
        assert words in reasons.pop(name)
    assert reasons == {}


def test_tests_run_on_their_own_are_collected_but_not_twice(collect, write, tmp_path):
    whole = write("whole", pair="whole", share=(0.2, 0.01))
    shutil.copytree(whole / "coherence", tmp_path / "runs" / "coherence" / "whole-again")
    other = write("other", pair="other", share=(0.2, 0.01))
    shutil.copytree(other / "discriminate", tmp_path / "runs" / "discriminate" / "other-alone")
    shutil.rmtree(other)
    _, results, table, rows = collect()
    assert {row["run"] for row in table} == {"whole", "other-alone"}
    assert [one["folder"] for one in results["left_out"]] == ["../../coherence/whole-again"]
    alone = next(row for row in table if row["run"] == "other-alone")
    assert (alone["share"], alone["coherence_verdict"], alone["coherence_counted"]) == (None, None, False)
    assert alone["difference_counted"] is True
    assert set(of_claim(rows, "brf.discrimination")) == {"whole", "other"}
    assert set(of_claim(rows, "brf.phase_coherence")) == {"whole"}


def test_a_sweep_names_its_runs_and_its_failed_jobs(collect, write, tmp_path):
    made = write("made", pair="made")
    sweep = tmp_path / "runs" / "sweeps" / "run-0123abcd"
    for name, record in {
        "0": {"overrides": ["pair=made"], "status": "DONE", "made": str(made), "message": ""},
        "1": {"overrides": ["pair=gone"], "status": "FAILED", "exit_code": 2, "message": "`pair` must be\nthere."},
        "2": {"overrides": ["pair=dead"], "status": "RUNNING", "made": None},
        "4": {"overrides": ["pair=lost"], "status": "DONE", "made": str(tmp_path / "runs" / "run" / "lost")},
    }.items():
        (sweep / name).mkdir(parents=True)
        (sweep / name / "status.json").write_text(json.dumps(record), encoding="utf-8")
    (sweep / "3").mkdir()
    (sweep / "3" / "status.json").write_text("{", encoding="utf-8")
    _, results, table, _ = collect(runs=str(sweep))
    assert [row["run"] for row in table] == ["made"]
    assert results["left_out"][0] == {"folder": "../../run/lost", "reason": "not there any more"}
    reasons = [one["reason"] for one in results["left_out"][1:]]
    assert reasons[0] == "job of a sweep [pair=gone]: failed: `pair` must be there."
    assert reasons[1] == "job of a sweep [pair=dead]: running"
    assert reasons[2].startswith("its record of a sweep cannot be read")


def test_only_jobs_of_the_sweeps_last_command_are_collected(collect, write, tmp_path):
    """Jobs of another version or other files stay in the folder; what was made is named from the runs folder."""
    made = {name: write(name, pair=name) for name in ("now", "former", "elsewhere")}
    outside = shutil.move(made["elsewhere"], tmp_path / "elsewhere")
    sweep = tmp_path / "runs" / "sweeps" / "run-0123abcd"
    for key, place in (("0a", "run/now"), ("0b", str(made["former"])), ("0c", str(outside))):
        (sweep / key).mkdir(parents=True)
        record = {"overrides": [], "status": "DONE", "made": place}
        (sweep / key / "status.json").write_text(json.dumps(record), encoding="utf-8")
    _, results, table, _ = collect(runs=str(sweep))
    assert {row["run"] for row in table} == {"now", "former", "elsewhere"}
    listed = {"schema": 1, "jobs": [{"key": "0a"}, {"key": "0c"}, {"key": "0d"}]}
    (sweep / "sweep.json").write_text(json.dumps(listed), encoding="utf-8")
    _, results, table, _ = collect(runs=str(sweep))
    assert {row["run"] for row in table} == {"now", "elsewhere"}
    assert results["left_out"] == [
        {"folder": "../../sweeps/run-0123abcd/0d", "reason": "job of a sweep that was not started"}
    ]
    moved = shutil.move(tmp_path / "runs", tmp_path / "moved")
    assert moved / "run" / "now" in find(str(moved / "sweeps" / "run-0123abcd"), moved).folders
    (moved / "sweeps" / "run-0123abcd" / "sweep.json").write_text("{", encoding="utf-8")
    assert len(find(str(moved / "sweeps" / "run-0123abcd"), moved).folders) == 3


def test_a_folder_that_cannot_be_read_is_left_out(collect, write, tmp_path, monkeypatch):
    write("one", pair="one")
    (tmp_path / "runs" / "coherence").mkdir()
    listed = Path.iterdir

    def denied(path):
        if path.name == "coherence":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", denied)
    _, results, _, _ = collect()
    assert results["n_runs"] == 1
    assert results["left_out"] == [{"folder": "../../coherence", "reason": "cannot be read: Permission denied"}]
    monkeypatch.undo()

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", closed)
    found = find(str(tmp_path / "runs"), tmp_path / "runs")
    assert [one.reason for one in found.left_out] == ["cannot be read: Permission denied"]


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"key": 1}', '{"files": {"report.html": null}}', "\udcff"])
def test_a_damaged_manifest_of_the_collection_is_made_again(collect, write, damaged):
    write("one")
    folder, *_ = collect()
    whole = contents(folder)
    (folder / "manifest.json").write_bytes(damaged.encode("utf-8", "surrogateescape"))
    (folder / "table.csv").write_text("damaged", encoding="utf-8")
    assert collect()[0] == folder
    again = contents(folder)
    assert {name for name in whole if whole[name] != again[name]} <= {"manifest.json"}
    assert read_json(folder / "manifest.json")["key"].startswith(folder.name[-8:])


@pytest.mark.parametrize("wanted", ["runs/run/*", "runs/run", "runs", "runs/run/[ab]*", "runs/run/a"])
def test_runs_are_named_by_pattern_folder_or_runs_folder(collect, write, tmp_path, monkeypatch, wanted):
    write("a", pair="a")
    write("b", pair="b")
    monkeypatch.chdir(tmp_path)
    _, results, _, _ = collect(runs=wanted)
    assert results["n_runs"] == (1 if wanted.endswith("/a") else 2)


def test_tables_have_a_type_per_column_whatever_is_null(collect, write):
    write("one", pair="one")
    folder, *_ = collect()
    types = {field.name: str(field.type) for field in pq.read_schema(folder / "table.parquet")}
    expected = {"run": "string", "seed": "int64", "phase_scale_logits": "double", "coherence_robust": "bool"}
    assert {name: types[name] for name in expected} == expected
    assert "null" not in types.values()
    assert types["verdict_brf_below_minimum"] == "string"


def test_cells_cannot_be_formulas_nor_latex(collect, write):
    write("one", pair="=cmd|'/c calc'!A0", corpus="50%_$x$ & \\input{a}")
    folder, *_ = collect()
    lines = (folder / "table.csv").read_text(encoding="utf-8").splitlines()
    assert "'=cmd|'/c calc'!A0" in lines[1]
    tex = (folder / "table.tex").read_text(encoding="utf-8")
    assert r"50\%\_\$x\$ \& \textbackslash{}input\{a\}" in tex
    assert tex.count(r"\\") == 3
    assert (folder / "claims.csv").read_text(encoding="utf-8").count("\n") == 4


def test_the_same_runs_give_the_same_bytes_and_are_collected_once(write, tmp_path):
    write("one", pair="one", share=(0.2, 0.01))
    write("two", pair="two")
    config = CollectStageConfig(runs_dir=str(tmp_path / "runs"), progress=False)
    folder = run(config)
    first = contents(folder)
    assert {"report.html", "table.tex", "figures/coherence_over_pairs.pdf", "figures/gains_over_pairs.svg"} <= set(
        first
    )
    os.utime(folder / "report.html", ns=(1, 1))
    manifest = read_json(tmp_path / "runs" / "run" / "one" / "manifest.json")
    manifest["environment"]["finished"] = "later"
    (tmp_path / "runs" / "run" / "one" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert run(config) == folder
    assert (folder / "report.html").stat().st_mtime_ns == 1
    (folder / "table.csv").write_text("damaged", encoding="utf-8")
    assert run(config) == folder
    again = contents(folder)
    assert {name for name in first if first[name] != again[name]} <= {"manifest.json"}
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "runs", moved)
    shutil.rmtree(moved / "collect")
    made = run(CollectStageConfig(runs_dir=str(moved), progress=False))
    assert made.name == folder.name
    assert {n for n, content in contents(made).items() if content != first[n]} <= {"manifest.json"}


def test_another_level_or_another_run_makes_another_collection(collect, write):
    write("one", pair="one")
    first, *_ = collect()
    second, *_ = collect(alpha=0.01)
    write("two", pair="two")
    third, *_ = collect()
    assert len({first, second, third}) == 3
    assert first.is_dir()


def test_nothing_to_collect_is_one_line(tmp_path, capsys):
    for arguments in ([], [f"runs={tmp_path}/nothing/*"]):
        assert main(["collect", f"runs_dir={tmp_path}/runs", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("brf-exp: `runs` must match at least one run folder, got none for")
        assert said.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_only_broken_runs_are_said_with_the_first_reason(write, tmp_path):
    (write("unfinished") / "manifest.json").unlink()
    with pytest.raises(
        MissingInputError, match=r"finished run, got none in 1 folder\. The first, .*not a finished run"
    ):
        run(CollectStageConfig(runs_dir=str(tmp_path / "runs"), progress=False))
