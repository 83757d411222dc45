"""A sweep from start to end: what is missing is launched, watched, and launched again where a death took it along."""

import contextlib
import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from brf_exp.errors import ConfigError, MissingInputError
from brf_exp.storage.locks import flock
from brf_exp.sweeps import slurm, table
from brf_exp.sweeps.child import Child, Ending, attempt
from brf_exp.sweeps.jobs import BUG, RECORD, USER_ERROR, Job, Record, Status, enqueue, is_done, is_held, read, write
from brf_exp.sweeps.watch import Watch, exit_code

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
# How long a launcher may take to return once all its jobs are over, before it is ended.
RETURN_SECONDS = 20.0
STOP_SECONDS = 60.0
SUBMIT_SECONDS = 30.0
SUBMITTING = ".submitting"


class Launcher(StrEnum):
    """Where jobs run, as far as it matters here."""

    BASIC = "basic"
    JOBLIB = "joblib"
    SUBMITIT_LOCAL = "submitit_local"
    SLURM = "slurm"
    OTHER = "other"


@dataclass
class Sweep:
    """The jobs of one command, and how to launch some of them."""

    stage: str
    folder: Path
    jobs: list[Job]
    launcher: Launcher
    launch: Callable[[list[Job]], object]
    max_batch_size: int | None = None
    submitit_dir: Path | None = None

    def __post_init__(self) -> None:
        """Watch all jobs."""
        self.watch = Watch(self.jobs, self.submitit_dir)
        # Several only where a batch's processes go on when their launcher is gone; the last is the latest.
        self._children: list[Child] = []
        self._batch: list[Job] = []
        self._launched: list[Job] = []
        self._submitted_before: set[str] = set()

    def run(self) -> int:
        """Run what is missing; the exit code. KeyboardInterrupt passes when everything is stopped and said."""
        is_new, interrupted = not self.folder.exists(), False
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run(self._missing())
        except KeyboardInterrupt:
            interrupted = True
            self._interrupt()
        except ConfigError:
            if is_new:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self._end_children()
        records = self.watch.last_records()
        code = 130 if interrupted else exit_code(records.get(job.key) for job in self.jobs)
        table.show(self.jobs, records)
        table.save(self.folder, self.jobs, records, stage=self.stage, launcher=str(self.launcher), code=code)
        print(self.folder, flush=True)
        if interrupted:
            raise KeyboardInterrupt
        return code

    def _missing(self) -> list[Job]:
        """The jobs to launch: neither done, nor refused, nor at work for an earlier command."""
        records = {job.key: read(job.folder) for job in self.jobs}
        done = [job for job in self.jobs if is_done(records[job.key])]
        elsewhere = self._at_work([job for job in self.jobs if job not in done], records)
        notes = [f"{len(done)} done before"] * bool(done) + [f"{len(elsewhere)} at work already"] * bool(elsewhere)
        noted = f" ({', '.join(notes)})" if notes else ""
        _say(f"sweep of {_counted(len(self.jobs))}{noted}: {self.folder}")
        for job in done:
            record = records[job.key]
            assert record is not None
            self.watch.over[job.key] = record
            print(record.made, flush=True)
        return [job for job in self.jobs if job not in done and job not in elsewhere and not self._is_refused(job)]

    def _at_work(self, jobs: list[Job], records: dict[str, Record | None]) -> list[Job]:
        """The jobs that an earlier command's process still works on, or that Slurm has."""
        begun = {job.key: record for job in jobs if (record := records[job.key]) and not record.status.is_over}
        with_slurm = {key: record.slurm_job for key, record in begun.items() if record.slurm_job is not None}
        live = self._live_in_slurm(with_slurm)
        here = begun.keys() - with_slurm.keys()
        return [job for job in jobs if job.key in live or (job.key in here and is_held(job.folder))]

    def _live_in_slurm(self, with_slurm: dict[str, str]) -> set[str]:
        """Keys of the jobs that Slurm has. MissingInputError where it does not say, lest they are launched twice."""
        states = slurm.states(with_slurm.values())
        if states is None:
            raise MissingInputError(
                f"`squeue` must answer: Slurm was given {_counted(len(with_slurm))} of this sweep. Got no answer. "
                f"Try again when it does; where that Slurm is no more, delete {str(self.folder)!r}."
            )
        live = {key for key, slurm_job in with_slurm.items() if slurm.is_live(states[slurm_job])}
        for key in live:
            self.watch.expect(key, with_slurm[key])
        return live

    def _is_refused(self, job: Job) -> bool:
        if job.refused is None:
            (job.folder / RECORD).unlink(missing_ok=True)
            return False
        record = job.record(Status.FAILED, exit_code=USER_ERROR, message=job.refused)
        write(job.folder, record)
        self.watch.close(job, record)
        return True

    def _run(self, todo: list[Job]) -> None:
        """Launch, and launch again what was not started when others died, as long as that leads anywhere."""
        mine = {job.key for job in todo}
        alone: list[Job] = []
        while todo or alone:
            n_open, ending, suspects = len(self.watch.open), Ending(), list[Job]()
            for batch in [*self._batches(todo), *([job] for job in alone)]:
                ending = self._launch(batch)
                self._refuse_where_nothing_started(ending)
                suspects += self._died_together(batch)
            self._wait_for_the_living()
            alone = suspects
            todo = [job for job in self.watch.open if job.key in mine and job not in alone]
            if len(self.watch.open) == n_open and not alone:
                self._give_up(todo, ending)
                return
        self._wait_for_the_living()

    def _batches(self, todo: list[Job]) -> Iterator[list[Job]]:
        size = self.max_batch_size or len(todo)
        if self.launcher is Launcher.SLURM and todo:
            size = min(size, slurm.array_size())
        for start in range(0, len(todo), size or 1):
            yield todo[start : start + size]

    def _launch(self, batch: list[Job]) -> Ending:
        """One launch: until the launcher returns, or has nothing left to return for."""
        # joblib kills all its workers where one dies: who of several is to blame shows when each runs alone.
        self.watch.spares_the_dead = self.launcher is Launcher.JOBLIB and len(batch) > 1
        if self.launcher is Launcher.BASIC and not _may_fork():
            ending = attempt(lambda: self.launch(batch))
            self.watch.look()
            return ending
        with self._alone_submitting():
            self._batch = self._still_missing(batch)
            self._launched += self._batch
            self._submitted_before = slurm.submissions(self.submitit_dir)
            ending = self._launch_in_child() if self._batch else Ending()
        if self.launcher is Launcher.SUBMITIT_LOCAL:  # the others of the child's group may go on
            self._children = [child for child in self._children if child.has_members()]
        else:
            self._end_children()
        self.watch.look()
        return ending

    def _launch_in_child(self) -> Ending:
        batch = self._batch
        self._children.append(Child.start(lambda: self._launch_quietly(batch)))
        return self._attend(self._children[-1])

    @contextlib.contextmanager
    def _alone_submitting(self) -> Iterator[None]:
        """One command at a time submits to Slurm from a folder: what appears there meanwhile is its own."""
        if self.launcher is not Launcher.SLURM:
            yield
            return
        with (self.folder / SUBMITTING).open("w") as file:
            flock(file, fcntl.LOCK_EX, self.folder / SUBMITTING)
            try:
                yield
            finally:  # closing is not enough: the child has the file as well
                flock(file, fcntl.LOCK_UN, self.folder / SUBMITTING)

    def _still_missing(self, batch: list[Job]) -> list[Job]:
        """What another command has not submitted while this one waited for its turn."""
        if self.launcher is not Launcher.SLURM:
            return batch
        missing = []
        for job in batch:
            record = read(job.folder)
            if record is None:
                missing.append(job)
            elif record.slurm_job is not None:
                self.watch.expect(job.key, record.slurm_job)
        return missing

    def _launch_quietly(self, batch: list[Job]) -> None:
        if self.launcher is Launcher.SLURM:
            slurm.ask_nothing()
        self.launch(batch)

    def _attend(self, child: Child) -> Ending:
        over_since: float | None = None
        for pause in _pauses():
            ending = child.wait(pause)
            if self._is_submitted() or ending is not None:
                return ending or Ending()
            self.watch.look()
            if all(job.key in self.watch.over for job in self._batch):
                over_since = over_since or time.monotonic()
                patience = 1.0 if self.launcher is Launcher.SUBMITIT_LOCAL else RETURN_SECONDS
                if time.monotonic() - over_since > patience:
                    break
        return Ending()

    def _is_submitted(self) -> bool:
        """Whether Slurm has the whole batch: from then on the watch is all that is needed."""
        if self.launcher is not Launcher.SLURM:
            return False
        ids = slurm.in_order(slurm.submissions(self.submitit_dir) - self._submitted_before, len(self._batch))
        if ids is None:
            return False
        for job, slurm_job in zip(self._batch, ids, strict=True):
            enqueue(job, slurm_job)
            self.watch.expect(job.key, slurm_job)
        _say(f"{_counted(len(ids))} submitted to Slurm as {slurm.main_id(ids[0])}")
        return True

    def _died_together(self, batch: list[Job]) -> list[Job]:
        """Jobs of a batch that were running when their processes were all killed for one; each is to run alone."""
        if not self.watch.spares_the_dead:
            return []
        self.watch.spares_the_dead = False
        dead = [job for job in batch if self.watch.is_dead(job)]
        if len(dead) > 1:
            _say(f"a process was killed, and {_counted(len(dead))} died with it; each runs again by itself")
            for job in dead:
                (job.folder / RECORD).unlink()
            return dead
        self.watch.look()
        return []

    def _end_children(self) -> None:
        while self._children:
            self._children[-1].end()
            self._children.pop()

    def _wait_for_the_living(self) -> None:
        self.watch.look()
        for pause in _pauses():
            if not any(self.watch.is_alive(job) for job in self.watch.open):
                break
            time.sleep(pause)
            self.watch.look()
        self._end_children()

    def _refuse_where_nothing_started(self, ending: Ending) -> None:
        """A launcher that cannot launch is the user's to mend."""
        submits = self.launcher in (Launcher.SLURM, Launcher.SUBMITIT_LOCAL)
        started = self.watch.over or any(read(job.folder) is not None for job in self.watch.open)
        if submits and ending.message is not None and not started:
            words = " ".join(ending.message.split()).partition(": ")[2] or ending.message
            raise ConfigError(f"`hydra/launcher` must be able to launch, got an error: {words}")

    def _give_up(self, todo: list[Job], ending: Ending) -> None:
        for job in todo:
            message = f"not started: {ending.words}"
            record = job.record(Status.FAILED, exit_code=BUG, message=message, traceback=ending.traceback)
            write(job.folder, record)
            self.watch.close(job, record)

    def _interrupt(self) -> None:
        """Stop what runs here; say how to cancel what runs elsewhere. A second Ctrl-C kills at once."""
        try:
            if self._children:
                self._stop(self._children)
        except KeyboardInterrupt:
            pass
        self._end_children()
        self.watch.look()
        ids = self.watch.with_slurm(self.watch.open)
        if ids:
            _say(f"Slurm still has {_counted(len(self.watch.open))}; the same command waits for them again.")
            _say(f"To cancel them: scancel {' '.join(ids)}")

    def _stop(self, children: list[Child]) -> None:
        if self.launcher is Launcher.SLURM:
            # A submission under way goes on to its end, so that nothing runs under an id that nobody knows.
            deadline = time.monotonic() + SUBMIT_SECONDS
            while not self._is_submitted() and children[-1].wait(0.2) is None and time.monotonic() < deadline:
                pass
            return
        _say("stopping; Ctrl-C again stops at once")
        for child in children:
            child.interrupt()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            self.watch.look()
            ended = [child.wait(0.2 / len(children)) is not None for child in children]
            if all(ended) and not any(self.watch.is_alive(job) for job in self._launched):
                break


def _say(line: str) -> None:
    print(f"brf-exp: {line}", file=sys.stderr, flush=True)


def _counted(n_jobs: int) -> str:
    return f"{n_jobs} job" + ("" if n_jobs == 1 else "s")


def _may_fork() -> bool:
    """Threads do not survive a fork, and those of torch leave locks behind that nobody opens."""
    return hasattr(os, "fork") and "torch" not in sys.modules and threading.active_count() == 1


def _pauses() -> Iterator[float]:
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.1, LONGEST_PAUSE_SECONDS)
