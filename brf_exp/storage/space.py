"""What the disk cannot take, said in one line."""

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from brf_exp.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_UNITS = ("B", "kB", "MB", "GB", "TB")


@contextlib.contextmanager
def writing_to(folder: Path, *, missing_bytes: Callable[[], int], kept: Callable[[], str]) -> Iterator[None]:
    """Turn a full or closed disk into InputError: what is still to be written, about, and what is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InputError(
                f"`runs_dir` must have room for about {readable(missing_bytes())} more, got a full disk at "
                f"{str(folder)!r}. Free some; {kept()}, and the same command goes on."
            ) from error
        if error.errno in _CLOSED:
            raise InputError(f"`runs_dir` must be a folder to write to, got {error.strerror}: {folder}.") from error
        raise


def free_bytes(folder: Path) -> int:
    """Bytes that can be written to a folder's disk."""
    return shutil.disk_usage(folder).free


def readable(n_bytes: int) -> str:
    """A size with two digits: 1.2 GB, 35 MB, 512 B."""
    size, unit = float(n_bytes), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{1 if unit and size < 9.95 else 0}f} {_UNITS[unit]}"
