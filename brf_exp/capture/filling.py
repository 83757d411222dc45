"""Working through the parts of a capture, beside any other process that does the same."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from brf_exp.capture.interrupts import Stop
from brf_exp.capture.parts import Identity, Part, PlannedPart, RowSource, find_part, side_file, write_side_file
from brf_exp.capture.workplace import say
from brf_exp.storage.captures import leftovers, write_part
from brf_exp.storage.locks import FileLock, holder_of, try_lock

FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 1.0


class Filling:
    """Computes what is missing of a range of parts; `done` has the finished ones by index.

    A part is claimed by a lock that death releases, computed, and written by a second thread while the next one is
    computed: at most two parts are in memory. `row_bytes` is about what a row takes where none is written yet.
    """

    def __init__(self, folder: Path, identity: Identity, source: RowSource, *, row_bytes: int) -> None:
        self.done: dict[int, Part] = {}
        self._folder, self._identity, self._source = folder, identity, source
        self._row_bytes = row_bytes
        self._tell: Callable[[int], None] = lambda n: None
        self._stop = Stop()
        self._writer = BehindTheBack()
        self._told_of_waiting = False

    def have(self, wanted: range, *, on_tokens: Callable[[int], None], stop: Stop) -> None:
        """Return when every wanted part is finished, by this process or another.

        `on_tokens` is told the positions done, those of parts that were there included. Raises KeyboardInterrupt once
        `stop` is requested, when the part that is being written is finished.
        """
        self._tell, self._stop = on_tokens, stop
        wait = FIRST_WAIT_SECONDS
        with self._writer:
            while left := [part for part in self._source.plan[wanted.start : wanted.stop] if self._is_missing(part)]:
                if sum(self._take(part) for part in left):
                    wait = FIRST_WAIT_SECONDS
                    continue
                self._writer.wait()
                busy = [part for part in left if self._is_missing(part)]
                if busy:
                    self._stop.check()
                    self._say_who_is_waited_for(busy[0])
                    time.sleep(wait)
                    wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def missing(self) -> list[PlannedPart]:
        """Parts that nobody has finished; nothing is computed."""
        return [part for part in self._source.plan if self._is_missing(part) and not self._find(part)]

    @property
    def missing_bytes(self) -> int:
        """About what the parts that are not there will take, from those that are or from the width of a row."""
        missing = [part for part in self._source.plan if self._is_missing(part)]
        rows = sum(part.rows for part in missing if not side_file(self._folder / part.name).exists())
        known = list(self.done.values())
        per_row = sum(part.bytes for part in known) / sum(part.rows for part in known) if known else self._row_bytes
        return int(rows * per_row)

    @property
    def kept(self) -> str:
        """How much is finished, in words."""
        return f"{len(self.done)} of {len(self._source.plan)} parts are kept"

    def _is_missing(self, part: PlannedPart) -> bool:
        return part.index not in self.done

    def _lock_of(self, part: PlannedPart) -> Path:
        return self._folder / f".{part.name}.lock"

    def _take(self, part: PlannedPart) -> bool:
        """Claim a part and have it; False where somebody else is at it."""
        self._stop.check()
        lock = try_lock(self._lock_of(part))
        if lock is None:
            return False
        try:
            if self._find(part):
                self._tell(part.rows)
                return True
            self._remove_leftovers(part)
            table = self._source.compute(part, self._on_batch)
            self._writer.give(partial(self._write, part, table, lock))
            lock = None  # the writer's from here on
        finally:
            if lock is not None:
                lock.release()
        return True

    def _find(self, part: PlannedPart) -> bool:
        """Take over a part that is there as planned."""
        found, why = find_part(self._folder, part, self._identity)
        if why:
            say(f"{part.name} is not used: {why}.")
        if found is not None:
            self.done[part.index] = found
        return found is not None

    def _remove_leftovers(self, part: PlannedPart) -> None:
        """What a process left that died while it wrote this part."""
        for name in (part.name, side_file(Path(part.name)).name):
            for path in leftovers(self._folder, name):
                path.unlink(missing_ok=True)

    def _on_batch(self, n_tokens: int) -> None:
        self._tell(n_tokens)
        self._stop.check()

    def _write(self, part: PlannedPart, make_table: Callable[[], pa.Table], lock: FileLock) -> None:
        try:
            table = make_table()
            path = self._folder / part.name
            digest = write_part(path, table)
            made = Part(part.name, table.num_rows, len(part.documents), path.stat().st_size, digest)
            write_side_file(self._folder, made, self._identity)
            self.done[part.index] = made
        finally:
            lock.release()

    def _say_who_is_waited_for(self, part: PlannedPart) -> None:
        if not self._told_of_waiting and (holder := holder_of(self._lock_of(part))):
            say(f"waiting for process {holder[0]} on {holder[1]}, which computes {part.name}.")
            self._told_of_waiting = True


class BehindTheBack:
    """One task at a time in a thread; the error of one is raised where the next is given, or at the end.

    The thread is no reason for the process to stay: what it has not finished is as if it had never begun.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "BehindTheBack":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.wait()
        else:
            self._join()

    def give(self, task: Callable[[], None]) -> None:
        """Start a task when the one before it is done."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(task,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is running; raises what the task raised."""
        self._join()
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback has this frame: files that frames hold open must not wait for the collector

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # raised again in the thread that gave the task
            self._error = error
