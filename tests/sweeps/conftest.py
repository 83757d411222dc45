"""`brf-exp audit` with a stand-in for the stage that ends in every way a job can end, in real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Loaded by every interpreter that has the folder on PYTHONPATH, worker processes and Slurm jobs included.
SITE = """
import importlib.util, pathlib, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "brf_exp.stages.audit":
            return importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name("stand_in.py"))

sys.meta_path.insert(0, Finder())
"""

STAND_IN = """
import os, pathlib, signal, sys, time
from brf_exp.errors import InputError

def run(config):
    runs = pathlib.Path(config.runs_dir)
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / "began").open("a") as file:
        file.write(f"{config.seed}\\n")
    if not (runs / "mended").exists():
        misbehave(config.seed, runs)
    made = runs / f"made-{config.seed}"
    made.mkdir(exist_ok=True)
    (made / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
    (made / "gpus").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
    return made

def misbehave(seed, runs):
    if seed == 7:
        raise InputError("`seed` must not be 7,\\ngot 7.")
    if seed == 8:
        raise RuntimeError("a bug")
    if seed == 9:
        sys.exit(3)
    if seed == 11:  # dies beside 20, not before it
        deadline = time.monotonic() + 180
        while "20" not in (runs / "began").read_text().split() and time.monotonic() < deadline:
            time.sleep(0.05)
    if seed in (10, 11):
        os.kill(os.getpid(), signal.SIGKILL)
    if 20 <= seed < 30:
        deadline = time.monotonic() + 180
        while not (runs / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
"""


@dataclass
class Command:
    """A folder to run `brf-exp audit -m` in, with the stand-in in place."""

    folder: Path
    site: Path
    processes: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        paths = os.pathsep.join([str(self.site), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-m", "brf_exp", "audit", "-m", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def __call__(self, *arguments: str, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def began(self) -> list[int]:
        """The seeds of every job that was started, sorted, a job that was started twice twice."""
        path = self.runs / "began"
        return sorted(map(int, path.read_text().split())) if path.exists() else []

    def mend(self) -> None:
        """From now on every job succeeds."""
        (self.runs / "mended").touch()

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 180) -> None:
        """Wait for something that other processes bring about."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    (site / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "work").mkdir()
    made = Command(tmp_path / "work", site)
    yield made
    for process in made.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
