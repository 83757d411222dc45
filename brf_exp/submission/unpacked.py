"""The bytes of a file of a submission, unpacked where packed, under a size cap."""

import gzip
import io
import zlib
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa

from brf_exp.errors import InputError
from brf_exp.submission.batches import File
from brf_exp.submission.fault import Place, said

BLOCK_BYTES: Final = 8 * 1024 * 1024
LARGEST_BYTES: Final = 8 * 1024**3
LARGEST_RATIO: Final = 200
ALWAYS_ALLOWED_BYTES: Final = 64 * 1024**2


def open_unpacked(file: File) -> BinaryIO:
    """A file's bytes, unpacked where its name ends in .gz or .zst.

    Reading raises InputError where the file is damaged, larger than `LARGEST_BYTES`, or unpacks to more than
    `LARGEST_RATIO` times its size.
    """
    path, place = file
    try:
        size = path.stat().st_size
        stream = _opened(file)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise said(place, f"must be readable, got: {reason}. Set its permissions.") from error
    if path.suffix.lower() not in (".gz", ".zst"):
        if size > LARGEST_BYTES:
            raise _too_large(place, LARGEST_BYTES)
        return stream
    limit = min(LARGEST_BYTES, max(ALWAYS_ALLOWED_BYTES, LARGEST_RATIO * size))
    return io.BufferedReader(_CappedReader(stream, place, limit), buffer_size=1024 * 1024)


def _opened(file: File) -> BinaryIO:
    """The stream of bytes."""
    path, _ = file
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(path))
    if suffix == ".zst":
        return cast(BinaryIO, pa.input_stream(path, compression="zstd"))
    return path.open("rb")


def _too_large(place: Place, limit: int) -> InputError:
    """The error for more bytes than are read."""
    return said(place, f"must be at most {limit} bytes unpacked. Split the submission.")


class _CappedReader(io.RawIOBase):
    """A byte stream that ends with an InputError once more than `limit` bytes have been unpacked."""

    def __init__(self, stream: BinaryIO, place: Place, limit: int) -> None:
        super().__init__()
        self._stream, self._place, self._limit, self._left = stream, place, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise said(self._place, "must be a whole, readable file, got a damaged one. Write it again.") from error
        self._left -= len(chunk)
        if self._left < 0:
            raise _too_large(self._place, self._limit)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._stream.close()
        super().close()
