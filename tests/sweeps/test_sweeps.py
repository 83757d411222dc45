"""Sweeps in real processes of this machine: what every launcher says of every end, resuming, Ctrl-C."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sweeps.conftest import Command

LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "local": ("hydra/launcher=local",),
}


def _is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _pids(command: "Command") -> list[int]:
    records = [json.loads(path.read_text()) for path in command.runs.glob("sweeps/*/*/status.json")]
    return [record["pid"] for record in records]


def _members(group: int) -> list[int]:
    """Live processes of a process group and of the groups that were started from it."""
    session = [line.split() for line in subprocess.check_output(["ps", "-eo", "pid,sess,stat"], text=True).splitlines()]
    return [int(pid) for pid, sess, stat in session[1:] if int(sess) == group and not stat.startswith("Z")]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_end_is_reported_and_a_resume_does_what_is_missing(launcher: str, command: "Command") -> None:
    sweep = ("seed=1,7,8,9,10,2", *LAUNCHERS[launcher])
    done = command(*sweep)
    assert done.returncode == 1
    [folder] = command.runs.glob("sweeps/*")
    *made, last = done.stdout.splitlines()
    assert sorted(made) == [str(command.runs / f"made-{seed}") for seed in (1, 2)]
    assert last == str(folder)
    assert re.search(r"failed  seed=7  \d+\.\d s: `seed` must not be 7, got 7\.\n", done.stderr)
    assert 'raise RuntimeError("a bug")\nRuntimeError: a bug\n' in done.stderr
    assert "sys.exit(3)\nSystemExit: 3\n" in done.stderr
    assert re.search(r"killed  seed=10: killed \(process \d+ on \S+ is gone\)", done.stderr)
    assert "leaked" not in done.stderr
    assert "submitit" not in done.stderr
    heads = re.findall(r"^\[(\d)/6\] (?:done|failed|killed) ", done.stderr, re.MULTILINE)
    assert heads == list("123456")
    with (folder / "sweep.csv").open(newline="") as file:
        rows = {row["overrides"]: (row["status"], row["exit_code"], row["message"]) for row in csv.DictReader(file)}
    assert rows["seed=1"] == ("DONE", "0", "")
    assert rows["seed=7"] == ("FAILED", "2", "`seed` must not be 7, got 7.")
    assert rows["seed=8"] == ("FAILED", "1", "RuntimeError: a bug")
    assert rows["seed=9"] == ("FAILED", "1", "sys.exit(3) was called")
    assert rows["seed=10"][0] == "KILLED"
    summary = json.loads((folder / "sweep.json").read_text())
    assert (summary["exit_code"], len(summary["jobs"])) == (1, 6)

    command.mend()
    before = command.began()  # under joblib, some twice: who ran beside the killed one
    done = command(*sweep)
    assert done.returncode == 0, done.stderr
    assert "sweep of 6 jobs (2 done before)" in done.stderr
    assert command.began() == sorted([*before, 7, 8, 9, 10])
    assert sorted(done.stdout.splitlines()[:-1]) == sorted(str(path) for path in command.runs.glob("made-*"))


def test_who_dies_beside_a_killed_worker_runs_again_alone(command: "Command") -> None:
    process = command.start("seed=20,11,1,2", *LAUNCHERS["joblib"])
    command.until(lambda: command.began().count(20) == 2)
    (command.runs / "go").touch()
    _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "a process was killed, and 2 jobs died with it; each runs again by itself" in err
    assert command.began() == [1, 2, 11, 11, 20, 20]
    summary = json.loads(next(command.runs.glob("sweeps/*/sweep.json")).read_text())
    assert {job["label"]: job["status"] for job in summary["jobs"]} == {
        "seed=20": "DONE",
        "seed=11": "KILLED",
        "seed=1": "DONE",
        "seed=2": "DONE",
    }


def test_joblib_divides_the_cores_among_its_jobs(command: "Command") -> None:
    assert command("seed=1,2", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}").returncode == 0
    assert (command.runs / "made-1" / "threads").read_text() == "1"


def test_local_jobs_see_the_gpus_of_their_submitter(command: "Command") -> None:
    assert command("seed=1", *LAUNCHERS["local"], CUDA_VISIBLE_DEVICES="3,4").returncode == 0
    assert (command.runs / "made-1" / "gpus").read_text() == "3,4"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ctrl_c_ends_every_process_and_the_same_command_goes_on(launcher: str, command: "Command") -> None:
    sweep = ("seed=1,20,21", *LAUNCHERS[launcher])
    process = command.start(*sweep)
    command.until(lambda: 20 in command.began() and 1 in command.began())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "stopping; Ctrl-C again stops at once" in err
    assert "stopped seed=20" in err
    assert err.splitlines()[-1].startswith("brf-exp: interrupted.")
    assert str(command.runs / "made-1") in out.splitlines()
    command.until(lambda: not _members(process.pid), seconds=60)
    (command.runs / "go").touch()
    again = command(*sweep)
    assert again.returncode == 0
    assert "(1 done before)" in again.stderr


def test_ctrl_c_ends_every_batch_of_separate_processes(command: "Command") -> None:
    # The killed job ends the launcher of its batch while another job of that batch goes on.
    process = command.start("seed=10,20,21", *LAUNCHERS["local"], "hydra.sweeper.max_batch_size=2")
    command.until(lambda: {10, 20, 21} <= set(command.began()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "stopped seed=20" in err
    assert "stopped seed=21" in err
    command.until(lambda: not _members(process.pid), seconds=60)


def test_a_folder_of_results_that_is_moved_stays_valid(command: "Command") -> None:
    assert command("seed=1,2").returncode == 0
    command.runs.rename(command.folder / "moved")
    again = command("seed=1,2", "runs_dir=moved")
    assert again.returncode == 0
    assert "(2 done before)" in again.stderr
    assert again.stdout.splitlines()[:-1] == [str(command.folder / "moved" / f"made-{seed}") for seed in (1, 2)]


def test_a_killed_command_leaves_no_process_and_the_next_one_goes_on(command: "Command") -> None:
    process = command.start("seed=1,20", *LAUNCHERS["joblib"])
    command.until(lambda: {1, 20} == set(command.began()))
    process.kill()
    process.communicate(timeout=180)
    command.until(lambda: not any(map(_is_alive, _pids(command))), seconds=60)
    (command.runs / "go").touch()
    again = command("seed=1,20")
    assert again.returncode == 0
    assert command.began() == [1, 20, 20]


def test_two_commands_at_once_do_every_job_once(command: "Command") -> None:
    first = command.start("seed=1,20,2")
    command.until(lambda: 20 in command.began())
    second = command.start("seed=1,20,2")
    assert second.stderr is not None
    assert "(1 done before, 1 at work already)" in second.stderr.readline()
    command.until(lambda: 2 in command.began())
    (command.runs / "go").touch()
    for process in (first, second):
        process.communicate(timeout=180)
        assert process.returncode == 0
    assert command.began() == [1, 2, 20]


def test_each_job_is_reported_when_it_ends(command: "Command") -> None:
    process = command.start("seed=1,20,2", PYTHONUNBUFFERED="1")
    assert process.stderr is not None
    process.stderr.readline()
    assert process.stderr.readline().startswith("[1/3] done    seed=1 ")
    assert command.began() in ([1], [1, 20])  # the others are not done
    (command.runs / "go").touch()
    process.communicate(timeout=180)


def test_jobs_that_need_the_same_capture_wait_for_each_other(tmp_path: Path) -> None:
    arguments = ["capture", "-m", "model=tiny_prose", "corpus.max_tokens=2000", "seed=1,2", *LAUNCHERS["joblib"]]
    done = subprocess.run(
        [sys.executable, "-m", "brf_exp", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    one, other, _ = done.stdout.splitlines()
    assert one == other
    [manifest] = (tmp_path / "runs" / "captures").glob("*/*/capture.json")
    assert manifest.parent == Path(one)
    assert not list((tmp_path / "runs" / "captures").glob("*/*.partial"))
