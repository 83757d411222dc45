"""Runs cases and holds every one to the same promise: accepted whole, or refused in one line with nothing left."""

import contextlib
import io
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brf_exp.config import IngestStageConfig
from brf_exp.errors import BrfError
from brf_exp.stages import ingest
from brf_exp.storage import runs
from fuzzing.cases import Case, make_case

SECONDS_PER_CASE = 20
MEMORY_BYTES = 1024**3


class PromiseError(AssertionError):
    """A case that was neither accepted nor refused as it must be."""


@dataclass
class Outcome:
    """What became of some cases: how many were accepted and refused, by kind, and those that broke the promise."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)

    @property
    def n_cases(self) -> int:
        """Cases run."""
        return self.accepted.total() + self.refused.total() + len(self.broken)


def run_cases(numbers: Iterable[int], *, seed: int, current: Path | None = None) -> Outcome:
    """Run cases by number; `current` is a file that always names the one being run."""
    outcome = Outcome()
    before = peak_bytes()
    with tempfile.TemporaryDirectory(prefix="brf-exp-fuzz-", dir=_quick_folder()) as folder, _quietly():
        for number in numbers:
            if current is not None:
                current.write_text(str(number), encoding="utf-8")
            _run_case(make_case(number, seed), Path(folder), outcome)
            if peak_bytes() - before > MEMORY_BYTES:
                outcome.broken.append((number, f"memory rose by {peak_bytes() - before} bytes"))
                before = peak_bytes()
    return outcome


def run_range(first: int, stop: int, seed: int, folder: str) -> Outcome:
    """Run a range of cases; a file named by the process holds the number of the one being run."""
    return run_cases(range(first, stop), seed=seed, current=Path(folder) / str(os.getpid()))


def peak_bytes() -> int:
    """Most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run_case(case: Case, folder: Path, outcome: Outcome) -> None:
    """Run one case and note what became of it."""
    work, runs_dir = folder / "case", folder / "runs"
    work.mkdir()
    runs_dir.mkdir()
    try:
        with _time_limit(SECONDS_PER_CASE):
            is_accepted = _is_accepted(case.write(work), runs_dir)
        (outcome.accepted if is_accepted else outcome.refused)[case.kind] += 1
    except Exception:  # noqa: BLE001 - every kind of failure is what is looked for
        outcome.broken.append((case.number, traceback.format_exc()))
    finally:
        shutil.rmtree(work)
        shutil.rmtree(runs_dir)


def _is_accepted(submission: Path, runs_dir: Path) -> bool:
    """Whether ingest takes it; PromiseError where it neither does so whole nor refuses in one line."""
    try:
        made = ingest.run(IngestStageConfig(submission=str(submission), runs_dir=str(runs_dir)))
    except BrfError as error:
        line = str(error)
        if not line.isprintable() or not line.startswith("`") or len(line) > 2000:
            raise PromiseError(f"no single line: {line!r}") from error
        if list(runs_dir.iterdir()):
            raise PromiseError(f"left behind: {sorted(runs_dir.rglob('*'))}") from error
        return False
    left = [path for path in runs_dir.rglob("*.partial*")]
    if left or not (made / "pair.json").is_file():
        raise PromiseError(f"not whole: {left}")
    return True


@contextlib.contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """TimeoutError where the block takes longer."""

    def stop(_signal: int, _frame: Any) -> None:
        raise TimeoutError(f"took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Nothing printed, and no look at the source tree and the installed packages for every accepted case."""
    before = runs.environment, runs.package_versions
    runs.environment = runs.package_versions = dict  # type: ignore[assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        runs.environment, runs.package_versions = before


def _quick_folder() -> str | None:
    """Memory in place of a disk, where there is some."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
