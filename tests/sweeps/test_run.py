"""A sweep that is given its launcher: jobs that others have, and commands that submit at the same time."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from brf_exp.errors import MissingInputError
from brf_exp.multirun import _sweep_dir
from brf_exp.overrides import Request
from brf_exp.sweeps import jobs, table
from brf_exp.sweeps.jobs import Job, Status
from brf_exp.sweeps.run import Launcher, Sweep

# A job of another machine that sees the same locks.
ELSEWHERE = """
import pathlib, platform, sys, time
platform.node = lambda: "elsewhere"
from brf_exp.sweeps.jobs import perform
perform(pathlib.Path(sys.argv[1]), "audit", [], lambda: print("on", flush=True) or time.sleep(60))
"""

# Submits an array as submitit does; its jobs are done by then. The second argument is the id of the array.
SUBMIT = """
import pathlib, sys, time
from brf_exp.sweeps import jobs
from brf_exp.sweeps.jobs import Job, Status
from brf_exp.sweeps.run import Launcher, Sweep

folder, array = pathlib.Path(sys.argv[1]), sys.argv[2]
submitted = folder / ".submitit"
todo = [Job(n, "audit", [], f"seed={n}", key=f"key{n}", folder=folder / f"key{n}") for n in range(2)]

def launch(batch):
    while not (folder.parent / "go").exists():
        time.sleep(0.02)
    for n, job in enumerate(batch):
        name = f"{array}_{n}"
        (submitted / name).mkdir(parents=True)
        jobs.write(job.folder, job.record(Status.DONE, exit_code=0, made=str(folder), slurm_job=name))
        (submitted / name / f"{name}_submitted.pkl").touch()
    time.sleep(60)

sys.exit(Sweep("audit", folder, todo, Launcher.SLURM, launch, submitit_dir=submitted).run())
"""


def _job(folder: Path, number: int) -> Job:
    return Job(number, "audit", [], f"seed={number}", key=f"key{number}", folder=folder / f"key{number}")


def _refuse(batch: list[Job]) -> None:
    raise AssertionError(f"nothing is to be launched, got {batch}")


def _squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int = 0) -> Path:
    """A squeue that says this; the file has a line for every time it was asked."""
    asked = tmp_path / "asked"
    script = tmp_path / "bin" / "squeue"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho \"$@\" >>'{asked}'\nprintf '{text}'\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return asked


def test_a_job_of_another_machine_that_dies_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = _job(tmp_path, 1)
    with subprocess.Popen([sys.executable, "-c", ELSEWHERE, job.folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        threading.Timer(0.5, process.kill).start()
        assert Sweep("audit", tmp_path, [job], Launcher.BASIC, _refuse).run() == 1
    err = capsys.readouterr().err
    assert "1 at work already" in err
    message = f"no end known: process {process.pid} on elsewhere is gone or works out of sight"
    assert err.splitlines()[-1].split() == ["1", "seed=1", "running", *message.split()]
    summary = json.loads((tmp_path / table.JSON).read_text())
    assert summary["exit_code"] == 1
    assert [(job["status"], job["message"]) for job in summary["jobs"]] == [("RUNNING", message)]


def test_slurm_is_asked_once_about_all_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    todo = [_job(tmp_path, number) for number in range(3)]
    for job in todo:
        jobs.enqueue(job, f"5_{job.number}")
    asked = _squeue(tmp_path, monkeypatch, r"5_0|RUNNING\n5_1|PENDING\n5_2|FAILED\n")
    sweep = Sweep("audit", tmp_path, todo, Launcher.SLURM, _refuse)
    assert sweep._missing() == todo[2:]
    assert "2 at work already" in capsys.readouterr().err
    assert len(asked.read_text().splitlines()) == 1


def test_jobs_that_slurm_may_have_are_not_launched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path, 1)
    jobs.enqueue(job, "5_0")
    _squeue(tmp_path, monkeypatch, "", code=1)
    with pytest.raises(MissingInputError, match=r"^`squeue` must answer: Slurm was given 1 job of this sweep"):
        Sweep("audit", tmp_path, [job], Launcher.SLURM, _refuse).run()
    record = jobs.read(job.folder)
    assert record is not None
    assert (record.status, record.slurm_job) == (Status.QUEUED, "5_0")


def test_commands_that_submit_at_once_submit_every_job_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    _squeue(tmp_path, monkeypatch, "")
    sweep = tmp_path / "sweep"
    commands = [
        subprocess.Popen([sys.executable, "-c", SUBMIT, sweep, array], stderr=subprocess.PIPE, text=True)
        for array in ("5", "6")
    ]
    try:
        for process in commands:
            assert process.stderr is not None
            assert "sweep of 2 jobs: " in process.stderr.readline()
        (tmp_path / "go").touch()
        said = [process.communicate(timeout=60)[1] for process in commands]
    finally:
        for process in commands:
            process.kill()
    assert [process.returncode for process in commands] == [0, 0], said
    assert len(list((sweep / ".submitit").iterdir())) == 2
    assert sum("2 jobs submitted to Slurm" in err for err in said) == 1


def test_a_sweep_has_one_folder_however_it_is_launched_and_another_where_it_differs(tmp_path: Path) -> None:
    def folder(*overrides: str) -> Path:
        return _sweep_dir(Request("audit", sweep=True, flags=[], overrides=list(overrides), runs_dir=tmp_path))

    plain = folder("seed=1,2")
    how = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=8", "+hydra.launcher.ray.remote.num_gpus=1"]
    assert folder("seed=1,2", *how, "hydra.sweeper.max_batch_size=9", "progress=false", "runs_dir=x") == plain
    others = [folder("+hydra.sweeper.params.seed=1"), folder("+hydra.sweeper.params.seed=2"), folder("seed=1,3")]
    assert len({plain, *others}) == 4
