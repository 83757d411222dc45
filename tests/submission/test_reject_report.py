"""All problems of a submission in one pass: listed, counted, written where asked, and nowhere else."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.cli_help import stage_help
from brf_exp.config import IngestStageConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.stages import ingest as stage
from brf_exp.stages.ingest import run
from brf_exp.storage.runs import read_json
from brf_exp.submission.fault import fault
from brf_exp.submission.problems import LISTED_PER_CHECK, Problems
from brf_exp.submission.registry import CHECKS, check_table
from brf_exp.submission.reject_report import LINES_SHOWN, SHOWN_PER_CHECK

Submission = Any
DOCS = Path(__file__).resolve().parents[2] / "docs" / "ingest-checks.md"


def spoil_everywhere(submission: Submission) -> None:
    """A fault of its own in seven places of two tables and the texts."""
    submission.texts = '{"doc_id": "d1", "text": "x"}\nnot JSON\n'
    a, b = (submission.tables[key].astype(object) for key in "ab")
    a.loc[0, "logit_2"] = "abc"
    a.loc[1, "logit_1"] = "-1000"
    a.loc[2, "token_id"] = 500
    b.loc[0, "logsumexp"] = -99.0
    b.loc[1, "id_2"] = b.loc[1, "id_1"]
    b.loc[6, "position"] = 5
    submission.tables = {"a": a, "b": b}


def reject(submission: Path, tmp_path: Path, **settings: Any) -> str:
    """The line of a rejection."""
    with pytest.raises(InputError) as caught:
        run(IngestStageConfig(submission=str(submission), runs_dir=str(tmp_path / "runs"), **settings))
    return str(caught.value)


def test_every_problem_is_in_the_report(submission: Submission, tmp_path: Path) -> None:
    spoil_everywhere(submission)
    path = tmp_path / "reports" / "mine.json"
    line = reject(submission.write(), tmp_path, report=str(path))
    report = read_json(path)
    assert (report["accepted"], report["submission"]) == (False, str(submission.folder))
    assert line == report["problems"][0]["message"] + f" ({report['errors'] - 1} more errors: all in {path}.)"
    found = {(p["check"], p["file"], p["row"], p["column"]) for p in report["problems"]}
    assert found >= {
        ("cell-number", "a.csv", 1, "logit_2"),
        ("values-order", "a.csv", 2, "logit_2"),
        ("cell-range", "a.csv", 3, "token_id"),
        ("logsumexp-low", "b.csv", 1, "logsumexp"),
        ("ids-distinct", "b.csv", 2, "id_2"),
        ("texts-line", "texts.jsonl line 2", None, None),
        ("position-order", "b.csv", 7, "position"),
    }
    assert report["errors"] == sum(check["count"] for check in report["checks"] if check["severity"] == "error")
    for problem in report["problems"]:
        assert problem["remedy"] and problem["remedy"] in problem["message"]
        assert problem["severity"] == CHECKS[problem["check"]].severity
    text = path.with_suffix(".txt").read_text().splitlines()
    assert len(text) == len(report["problems"]) + 1
    assert text[0].startswith(f"error: {report['problems'][0]['check']}: `")
    assert not (tmp_path / "runs").exists()


def test_rows_of_another_width_stand_in_the_report(submission: Submission, tmp_path: Path) -> None:
    folder = submission.write()
    lines = (folder / "b.csv").read_text().splitlines()
    for row in (2, 5):
        lines[row] += ",1"
    lines[7] = lines[7].replace("d2", "d2\u200b")
    (folder / "b.csv").write_text("\n".join(lines))
    reject(folder, tmp_path, report=str(tmp_path / "report.json"))
    problems = read_json(tmp_path / "report.json")["problems"]
    assert [(one["check"], one["row"]) for one in problems] == [("cell-text", 7), ("table-file", 2), ("table-file", 5)]


def test_values_stand_in_the_report_as_they_were(submission: Submission, tmp_path: Path) -> None:
    submission.tables["a"] = submission.tables["a"].astype({"logit_2": object})
    submission.tables["a"].loc[0, "logit_2"] = "=HYPERLINK(1)\u202e" + "x" * 5000
    path = tmp_path / "report.json"
    reject(submission.write(), tmp_path, report=str(path))
    problem = next(p for p in read_json(path)["problems"] if p["check"] == "cell-number")
    assert problem["value"] == "'=HYPERLINK(1)\\u202e" + "x" * 57 + "..."
    assert path.with_suffix(".txt").read_text().isascii()


def test_listing_is_capped_and_counting_is_not(submission: Submission, tmp_path: Path) -> None:
    n = 1000
    lines = [f"{row},10.0,20.0" for row in range(n)]
    folder = submission.write()
    for key in "ab":
        (folder / f"{key}.csv").write_text("position,logit_1,logit_2\n" + "\n".join(lines) + "\n")
    path = tmp_path / "report.json"
    assert "worst first" in reject(folder, tmp_path, report=str(path))
    counts = {check["check"]: check for check in read_json(path)["checks"]}
    assert (counts["values-order"]["count"], counts["values-order"]["listed"]) == (2 * n, LISTED_PER_CHECK)
    rows = [p["row"] for p in read_json(path)["problems"] if p["check"] == "values-order"]
    assert rows == list(range(1, LISTED_PER_CHECK + 1))


def test_a_table_of_faults_alone_is_not_read_to_its_end(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brf_exp.submission.importing.MOST_PROBLEMS", 50)
    monkeypatch.setattr("brf_exp.submission.csv_tables.BLOCK_BYTES", 1000)
    folder = submission.write()
    for key in "ab":
        rows = "\n".join(f"{row},x,y" for row in range(5000))
        (folder / f"{key}.csv").write_text(f"position,logit_1,logit_2\n{rows}\n")
    path = tmp_path / "report.json"
    reject(folder, tmp_path, report=str(path))
    assert 50 < read_json(path)["errors"] < 2000


def test_the_readable_report_is_on_stdout_and_short(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_everywhere(submission)
    reject(submission.write(), tmp_path)
    out = capsys.readouterr().out.splitlines()
    assert 5 < len(out) <= LINES_SHOWN + 2
    assert out[-1].split(" (")[0].endswith(" errors, 0 warnings")
    for key in "ab":
        submission.tables[key] = submission.tables[key].assign(logsumexp=-99.0)
    reject(submission.write(), tmp_path)
    out = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("error: logsumexp-low: ") for line in out) == SHOWN_PER_CHECK
    assert out[-2].startswith("... and ")


def test_one_problem_needs_no_report(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission.tables["b"].loc[0, "logsumexp"] = -99.0
    line = reject(submission.write(), tmp_path)
    assert line.startswith("`b.csv row 1 column logsumexp` must be at least ") and "more error" not in line
    assert capsys.readouterr() == ("", "")


def test_an_accepted_submission_has_a_report_where_asked(submission: Submission, tmp_path: Path) -> None:
    submission.tables["a"]["note"] = "x"
    path = tmp_path / "report.json"
    config = IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs"), report=str(path))
    run(config)
    report = read_json(path)
    assert (report["accepted"], report["errors"], report["warnings"]) == (True, 0, 1)
    assert report["problems"][0]["check"] == "columns-ignored"


def test_a_report_that_cannot_be_written_is_one_line(submission: Submission, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    config = IngestStageConfig(
        submission=str(submission.write()), runs_dir=str(tmp_path / "runs"), report=str(tmp_path / "file" / "r.json")
    )
    with pytest.raises(ConfigError, match="`report` must be a file that can be written, got "):
        run(config)


def test_the_command_line_says_one_line_and_exits_with_2(submission: Submission, tmp_path: Path) -> None:
    spoil_everywhere(submission)
    folder = submission.write()
    runs_dir, report = tmp_path / "runs", tmp_path / "a report, with commas.json"
    command = [sys.executable, "-m", "brf_exp", "ingest", f"submission={folder}", f"runs_dir={runs_dir}"]
    done = subprocess.run([*command, f"report={report}"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("brf-exp: `")
    assert read_json(report)["errors"] > 5
    assert not runs_dir.exists()


def test_help_and_the_page_list_every_check() -> None:
    text = stage_help("ingest")
    for check in CHECKS.values():
        assert f"  {check.name} " in text and check.asks in text
    assert check_table() in DOCS.read_text(encoding="utf-8")


def test_every_check_is_used() -> None:
    package = Path(stage.__file__).resolve().parents[1]
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in [*package.joinpath("submission").glob("*.py"), package / "stages" / "ingest.py"]
        if path.name != "registry.py"
    )
    assert [name for name in CHECKS if f'"{name}"' not in source] == []


def test_help_loads_nothing_heavy() -> None:
    code = "from brf_exp.cli_help import stage_help; stage_help('ingest'); import sys; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_problems_are_counted_by_rows() -> None:
    problems = Problems()
    mask = np.arange(250) % 2 == 0
    for _ in range(3):
        problems.add_rows("cell-number", mask, lambda i: fault("f", "a number", i, "Mend it.", check="cell-number"))
    assert problems.counts["cell-number"] == 375
    assert len(problems.listed) == LISTED_PER_CHECK
    assert problems.n_errors == 375


def tree(folder: Path) -> str:
    """Hash of every name, kind and content below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)} {path.is_dir()} {path.is_symlink()}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    before = tree(tmp_path / "runs")
    submission.description["name"] = "other"
    config = IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs"))

    def full(_path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("brf_exp.storage.parts.finish_part", full)
    with pytest.raises(
        ConfigError, match="`runs_dir` and .* must have room for this submission, got a full disk. Free some."
    ):
        run(config)
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage._replace(free=10))
    with pytest.raises(ConfigError, match=r"`runs_dir` must have about \d+ bytes free for this submission, got 10\."):
        run(config)
    lock = tmp_path / "runs" / "submissions" / ".other.lock"
    assert not lock.exists() and tree(tmp_path / "runs") == before


def test_the_report_is_strict_json(submission: Submission, tmp_path: Path) -> None:
    submission.tables["a"].loc[0, "logit_1"] = np.inf
    path = tmp_path / "report.json"
    reject(submission.write(), tmp_path, report=str(path))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(path.read_text(), parse_constant=refuse)
