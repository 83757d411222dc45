"""Records of jobs: what is written for every end, who may write it, and what is worth a launch."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from brf_exp.errors import InputError
from brf_exp.sweeps import jobs, slurm, table, watch
from brf_exp.sweeps.child import Child, Ending, attempt
from brf_exp.sweeps.jobs import Job, Record, Status, perform, read


def _raises(error: BaseException) -> Callable[[], NoReturn]:
    def work() -> NoReturn:
        raise error

    return work


def _job(folder: Path, number: int = 1) -> Job:
    return Job(
        number, "audit", [f"seed={number}"], f"seed={number}", key=f"key{number}", folder=folder / f"key{number}"
    )


@pytest.mark.parametrize(
    ("error", "code", "message", "with_traceback"),
    [
        (InputError("two\nlines"), 2, "two lines", False),
        (RuntimeError("a bug"), 1, "RuntimeError: a bug", True),
        (SystemExit(3), 1, "sys.exit(3) was called", True),
        (SystemExit(), 1, "sys.exit(None) was called", True),
        (MemoryError(), 1, "MemoryError", True),
    ],
)
def test_a_failure_is_recorded_and_goes_no_further(
    error: BaseException, code: int, message: str, with_traceback: bool, tmp_path: Path
) -> None:
    perform(tmp_path, "audit", ["seed=1"], _raises(error))
    record = read(tmp_path)
    assert record is not None
    assert (record.status, record.exit_code, record.message) == (Status.FAILED, code, message)
    assert (record.traceback is not None) == with_traceback
    assert record.pid == os.getpid()
    assert "sweeps/jobs.py" not in (record.traceback or "")


def test_an_interrupt_is_recorded_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        perform(tmp_path, "audit", [], _raises(KeyboardInterrupt()))
    record = read(tmp_path)
    assert record is not None
    assert (record.status, record.exit_code) == (Status.INTERRUPTED, 130)


def test_a_second_interrupt_does_not_cost_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended_by = jobs._ended_by

    def disturbed(error: BaseException, doing: jobs._Work) -> Record:
        signal.raise_signal(signal.SIGINT)
        return ended_by(error, doing)

    monkeypatch.setattr(jobs, "_ended_by", disturbed)
    with pytest.raises(KeyboardInterrupt):
        perform(tmp_path, "audit", [], lambda: signal.raise_signal(signal.SIGINT) or tmp_path)  # type: ignore[func-returns-value]
    record = read(tmp_path)
    assert record is not None
    assert record.status is Status.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_job_that_slurm_queues_again_is_not_over(tmp_path: Path) -> None:
    # As submitit leaves a job whose time is up.
    leave = "def leave():\n    raise SystemExit(-1)\n"
    names: dict[str, object] = {"__name__": "submitit.core.job_environment"}
    exec(leave, names)
    work = names["leave"]
    assert callable(work)
    with pytest.raises(SystemExit):
        perform(tmp_path, "audit", [], work)
    record = read(tmp_path)
    assert record is not None
    assert record.status is Status.QUEUED


def test_what_is_done_is_not_done_again_unless_it_is_gone(tmp_path: Path) -> None:
    made, calls = tmp_path / "made", []

    def work() -> Path:
        calls.append(1)
        made.mkdir(exist_ok=True)
        return made

    for n_calls in (1, 1):
        perform(tmp_path / "job", "audit", [], work)
        assert len(calls) == n_calls
    made.rmdir()
    perform(tmp_path / "job", "audit", [], work)
    assert len(calls) == 2
    assert jobs.is_done(read(tmp_path / "job"))


def test_what_lies_in_the_runs_folder_moves_with_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs" / "audit" / "x", tmp_path / "elsewhere"
    for name, made in (("a", inside), ("b", outside)):
        made.mkdir(parents=True)
        perform(tmp_path / "runs" / "sweeps" / "audit-1" / name, "audit", [], lambda made=made: made)  # type: ignore[misc]
    (tmp_path / "runs").rename(tmp_path / "moved")
    records = [read(tmp_path / "moved" / "sweeps" / "audit-1" / name) for name in ("a", "b")]
    assert [record and record.made for record in records] == [str(tmp_path / "moved/audit/x"), str(outside)]
    assert all(map(jobs.is_done, records))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"status": "NEW"}', '{"status": "DONE", "more": 1}'])
def test_a_record_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / jobs.RECORD).write_text(text)
    assert read(tmp_path) is None


def test_only_the_dead_are_buried(tmp_path: Path) -> None:
    job = _job(tmp_path)
    code = (
        "import sys, pathlib, time\nfrom brf_exp.sweeps.jobs import perform\n"
        "perform(pathlib.Path(sys.argv[1]), 'audit', [], lambda: print('on', flush=True) or time.sleep(60))"
    )
    with subprocess.Popen([sys.executable, "-c", code, job.folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        assert jobs.is_held(job.folder)
        found = jobs.bury(job.folder, "gone")
        assert found is not None and found.status is Status.RUNNING
        process.kill()
    assert not jobs.is_held(job.folder)
    found = jobs.bury(job.folder, "gone")
    assert found == read(job.folder)
    assert found is not None and (found.status, found.exit_code, found.message) == (Status.KILLED, 137, "gone")


def test_enqueue_does_not_overwrite_what_the_job_itself_wrote(tmp_path: Path) -> None:
    job = _job(tmp_path)
    jobs.enqueue(job, "5_0")
    record = read(job.folder)
    assert record is not None and (record.status, record.slurm_job) == (Status.QUEUED, "5_0")
    jobs.write(job.folder, job.record(Status.DONE, slurm_job="5_0"))
    jobs.enqueue(job, "5_0")
    record = read(job.folder)
    assert record is not None and record.status is Status.DONE
    jobs.enqueue(job, "6_0")
    record = read(job.folder)
    assert record is not None and (record.status, record.slurm_job) == (Status.QUEUED, "6_0")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([0, 0], 0), ([0, 2], 2), ([2, 1], 1), ([0, 137], 1), ([2, 137], 1), ([], 0), ([0, None], 1), ([2, None], 1)],
)
def test_exit_code(codes: list[int | None], expected: int, tmp_path: Path) -> None:
    status = {0: Status.DONE, 137: Status.KILLED, None: Status.RUNNING}
    records = [_job(tmp_path).record(status.get(code, Status.FAILED), exit_code=code) for code in codes]
    assert watch.exit_code(records) == expected


def test_a_job_that_never_started_has_no_good_end() -> None:
    assert watch.exit_code([None]) == 1


# --- children ---------------------------------------------------------------------------------------------------------


def test_a_child_says_how_it_ended() -> None:
    code = """
