"""One job of a sweep: its folder, its record, and a lock that is held as long as its process lives."""

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from brf_exp.errors import BrfError
from brf_exp.storage.locks import flock

RECORD = "status.json"
LOCK = ".lock"
# Exit codes of jobs; the last is what a shell says of SIGKILL, whatever the signal was.
USER_ERROR, BUG, INTERRUPTED_CODE, KILLED_CODE = 2, 1, 130, 137
HOST = platform.node()


class Status(StrEnum):
    """How far a job is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    KILLED = "KILLED"
    INTERRUPTED = "INTERRUPTED"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass
class Record:
    """What is known of a job: written when it starts and when it ends, and read by whoever watches.

    `made` is absolute here; in the file it is relative to the runs folder where it lies under it, see `stored_path`.
    """

    key: str
    stage: str
    overrides: list[str]
    status: Status
    exit_code: int | None = None
    message: str = ""
    traceback: str | None = None
    made: str | None = None
    host: str = HOST
    pid: int | None = None
    slurm_job: str | None = None
    started: str | None = None
    seconds: float | None = None
    schema: int = 1


@dataclass(frozen=True)
class Job:
    """One combination of a sweep. `refused` is what is wrong with its settings, where that shows before it runs."""

    number: int
    stage: str
    overrides: list[str]
    label: str
    key: str
    folder: Path
    refused: str | None = None

    def record(self, status: Status, **more: Any) -> Record:
        """A record of this job."""
        return Record(key=self.key, stage=self.stage, overrides=self.overrides, status=status, **more)


@dataclass
class _Work:
    """What a job does, measured."""

    record: Record
    began: float = field(default_factory=time.monotonic)

    def ended(self, status: Status, exit_code: int, message: str, **more: Any) -> Record:
        seconds = round(time.monotonic() - self.began, 3)
        return dataclasses.replace(
            self.record, status=status, exit_code=exit_code, message=message, seconds=seconds, **more
        )


def read(folder: Path) -> Record | None:
    """A job's record, or None where there is none that can be read."""
    try:
        plain = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record = Record(**{**plain, "status": Status(plain["status"])})
        return dataclasses.replace(record, made=record.made and str(_runs_dir(folder) / record.made))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(folder: Path, record: Record) -> None:
    """Replace a job's record as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {**dataclasses.asdict(record), "made": stored_path(folder, record.made)}
    replace_text(folder / RECORD, json.dumps(plain, indent=1) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replace a file as a whole; two processes that do it at once do not get into each other's way."""
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)


def stored_path(folder: Path, made: str | None) -> str | None:
    """What a job made, as it is written: relative to the runs folder where it lies there, so that both can be moved."""
    if made is None or not Path(made).is_relative_to(_runs_dir(folder)):
        return made
    return str(Path(made).relative_to(_runs_dir(folder)))


def _runs_dir(folder: Path) -> Path:
    """The runs folder of a job's folder `<runs_dir>/sweeps/<sweep>/<job>`, absolute."""
    return Path(os.path.abspath(folder / "../../.."))  # noqa: PTH100 - links stay as they were named


def is_done(record: Record | None) -> bool:
    """Whether a job is done and what it made is still there."""
    return (
        record is not None and record.status is Status.DONE and record.made is not None and Path(record.made).exists()
    )


def is_held(folder: Path) -> bool:
    """Whether a live process works on the job; flock is released by death."""
    with _try_lock(folder) as free:
        return not free


def bury(folder: Path, message: str) -> Record | None:
    """Write KILLED where a job's process is gone and left it RUNNING or QUEUED; the record that is there then."""
    with _try_lock(folder) as free:
        found = read(folder)
        if not free or found is None or found.status.is_over:
            return found
        found = dataclasses.replace(found, status=Status.KILLED, exit_code=KILLED_CODE, message=message)
        write(folder, found)
        return found


def enqueue(job: Job, slurm_job: str) -> None:
    """Write QUEUED for a job that Slurm has, unless it runs already."""
    with _try_lock(job.folder) as free:
        found = read(job.folder)
        if free and (found is None or found.slurm_job != slurm_job):
            write(job.folder, job.record(Status.QUEUED, slurm_job=slurm_job))


def perform(folder: Path, stage: str, overrides: list[str], work: Callable[[], Path]) -> None:
    """Do a job's work and write how it went; nothing where another process has done it meanwhile.

    Whatever ends the work ends up in the record. Only an interrupt goes on to the caller, since it means all jobs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        flock(file, fcntl.LOCK_EX, folder / LOCK)
        if is_done(read(folder)):
            return
        doing = _Work(_starting(folder.name, stage, overrides))
        write(folder, doing.record)
        try:
            _attempt(folder, doing, work)
        except KeyboardInterrupt as error:
            # Launchers send a Ctrl-C of their own on top of the user's: it may have come before the record was written.
            with _undisturbed():
                found = read(folder)
                if found is None or not found.status.is_over:
                    write(folder, _ended_by(error, doing))
            raise


def _attempt(folder: Path, doing: _Work, work: Callable[[], Path]) -> None:
    try:
        made = work().absolute()
    except BaseException as error:
        record = _ended_by(error, doing)
        write(folder, record)
        _log(record)
        if isinstance(error, KeyboardInterrupt) or not record.status.is_over:
            raise
    else:
        write(folder, doing.ended(Status.DONE, 0, "", made=str(made)))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without another Ctrl-C, where this thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _starting(key: str, stage: str, overrides: list[str]) -> Record:
    return Record(
        key=key,
        stage=stage,
        overrides=overrides,
        status=Status.RUNNING,
        pid=os.getpid(),
        slurm_job=slurm_job_id(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def slurm_job_id() -> str | None:
    """Slurm's name of the job this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _ended_by(error: BaseException, doing: _Work) -> Record:
    """The record of a job that an error ended."""
    if isinstance(error, BrfError):
        return doing.ended(Status.FAILED, USER_ERROR, " ".join(str(error).splitlines()))
    if isinstance(error, KeyboardInterrupt):
        return doing.ended(Status.INTERRUPTED, INTERRUPTED_CODE, "interrupted")
    if isinstance(error, SystemExit) and _is_requeued(error):
        return dataclasses.replace(doing.record, status=Status.QUEUED)
    # The first frame is `_attempt`, which is not of interest to anybody.
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    text = "".join(traceback.format_exception(type(error), error, frames))
    if isinstance(error, SystemExit):
        return doing.ended(Status.FAILED, BUG, f"sys.exit({error.code!r}) was called", traceback=text)
    return doing.ended(Status.FAILED, BUG, "".join(traceback.format_exception_only(error)).strip(), traceback=text)


def _is_requeued(error: SystemExit) -> bool:
    """Whether submitit left the job because Slurm starts it again: its time was up, or it had to make room."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_globals.get("__name__") == "submitit.core.job_environment"


def _log(record: Record) -> None:
    """What went wrong, for a job that has a log of its own."""
    if "SUBMITIT_EXECUTOR" in os.environ or record.slurm_job is not None:
        print(record.traceback or record.message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _try_lock(folder: Path) -> Iterator[bool]:
    """Hold a job's lock for a moment; yields False where another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        yield flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, folder / LOCK)
