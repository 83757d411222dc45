import json
import os
import re

import pytest

from brf_exp.errors import InputError, MissingInputError
from brf_exp.report import load_run, newest_run
from brf_exp.report.load import input_files


def test_everything_stored_is_loaded(whole_run):
    run = load_run(whole_run)
    assert run.coherence["primary"] == run.discrimination["primary"] == "arctan"
    assert len(run.phases) == len(run.losses) == 252
    assert list(run.repairings) == ["excess", "residual_excess"]
    assert run.coherence_curve["coherence"].iloc[-1] == 1.0
    assert sorted(run.captures) == ["a", "b"]
    assert sorted(run.manifests) == ["audit", "claims", "coherence", "discriminate", "run"]
    assert run.verdicts["verdict"].tolist() == ["falsified", "supported", "inconclusive", "not tested"]


def test_a_stage_that_was_not_run_is_none(make_run):
    run = load_run(make_run(stages=("coherence",), captures=False))
    assert run.discrimination is run.losses is run.coherence_curve is run.audit is run.claims is None
    assert run.measured["stage"] == "coherence"
    assert run.captures == {}
    assert run.verdicts.empty


def test_a_capture_that_was_deleted_is_left_out(make_run):
    folder = make_run()
    (folder.parent / f"{folder.name}-captures" / "a" / "capture.json").unlink()
    assert sorted(load_run(folder).captures) == ["b"]


def test_a_folder_without_results_names_the_command(tmp_path):
    with pytest.raises(MissingInputError, match=re.escape("results of a test, got")) as caught:
        load_run(tmp_path)
    assert str(caught.value).startswith("`run` must be a run folder")
    assert str(caught.value).endswith("Make a run with `brf-exp run`.")


def test_broken_json_is_named(make_run):
    folder = make_run()
    (folder / "claims" / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"claims/results.json` must be JSON: .* Run its stage again\."):
        load_run(folder)


@pytest.mark.parametrize(("content", "got"), [({"schema": 2}, "2"), ({}, "None"), ([], "'list'")])
def test_another_schema_is_refused(make_run, content, got):
    folder = make_run()
    (folder / "audit" / "results.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=rf"audit/results.json` must have schema 1, got {got}\."):
        load_run(folder)


def test_the_newest_finished_run_is_found(make_run):
    old, new, unfinished = (make_run(name) for name in ("b-old", "a-new", "c-unfinished"))
    os.utime(old / "results.json", ns=(1, 1))
    (unfinished / "results.json").unlink()
    assert newest_run(new.parent.parent) == new


def test_no_run_names_the_command(tmp_path):
    with pytest.raises(
        MissingInputError, match=r"must hold a finished run, got none\. Make a run with `brf-exp run`\."
    ):
        newest_run(tmp_path)


def test_input_files_do_not_depend_on_where_the_run_lies(make_run):
    names = [set(input_files(load_run(make_run(name)))) for name in ("one", "two")]
    assert names[0] == names[1]
    assert {"captures/a/capture.json", "coherence/positions.parquet", "results.json"} <= names[0]
