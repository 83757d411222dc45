"""Locks on files that death releases, with their holder's name in them."""

import contextlib
import errno
import fcntl
import json
import os
import platform
from pathlib import Path
from typing import IO

from brf_exp.errors import InputError

_BUSY = (errno.EACCES, errno.EAGAIN)


class FileLock:
    """A lock held until `release`, or until this process is gone. Its file is there only while it is held."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path, self._file = path, file

    def release(self) -> None:
        """Let others in; a folder that was moved meanwhile does not matter."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._file.close()


def try_lock(path: Path) -> FileLock | None:
    """The lock of a path, or None where a living process holds it; FileNotFoundError where its folder is gone.

    A file left by a dead process is taken over. Two processes cannot both hold the lock by way of a file that one of
    them removed: whoever locks a file that is no longer the one at `path` tries again.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        if not flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, path):
            file.close()
            return None
        if _is_at(path, file):
            # Who holds it helps others to say whom they wait for, and is worth no failure.
            with contextlib.suppress(OSError):
                _sign(file)
            return FileLock(path, file)
        file.close()


def flock(file: IO[str], operation: int, path: Path) -> bool:
    """Lock an open file; False where another holds it. InputError on file systems without locks."""
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise InputError(
            f"`runs_dir` must lie on a file system with file locks, got {str(path.parent)!r} "
            f"({error.strerror}). Choose a folder on another disk."
        ) from error
    return True


def holder_of(path: Path) -> tuple[int, str] | None:
    """Process id and host of whoever holds a lock, as they signed it."""
    try:
        signed = json.loads(path.read_text(encoding="utf-8"))
        return int(signed["pid"]), str(signed["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    file.flush()
