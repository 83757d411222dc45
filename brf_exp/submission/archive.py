"""A submission as a folder: the folder itself, or an archive unpacked where it can do no harm."""

import contextlib
import gzip
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from brf_exp.submission.description import FILE_NAME
from brf_exp.submission.fault import fault, said

LARGEST_BYTES: Final = 8 * 1024**3
LARGEST_RATIO: Final = 200
ALWAYS_ALLOWED_BYTES: Final = 1024 * 1024
MOST_MEMBERS: Final = 1000
CHUNK_BYTES: Final = 1024 * 1024
DAMAGED: Final = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, NotImplementedError)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The submission's folder; an archive's is temporary and gone when the block ends.

    Raises
    ------
    InputError
        Where the path is neither a folder nor an archive, or the archive holds what a submission cannot.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file() or not path.name.endswith((".zip", ".tar.gz", ".tgz")):
        raise fault("submission", "a folder, .zip or .tar.gz", str(path), "Give the path of the submission.")
    with tempfile.TemporaryDirectory(prefix="brf-exp-") as temporary:
        _unpack(path, Path(temporary))
        yield _root(Path(temporary), path.name)


def _root(folder: Path, name: str) -> Path:
    """Where submission.yaml lies: at the top or in the one folder that has it."""
    found = [folder] if (folder / FILE_NAME).is_file() else [p.parent for p in sorted(folder.glob(f"*/{FILE_NAME}"))]
    if len(found) != 1:
        raise said(name, f"must hold one {FILE_NAME}, at the top or in its only folder, got {len(found)}. Pack again.")
    return found[0]


def _unpack(path: Path, target: Path) -> None:
    """Unpack files and folders; nothing else, nowhere else, not too much."""
    budget = _Budget(path)
    try:
        if path.suffix == ".zip":
            _unpack_zip(path, target, budget)
        else:
            _unpack_tar(path, target, budget)
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise said(path.name, f"must be an archive that can be unpacked, got: {reason}. Pack it again.") from error


class _Budget:
    """How many members and bytes an archive may still unpack to."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._limit = min(LARGEST_BYTES, max(ALWAYS_ALLOWED_BYTES, LARGEST_RATIO * path.stat().st_size))
        self._bytes = self._members = 0

    def spend(self, n_bytes: int) -> None:
        """Count bytes unpacked."""
        self._bytes += n_bytes
        if self._bytes > self._limit:
            raise said(
                self.name,
                f"must unpack to at most {self._limit} bytes ({LARGEST_RATIO} times its size, at most "
                f"{LARGEST_BYTES}), got more. Submit the folder itself.",
            )

    def member(self, name: str, *, plain: bool, target: Path) -> Path:
        """Where a member goes; InputError for a link, a device, or a path outside."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise said(self.name, f"must hold at most {MOST_MEMBERS} files, got more. Pack only the submission.")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise fault(self.name, "an archive of relative paths", name, "Pack the folder from its parent.")
        if not plain:
            raise fault(self.name, "an archive of plain files and folders", name, "Leave out links and devices.")
        return target / path


def _unpack_zip(path: Path, target: Path, budget: _Budget) -> None:
    """The members of a zip file."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            place = budget.member(info.filename, plain=plain, target=target)
            if info.flag_bits & 1:
                raise said(budget.name, "must not be encrypted. Pack it without a password.")
            if info.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(info) as source:
                    _copy(source, place, budget)


class _CountedStream:
    """A gunzipped stream whose every byte is counted, headers too."""

    def __init__(self, stream: gzip.GzipFile, budget: _Budget) -> None:
        self._stream, self._budget = stream, budget

    def read(self, size: int) -> bytes:
        """The next bytes."""
        chunk = self._stream.read(size)
        self._budget.spend(len(chunk))
        return chunk


def _unpack_tar(path: Path, target: Path, budget: _Budget) -> None:
    """The members of a gzipped tar file, read once from front to back."""
    unlimited = _Uncounted(budget)
    with (
        gzip.open(path, "rb") as stream,
        tarfile.open(fileobj=_CountedStream(stream, budget), mode="r|") as archive,  # type: ignore[call-overload]
    ):
        for member in archive:
            plain = (member.isreg() and not member.issparse()) or member.isdir()
            place = budget.member(member.name, plain=plain, target=target)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif (source := archive.extractfile(member)) is not None:
                _copy(source, place, unlimited)


class _Uncounted(_Budget):
    """A budget for bytes that were counted already."""

    def __init__(self, budget: _Budget) -> None:
        self.name = budget.name

    def spend(self, n_bytes: int) -> None:
        """Count nothing."""


def _copy(source: IO[bytes], place: Path, budget: _Budget) -> None:
    """Copy a member's bytes to a new file."""
    if place.exists():
        raise fault(budget.name, "an archive of distinct files", place.name, "Pack it again.")
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            budget.spend(len(chunk))
            file.write(chunk)