import os, signal, sys
from brf_exp.sweeps.child import Child
def end(work):
    child = Child.start(work)
    ending = None
    while ending is None:
        ending = child.wait(5)
    child.end()
    print(ending.signal, ending.message)
end(lambda: None)
end(lambda: [][0])
end(lambda: os.kill(os.getpid(), signal.SIGKILL))
end(lambda: sys.exit(3))
def fail_at_length():
    raise ValueError("\\u00e9" * 300_000)
child = Child.start(fail_at_length)
while (ending := child.wait(5)) is None:
    pass
print(len(ending.message), ending.traceback.endswith(ending.message + "\\n"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    *short, long = done.stdout.splitlines()
    assert short == ["None None", "None IndexError: list index out of range", "9 None", "None None"]
    assert long == f"{len('ValueError: ') + 300_000} True"
    assert done.stderr == ""


def test_an_ending_in_words() -> None:
    assert Ending(signal=9).words == "killed by SIGKILL, perhaps for want of memory"
    assert Ending(signal=11).words == "killed by SIGSEGV"
    assert attempt(_raises(ValueError("no"))).words == "ValueError: no"
    assert Ending().words == "its process ended without a word"
    assert Child.__doc__


# --- Slurm, by a client that says what it is told to ------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A squeue or scontrol with given output."""

    def says(name: str, text: str = "", *, error: str = "", code: int = 0) -> None:
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho '{error}' >&2\nexit {code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")

    return says


def test_states_of_jobs(client: Callable[..., None]) -> None:
    client("squeue", "12_0|RUNNING\n12_1|CANCELLED\n13|PENDING")
    assert slurm.states(["12_0", "12_1", "12_2", "13"]) == {
        "12_0": "RUNNING",
        "12_1": "CANCELLED",
        "12_2": slurm.GONE,
        "13": "PENDING",
    }
    assert slurm.states([]) == {}


def test_a_controller_that_knows_no_job_or_does_not_answer(client: Callable[..., None]) -> None:
    client("squeue", error="slurm_load_jobs error: Invalid job id specified", code=1)
    assert slurm.states(["12_0"]) == {"12_0": slurm.GONE}
    client("squeue", error="slurm_load_jobs error: Unable to contact slurm controller", code=1)
    assert slurm.states(["12_0"]) is None


def test_the_size_of_arrays(client: Callable[..., None]) -> None:
    client("scontrol", "MaxArraySize            = 1001\nMaxDBDMsgs = 20012")
    assert slurm.array_size() == 1000
    client("scontrol", code=1)
    assert slurm.array_size() == slurm.DEFAULT_ARRAY_SIZE


def test_submissions_count_when_they_are_whole_and_keep_their_order(tmp_path: Path) -> None:
    for name in ("7_0", "7_10", "7_9", "7", "%j", "8_0"):
        (tmp_path / name).mkdir()
    for name in ("7_0", "7_9", "7_10"):
        (tmp_path / name / f"{name}_submitted.pkl").touch()
    found = slurm.submissions(tmp_path)
    assert found == {"7_0", "7_9", "7_10"}
    assert slurm.in_order(found, 3) == ["7_0", "7_9", "7_10"]
    assert slurm.in_order(found, 4) is None
    assert slurm.in_order(found, 2) is None
    assert slurm.submissions(None) == set()


def test_a_job_that_slurm_lost_is_killed_after_a_while(
    client: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = _job(tmp_path)
    now = [100.0]
    monkeypatch.setattr("brf_exp.sweeps.watch.time.monotonic", lambda: now[0])
    jobs.enqueue(job, "5_0")
    seen = watch.Watch([job], tmp_path)
    seen.expect(job.key, "5_0")
    client("squeue", error="Unable to contact slurm controller", code=1)
    for now[0] in (100.0, 300.0):  # no answer is no death
        seen.look()
        assert seen.open == [job]
    client("squeue", "5_0|NODE_FAIL")
    for now[0] in (400.0, 405.0):
        seen.look()
        assert seen.open == [job]
    now[0] = 411.0
    seen.look()
    assert seen.open == []
    assert capsys.readouterr().err == "[1/1] killed  seed=1: Slurm job 5_0 ended as NODE_FAIL\n"
    # The same where it never came to write a record.
    (job.folder / jobs.RECORD).unlink()
    unborn = watch.Watch([job], tmp_path)
    unborn.expect(job.key, "5_0")
    for now[0] in (500.0, 511.0):
        unborn.look()
    assert [record.exit_code for record in [*seen.over.values(), *unborn.over.values()]] == [137, 137]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_saved_table_holds_no_formula_and_every_job(tmp_path: Path) -> None:
    job = Job(1, "run", ["+experiment=x"], "=SUM(A1)", key="k", folder=tmp_path / "k")
    record = Record("k", "run", job.overrides, Status.FAILED, exit_code=1, message="-1 is wrong,\nvery")
    table.save(tmp_path, [job, _job(tmp_path, 2)], {"k": record}, stage="run", launcher="basic", code=1)
    lines = (tmp_path / table.CSV).read_text().splitlines()
    assert lines[1].startswith("1,k,'+experiment=x,FAILED,1,,\"'-1 is wrong,")
    assert lines[-1] == "2,key2,seed=2,NOT STARTED,,,not started,"
    saved = json.loads((tmp_path / table.JSON).read_text())
    assert [job["status"] for job in saved["jobs"]] == ["FAILED", "NOT STARTED"]


@pytest.mark.parametrize("start", ["=", "\n=", "\uff1d"])
def test_no_message_becomes_a_formula(start: str, tmp_path: Path) -> None:
    record = _job(tmp_path).record(Status.FAILED, exit_code=1, message=f"{start}1+1")
    table.save(tmp_path, [_job(tmp_path)], {"key1": record}, stage="run", launcher="basic", code=1)
    with (tmp_path / table.CSV).open(newline="") as file:
        assert [row["message"] for row in csv.DictReader(file)] == [f"'{start}1+1"]


def test_commands_that_end_at_once_save_their_tables_both(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\nfrom brf_exp.sweeps import table\n"
        "for _ in range(300):\n    table.save(pathlib.Path(sys.argv[1]), [], {}, stage='run', launcher='', code=0)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {table.JSON, table.CSV}


def test_the_printed_table_is_aligned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = _job(tmp_path, 1), _job(tmp_path, 2)
    done = one.record(Status.DONE, exit_code=0, made="/w/x/y", seconds=1.25)
    table.show([one, two], {"key1": done})
    assert capsys.readouterr().err.splitlines() == [
        "job  overrides  status       seconds  message",
        "1    seed=1     done         1.2      x/y",
        "2    seed=2     not started",
    ]
