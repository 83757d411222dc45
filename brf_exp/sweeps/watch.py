"""Who watches a sweep: reads the records, asks Slurm, and says at once how each job went."""

import dataclasses
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from brf_exp.sweeps import slurm
from brf_exp.sweeps.jobs import BUG, HOST, KILLED_CODE, USER_ERROR, Job, Record, Status, bury, is_held, read

SLURM_INTERVAL_SECONDS = 5.0
# How long Slurm's word may be ahead of the record, which other machines see late: where Slurm saw the job end well,
# as long as network file systems keep what they know of a folder.
GRACE_SECONDS = {True: 90.0, False: 10.0}
_WORDS = {
    Status.DONE: "done",
    Status.FAILED: "failed",
    Status.KILLED: "killed",
    Status.INTERRUPTED: "stopped",
}
_WELL = frozenset(("COMPLETED", slurm.GONE))


@dataclass
class Watch:
    """The jobs of a sweep that are not over, and what is known of those that are."""

    jobs: list[Job]
    submitit_dir: Path | None = None
    over: dict[str, Record] = field(default_factory=dict)
    slurm_jobs: dict[str, str] = field(default_factory=dict)
    spares_the_dead: bool = False
    _states: dict[str, str] = field(default_factory=dict)
    _asked: float = float("-inf")
    _ended: dict[str, float] = field(default_factory=dict)

    @property
    def open(self) -> list[Job]:
        """The jobs that are not known to be over."""
        return [job for job in self.jobs if job.key not in self.over]

    def look(self) -> None:
        """Read every record once; report what is new."""
        self._ask_slurm()
        for job in self.open:
            record = read(job.folder)
            if record is None:
                record = self._never_started(job)
            elif not record.status.is_over:
                record = self._buried(job, record)
            if record is not None and record.status.is_over:
                self.close(job, record)

    def close(self, job: Job, record: Record) -> None:
        """Take a job for over and say how it went."""
        self.over[job.key] = record
        report(record, job, n_over=len(self.over), n_jobs=len(self.jobs))

    def is_alive(self, job: Job) -> bool:
        """Whether anybody works on a job, or will as far as Slurm knows."""
        record = read(job.folder)
        if record is not None and record.status.is_over:
            return False
        if self._slurm_job(job, record) is not None:
            return job.key not in self.over
        return record is not None and is_held(job.folder)

    def is_dead(self, job: Job) -> bool:
        """Whether a job of this machine was left running by a process that is gone."""
        record = read(job.folder)
        return record is not None and record.status is Status.RUNNING and not is_held(job.folder)

    def expect(self, key: str, slurm_job: str) -> None:
        """Remember under which id Slurm has a job."""
        self.slurm_jobs[key] = slurm_job
        self._asked = float("-inf")

    def with_slurm(self, jobs: Iterable[Job]) -> list[str]:
        """The ids to cancel for these jobs, as far as Slurm has them."""
        return sorted({slurm.main_id(self.slurm_jobs[job.key]) for job in jobs if job.key in self.slurm_jobs}, key=int)

    def last_records(self) -> dict[str, Record]:
        """The record of every job that has one, by key; one without an end says that its end is not known."""
        unfinished = {job.key: self._unfinished(job) for job in self.open}
        return self.over | {key: record for key, record in unfinished.items() if record is not None}

    def _unfinished(self, job: Job) -> Record | None:
        record = read(job.folder)
        slurm_job = self._slurm_job(job, record)
        if slurm_job is not None:
            record = record or job.record(Status.QUEUED, slurm_job=slurm_job)
            return dataclasses.replace(record, message=f"Slurm job {slurm_job} was not over when this command ended")
        if record is None or record.status.is_over:
            return record
        fate = "still works on it" if is_held(job.folder) else "is gone or works out of sight"
        return dataclasses.replace(record, message=f"no end known: process {record.pid} on {record.host} {fate}")

    def _slurm_job(self, job: Job, record: Record | None) -> str | None:
        if record is not None and record.slurm_job is not None:
            self.slurm_jobs[job.key] = record.slurm_job
        return self.slurm_jobs.get(job.key)

    def _buried(self, job: Job, record: Record) -> Record | None:
        """KILLED where a job that should be running is not; None where it is."""
        slurm_job = self._slurm_job(job, record)
        if slurm_job is not None:
            words = self._fate(slurm_job)
            return bury(job.folder, words) if words is not None else None
        if self.spares_the_dead or record.host != HOST or is_held(job.folder):
            return None
        return bury(job.folder, f"killed (process {record.pid} on {record.host} is gone), perhaps for want of memory")

    def _never_started(self, job: Job) -> Record | None:
        slurm_job = self._slurm_job(job, None)
        words = self._fate(slurm_job) if slurm_job is not None else None
        return job.record(Status.KILLED, exit_code=KILLED_CODE, message=words, slurm_job=slurm_job) if words else None

    def _fate(self, slurm_job: str) -> str | None:
        """How Slurm says that a job ended which has no record of its own end; None while it may still write one."""
        state = self._states.get(slurm_job)
        if state is None or slurm.is_live(state):
            self._ended.pop(slurm_job, None)
            return None
        ended = self._ended.setdefault(slurm_job, time.monotonic())
        if time.monotonic() - ended < GRACE_SECONDS[state in _WELL]:
            return None
        tail = slurm.log_tail(self.submitit_dir, slurm_job) if self.submitit_dir is not None else ""
        return f"Slurm job {slurm_job} ended as {state}" + (f": {tail}" if tail else "")

    def _ask_slurm(self) -> None:
        asked = [self.slurm_jobs[job.key] for job in self.open if job.key in self.slurm_jobs]
        if not asked or time.monotonic() - self._asked < SLURM_INTERVAL_SECONDS:
            return
        self._states |= slurm.states(asked) or {}
        self._asked = time.monotonic()


def report(record: Record, job: Job, *, n_over: int, n_jobs: int) -> None:
    """One line on stderr, with the traceback of a bug; what was made as a line on stdout."""
    seconds = "" if record.seconds is None else f"  {record.seconds:.1f} s"
    message = "" if record.status is Status.DONE or record.traceback else f": {record.message}"
    head = f"[{n_over}/{n_jobs}] {_WORDS[record.status]:<8}{job.label}{seconds}{message}"
    lines = [head] if record.traceback is None else [head, record.traceback.rstrip()]
    print("\n".join(lines), file=sys.stderr, flush=True)
    if record.status is Status.DONE and record.made is not None:
        print(record.made, flush=True)


def exit_code(records: Iterable[Record | None]) -> int:
    """0 where all is done, 2 where only users' errors stand in the way, else 1: also for a job without an end."""
    codes = {record.exit_code if record is not None else None for record in records if not _is_done(record)}
    if not codes:
        return 0
    return USER_ERROR if codes == {USER_ERROR} else BUG


def _is_done(record: Record | None) -> bool:
    return record is not None and record.status is Status.DONE
