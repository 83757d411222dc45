"""A sweep from start to end: what is missing is launched, watched, and launched again where a death took it along."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from brf_exp.errors import ConfigError
from brf_exp.sweeps import slurm, table
from brf_exp.sweeps.child import Child, Ending, attempt
from brf_exp.sweeps.jobs import BUG, RECORD, USER_ERROR, Job, Record, Status, enqueue, is_done, is_held, read, write
from brf_exp.sweeps.watch import Watch, exit_code

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
# How long a launcher may take to return once all its jobs are over, before it is ended.
RETURN_SECONDS = 20.0
STOP_SECONDS = 60.0
SUBMIT_SECONDS = 30.0


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
        self.child: Child | None = None
        self._batch: list[Job] = []
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
            self._end_child()
        code = 130 if interrupted else exit_code(self.watch.over.values())
        table.show(self.jobs, self.watch.over)
        table.save(self.folder, self.jobs, self.watch.over, stage=self.stage, launcher=str(self.launcher), code=code)
        print(self.folder, flush=True)
        if interrupted:
            raise KeyboardInterrupt
        return code

    def _missing(self) -> list[Job]:
        """The jobs to launch: neither done, nor refused, nor at work for an earlier command."""
        records = {job.key: read(job.folder) for job in self.jobs}
        done = [job for job in self.jobs if is_done(records[job.key])]
        elsewhere = [job for job in self.jobs if job not in done and self._is_at_work(job, records[job.key])]
        notes = [f"{len(done)} done before"] * bool(done) + [f"{len(elsewhere)} at work already"] * bool(elsewhere)
        noted = f" ({', '.join(notes)})" if notes else ""
        _say(f"sweep of {_counted(len(self.jobs))}{noted}: {self.folder}")
        for job in done:
            record = records[job.key]
            assert record is not None
            self.watch.over[job.key] = record
            print(record.made, flush=True)
        return [job for job in self.jobs if job not in done and job not in elsewhere and not self._is_refused(job)]

    def _is_at_work(self, job: Job, record: Record | None) -> bool:
        """Whether an earlier command's process still works on a job, or Slurm has it."""
        if record is None or record.status.is_over:
            return False
        if record.slurm_job is None:
            return is_held(job.folder)
        state = (slurm.states([record.slurm_job]) or {}).get(record.slurm_job, slurm.GONE)
        if slurm.is_live(state):
            self.watch.expect(job, record.slurm_job)
        return slurm.is_live(state)

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
        self._batch = batch
        self._submitted_before = slurm.submissions(self.submitit_dir)
        self.child = Child.start(lambda: self._launch_quietly(batch))
        ending = self._attend(self.child)
        if self.launcher is not Launcher.SUBMITIT_LOCAL:  # there the others of the child's group may go on
            self._end_child()
        self.watch.look()
        return ending

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
            self.watch.expect(job, slurm_job)
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

    def _end_child(self) -> None:
        if self.child is not None:
            self.child.end()
            self.child = None

    def _wait_for_the_living(self) -> None:
        self.watch.look()
        for pause in _pauses():
            if not any(self.watch.is_alive(job) for job in self.watch.open):
                break
            time.sleep(pause)
            self.watch.look()
        self._end_child()

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
            if self.child is not None:
                self._stop(self.child)
        except KeyboardInterrupt:
            pass
        self._end_child()
        self.watch.look()
        ids = self.watch.with_slurm(self.watch.open)
        if ids:
            _say(f"Slurm still has {_counted(len(self.watch.open))}; the same command waits for them again.")
            _say(f"To cancel them: scancel {' '.join(ids)}")

    def _stop(self, child: Child) -> None:
        if self.launcher is Launcher.SLURM:
            # A submission under way goes on to its end, so that nothing runs under an id that nobody knows.
            deadline = time.monotonic() + SUBMIT_SECONDS
            while not self._is_submitted() and child.wait(0.2) is None and time.monotonic() < deadline:
                pass
            return
        _say("stopping; Ctrl-C again stops at once")
        child.interrupt()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            self.watch.look()
            if child.wait(0.2) is not None and not any(self.watch.is_alive(job) for job in self._batch):
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
