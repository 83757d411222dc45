"""Sweeps on a real Slurm of two emulated nodes, without accounting: `make slurm`, as root."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sweeps.conftest import Command

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "slurm"
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two nodes with two stand-in GPUs each; SLURM_CONF points at them."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPTS / "start", folder], check=True, timeout=420, env={**os.environ, "SLURM_GPUS": "2"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield
    subprocess.run([SCRIPTS / "stop", folder], check=True, timeout=120)


def _client(*command: str) -> str:
    return subprocess.run(command, check=True, timeout=30, capture_output=True, text=True).stdout


def _queue() -> dict[str, str]:
    listed = _client("squeue", "--noheader", "--array", "--format=%i|%T")
    return dict(line.strip().split("|") for line in listed.splitlines())


def _record(command: "Command", seed: int) -> dict[str, object]:
    records = [json.loads(path.read_text()) for path in command.runs.glob("sweeps/*/*/status.json")]
    [record] = [record for record in records if f"seed={seed}" in record["overrides"]]
    return dict(record)


def _rows(command: "Command") -> dict[str, dict[str, str]]:
    [path] = command.runs.glob("sweeps/*/sweep.csv")
    with path.open(newline="") as file:
        return {row["overrides"]: row for row in csv.DictReader(file)}


@pytest.mark.usefixtures("cluster")
def test_a_sweep_with_every_failure_and_its_resume(command: "Command") -> None:
    seeds = "seed=1,2,3,4,7,8,9,10,20"
    process = command.start(seeds, *SLURM)
    command.until(lambda: 20 in command.began())
    # One job is killed from outside, in the middle of its work.
    _client("scancel", "--signal=KILL", str(_record(command, 20)["slurm_job"]))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    [sweep] = command.runs.glob("sweeps/*")
    made = [str(command.runs / f"made-{seed}") for seed in (1, 2, 3, 4)]
    assert sorted(out.splitlines()[:-1]) == made
    assert out.splitlines()[-1] == str(sweep)
    assert "failed  seed=7  " in err
    assert "`seed` must not be 7, got 7." in err
    assert 'raise RuntimeError("a bug")\nRuntimeError: a bug\n' in err
    assert "sys.exit(3)\nSystemExit: 3\n" in err
    assert re.search(r"killed  seed=10: Slurm job \d+_7 ended as FAILED: .*Killed", err)
    assert re.search(r"killed  seed=20: Slurm job \d+_8 ended as (FAILED|CANCELLED)", err)
    assert {row["status"] for row in _rows(command).values()} == {"DONE", "FAILED", "KILLED"}

    command.mend()
    done = command(seeds, *SLURM)
    assert done.returncode == 0
    assert "sweep of 9 jobs (4 done before)" in done.stderr
    assert "5 jobs submitted to Slurm" in done.stderr
    assert command.began() == sorted([1, 2, 3, 4, *2 * [7, 8, 9, 10, 20]])
    assert {row["status"] for row in _rows(command).values()} == {"DONE"}

    again = command(seeds, *SLURM)
    assert again.returncode == 0
    assert "(9 done before)" in again.stderr
    assert len(command.began()) == 14


@pytest.mark.usefixtures("cluster")
def test_ctrl_c_says_how_to_cancel_and_the_same_command_waits_again(command: "Command") -> None:
    sweep = ("seed=1,20,21", *SLURM)
    process = command.start(*sweep)
    command.until(lambda: {20, 21} <= set(command.began()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    [line] = [line for line in err.splitlines() if "To cancel them" in line]
    slurm_job = line.split("scancel ")[1]
    assert {job.split("_")[0] for job in _queue()} == {slurm_job}
    # Nothing was stopped: the same command finds the jobs at work and waits for them.
    waiting = command.start(*sweep)
    assert waiting.stderr is not None
    assert "(1 done before, 2 at work already)" in waiting.stderr.readline()
    (command.runs / "go").touch()
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "submitted" not in err
    assert command.began() == [1, 20, 21]


@pytest.mark.usefixtures("cluster")
def test_what_is_cancelled_before_it_starts_is_reported(command: "Command") -> None:
    # As many waiting jobs as the two nodes have cores, and one for which there is no room.
    n_cores = 2 * (os.cpu_count() or 1)
    seeds = [20] if n_cores == 1 else list(range(20, 20 + min(n_cores, 9)))
    limited = f"hydra.launcher.array_parallelism={len(seeds)}"
    process = command.start(f"seed={','.join(map(str, [*seeds, 1]))}", *SLURM, limited)
    command.until(lambda: len(command.began()) == len(seeds))
    command.until(lambda: "PENDING" in _queue().values())
    [pending] = [job for job, state in _queue().items() if state == "PENDING"]
    _client("scancel", pending)
    (command.runs / "go").touch()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert f"killed  seed=1: Slurm job {pending} ended as CANCELLED" in err
    assert command.began() == seeds


@pytest.mark.usefixtures("cluster")
def test_what_slurm_refuses_is_one_line(command: "Command") -> None:
    done = command("seed=1,2", *SLURM, "hydra.launcher.partition=nowhere")
    assert done.returncode == 2
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("brf-exp: `hydra/launcher` must be able to launch, got an error: ")
    assert "invalid partition specified: nowhere" in last
    assert "Traceback" not in done.stderr
    assert list(command.runs.glob("sweeps/*")) == []


@pytest.mark.usefixtures("cluster")
def test_every_job_gets_the_gpu_it_asks_for(command: "Command") -> None:
    process = command.start("seed=20,21", *SLURM, "hydra.launcher.gpus_per_node=1")
    command.until(lambda: len(command.began()) == 2)
    (command.runs / "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    # Each sees one of its node's two, which Slurm chose.
    assert all((command.runs / f"made-{seed}" / "gpus").read_text() in ("0", "1") for seed in (20, 21))


@pytest.mark.usefixtures("cluster")
def test_real_jobs_on_two_nodes_share_their_captures(tmp_path: Path) -> None:
    small = ["corpus.max_tokens=3000", "evaluation.controls=false", "evaluation.n_negative_controls=9"]
    command = [shutil.which("brf-exp") or "brf-exp", "coherence", "-m", "phase=arctan,tanh", *small, *SLURM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    captures = [path.parent.name for path in (tmp_path / "runs" / "captures").glob("*/*/capture.json")]
    assert len(captures) == 3  # two models and a proxy, for two jobs
    assert not list((tmp_path / "runs" / "captures").glob("*/*.partial"))
    assert len(list((tmp_path / "runs" / "coherence").glob("*/results.json"))) == 2
