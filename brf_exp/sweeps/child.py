"""A child process that launches jobs while its parent watches: whatever kills it, the parent is there to say so."""

import atexit
import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

TIDY_SECONDS = 3.0


@dataclass(frozen=True)
class Ending:
    """How a launch ended: a signal, an error with its traceback, or neither."""

    signal: int | None = None
    message: str | None = None
    traceback: str | None = None

    @property
    def words(self) -> str:
        """The end in a few words."""
        if self.signal is not None:
            hint = ", perhaps for want of memory" if self.signal == signal.SIGKILL else ""
            return f"killed by {signal.Signals(self.signal).name}{hint}"
        return self.message or "its process ended without a word"


def attempt(work: Callable[[], Any]) -> Ending:
    """Do the work in this process."""
    try:
        work()
    except Exception as error:
        return _ending_by(error)
    return Ending()


class Child:
    """A process group that does some work and is gone with its parent."""

    def __init__(self, pid: int, words: int, lifeline: int) -> None:
        self.pid = pid
        self._words = words
        self._lifeline = lifeline
        self._said = b""
        self._ending: Ending | None = None

    @classmethod
    def start(cls, work: Callable[[], Any]) -> Self:
        """Fork. The child has a group of its own, so that a Ctrl-C reaches it once, through its parent."""
        words, lifeline = os.pipe(), os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(words[0])
            os.close(lifeline[1])
            _live(work, words[1], lifeline[0])
        os.close(words[1])
        os.close(lifeline[0])
        with contextlib.suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(pid, pid)
        os.set_blocking(words[0], False)
        return cls(pid, words[0], lifeline[1])

    def wait(self, seconds: float) -> Ending | None:
        """How the child ended, waiting for it no longer than this; None while it goes on."""
        if self._ending is None:
            # The pipe closes with the child, so the end is known at once. What it says is read as it comes: a full
            # pipe would keep it from ending.
            if select.select([self._words], [], [], seconds)[0] and not self._listen():
                time.sleep(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ending = self._read_ending(status)
        return self._ending

    def interrupt(self) -> None:
        """What a Ctrl-C does, for the child and all its own."""
        self._send(signal.SIGINT)

    def end(self, *, at_once: bool = False) -> None:
        """End what is left of the group; those who clean up behind others get the time to do it."""
        if not at_once:
            self._send(signal.SIGTERM)
            deadline = time.monotonic() + TIDY_SECONDS
            while self.has_members() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._send(signal.SIGKILL)
        while self.wait(0.1) is None:
            pass

    def has_members(self) -> bool:
        """Whether any process of the group is left, the child or what it started."""
        self.wait(0)
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _listen(self) -> bool:
        """Take in what the child has said since; False where that is nothing."""
        n_before = len(self._said)
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self._words, select.PIPE_BUF):
                self._said += said
        return len(self._said) > n_before

    def _read_ending(self, status: int) -> Ending:
        self._listen()
        os.close(self._words)
        os.close(self._lifeline)
        if os.WIFSIGNALED(status):
            return Ending(signal=os.WTERMSIG(status))
        try:
            return Ending(**json.loads(self._said))
        except ValueError:  # it was ended before it had said all
            return Ending()


def _live(work: Callable[[], Any], words: int, lifeline: int) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        atexit._clear()  # what the parent registered is the parent's to do
        threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
        ending = attempt(work)
        with os.fdopen(words, "wb", closefd=False) as pipe:
            pipe.write(json.dumps({"message": ending.message, "traceback": ending.traceback}).encode())
        code = 0
        # What an interpreter does at its end, so that launchers can put away their workers.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except KeyboardInterrupt:
        code = 130
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _die_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _ending_by(error: Exception) -> Ending:
    message = "".join(traceback.format_exception_only(error)).strip()
    return Ending(message=message, traceback="".join(traceback.format_exception(error)))
