"""A submission as a folder: the folder itself, or an archive unpacked where it can do no harm."""

import contextlib
import errno
import gzip
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, cast

from brf_exp.submission.description import FILE_NAME
from brf_exp.submission.fault import SubmissionError, fault, said

LARGEST_BYTES: Final = 8 * 1024**3
LARGEST_RATIO: Final = 200
ALWAYS_ALLOWED_BYTES: Final = 1024 * 1024
MOST_MEMBERS: Final = 1000
LONGEST_PATH: Final = 200
# What may describe members, beside their bytes: a zip's directory, a tar's extended headers.
LARGEST_DIRECTORY_BYTES: Final = 4 * 1024**2
LARGEST_HEADER_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 1024 * 1024
DAMAGED: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    ValueError,
    OverflowError,
)
EXTENDED_HEADERS: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The submission's folder; an archive's is temporary and gone when the block ends.

    Raises
    ------
    SubmissionError
        Where the path is neither a folder nor an archive, or the archive holds what a submission cannot.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file() or not path.name.lower().endswith((".zip", ".tar.gz", ".tgz")):
        remedy = "Give the path of the submission."
        raise fault("submission", "a folder, .zip or .tar.gz", str(path), remedy, check="archive-damaged")
    with tempfile.TemporaryDirectory(prefix="brf-exp-") as temporary:
        _unpack(path, Path(temporary))
        yield _root(Path(temporary), path.name)


def _root(folder: Path, name: str) -> Path:
    """Where submission.yaml lies: at the top or in the one folder that has it."""
    found = [folder] if (folder / FILE_NAME).is_file() else [p.parent for p in sorted(folder.glob(f"*/{FILE_NAME}"))]
    if len(found) != 1:
        sentence = f"must hold one {FILE_NAME}, at the top or in its only folder, got {len(found)}. Pack again."
        raise said(name, sentence, check="archive-root")
    return found[0]


def _unpack(path: Path, target: Path) -> None:
    """Unpack files and folders; nothing else, nowhere else, not too much."""
    budget = _Budget(path)
    try:
        if path.suffix.lower() == ".zip":
            _unpack_zip(path, target, budget)
        else:
            _unpack_tar(path, target, budget)
    except DAMAGED as error:
        raise _damaged(path.name, error) from error


def _damaged(name: str, error: Exception) -> SubmissionError:
    """The error for an archive that broke off; a full disk is no fault of it."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        sentence = f"must fit on the disk when unpacked in {tempfile.gettempdir()}. Free some, or submit the folder."
        return said(name, sentence, check="archive-size")
    reason = getattr(error, "strerror", None) or "it is damaged"
    sentence = f"must be an archive that can be unpacked, got: {reason}. Pack it again."
    return said(name, sentence, check="archive-damaged")


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
                check="archive-size",
            )

    def member(self, name: str, *, plain: bool, target: Path) -> Path:
        """Where a member goes; a problem for a link, a device, or a path outside."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            sentence = f"must hold at most {MOST_MEMBERS} files, got more. Pack only the submission."
            raise said(self.name, sentence, check="archive-size")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise self.refused("an archive of relative paths", name, "Pack the folder from its parent.")
        if len(name) > LONGEST_PATH or not name.isprintable():
            requirement = f"an archive of printable paths of at most {LONGEST_PATH} characters"
            raise self.refused(requirement, name, "Choose plain names.")
        if not plain:
            raise self.refused("an archive of plain files and folders", name, "Leave out links and devices.")
        return target / path

    def refused(self, requirement: str, got: object, remedy: str) -> SubmissionError:
        """The error for a member that no submission has."""
        return fault(self.name, requirement, got, remedy, check="archive-member")


def _unpack_zip(path: Path, target: Path, budget: _Budget) -> None:
    """The members of a zip file."""
    if _directory_bytes(path) > LARGEST_DIRECTORY_BYTES:
        sentence = f"must hold at most {MOST_MEMBERS} files, got a longer list of them. Pack only the submission."
        raise said(budget.name, sentence, check="archive-size")
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            place = budget.member(info.filename, plain=plain, target=target)
            if info.flag_bits & 1:
                sentence = "must not be encrypted. Pack it without a password."
                raise said(budget.name, sentence, check="archive-damaged")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise budget.refused("packed by deflate", info.filename, "Pack it again as an ordinary zip.")
            if info.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(info) as source:
                    _copy(source, place, budget)


def _directory_bytes(path: Path) -> int:
    """Bytes of a zip's list of members, as its end records state them; 0 where there is no such record."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 2**16 - 200))
        tail = file.read()
    stated = [struct.unpack_from("<L", tail, at + 12)[0] for at in _places(tail, b"PK\x05\x06", 22)]
    stated += [struct.unpack_from("<Q", tail, at + 40)[0] for at in _places(tail, b"PK\x06\x06", 56)]
    return max((bytes_ for bytes_ in stated if bytes_ != 2**32 - 1), default=0)


def _places(data: bytes, mark: bytes, length: int) -> Iterator[int]:
    """Where a mark stands with `length` bytes from it on."""
    at = data.find(mark)
    while at >= 0:
        if at + length <= len(data):
            yield at
        at = data.find(mark, at + 1)


class _CountedStream:
    """A gunzipped stream whose every byte is counted, headers too."""

    def __init__(self, stream: gzip.GzipFile, budget: _Budget) -> None:
        self._stream, self._budget = stream, budget

    def read(self, size: int) -> bytes:
        """The next bytes."""
        chunk = self._stream.read(size)
        self._budget.spend(len(chunk))
        return chunk


class _ShortHeader(tarfile.TarInfo):
    """A member whose extended headers, which are read into memory, are short."""

    def _proc_member(self, archive: Any) -> Any:
        if self.type in EXTENDED_HEADERS and not 0 <= self.size <= LARGEST_HEADER_BYTES:
            raise tarfile.HeaderError("extended header too long")
        return super()._proc_member(archive)  # type: ignore[misc]


def _unpack_tar(path: Path, target: Path, budget: _Budget) -> None:
    """The members of a gzipped tar file, read once from front to back."""
    unlimited = _Uncounted(budget)
    with (
        gzip.open(path, "rb") as stream,
        tarfile.open(
            fileobj=cast(IO[bytes], _CountedStream(stream, budget)), mode="r|", tarinfo=_ShortHeader
        ) as archive,
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
        raise budget.refused("an archive of distinct files", place.name, "Pack it again.")
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            budget.spend(len(chunk))
            file.write(chunk)
