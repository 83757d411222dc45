"""Arrays of .npz and .safetensors files, read row by row; no pickle, nothing larger than declared and allowed."""

import ast
import contextlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from brf_exp.submission.batches import File
from brf_exp.submission.fault import Place, SubmissionError, fault, said
from brf_exp.submission.unpacked import ALWAYS_ALLOWED_BYTES, LARGEST_BYTES, LARGEST_RATIO

MOST_ARRAYS: Final = 100_000
LONGEST_HEADER_BYTES: Final = 16 * 1024 * 1024
LONGEST_NPY_HEADER_BYTES: Final = 10_000
NPY_MAGIC: Final = b"\x93NUMPY"
SAFETENSORS_TYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "U16": "<u2",
    "U8": "|u1",
    "I8": "|i1",
    "BOOL": "|u1",
}


@dataclass(frozen=True)
class Tensor:
    """An array in a file: its shape, and where its numbers lie; `bfloat16`: they are upper halves of float32."""

    path: Path
    place: Place
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    member: str | None = None
    bfloat16: bool = False

    def rows(self, n_rows: int) -> Iterator[np.ndarray]:
        """The array as rows of its last axis, `n_rows` at a time: (m, shape[-1]); half precision as float32."""
        width = self.shape[-1]
        total = math.prod(self.shape[:-1])
        with self._opened() as stream:
            stream.seek(self.offset)
            for first in range(0, total, n_rows):
                shape = (min(n_rows, total - first), width)
                yield self._numbers(self._bytes(stream, math.prod(shape) * self.dtype.itemsize)).reshape(shape)

    def whole(self) -> np.ndarray:
        """The whole of a small array."""
        n_bytes = math.prod(self.shape) * self.dtype.itemsize
        if n_bytes > ALWAYS_ALLOWED_BYTES:
            raise fault(self._where, f"an array of at most {ALWAYS_ALLOWED_BYTES} bytes", n_bytes, "Split the dump.")
        with self._opened() as stream:
            stream.seek(self.offset)
            return self._numbers(self._bytes(stream, n_bytes)).reshape(self.shape)

    @property
    def _where(self) -> Place:
        return Place(f"{self.place.file} array {self.name}")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """The stream that holds the numbers."""
        if self.member is None:
            with self.path.open("rb") as stream:
                yield stream
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                yield stream

    def _bytes(self, stream: IO[bytes], n_bytes: int) -> bytes:
        """So many bytes."""
        try:
            data = stream.read(n_bytes)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _damaged(self._where) from error
        if len(data) != n_bytes:
            raise _damaged(self._where)
        return data

    def _numbers(self, data: bytes) -> np.ndarray:
        """Bytes as numbers."""
        numbers = np.frombuffer(data, self.dtype)
        if self.bfloat16:
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        half = self.dtype.kind == "f" and self.dtype.itemsize < 4
        return numbers.astype(np.float32 if half else self.dtype.newbyteorder("="))


def tensors_of(file: File) -> dict[str, Tensor]:
    """Every array of a file by name; InputError where one is no plain array of numbers, or there is too much."""
    path, place = file
    try:
        found = _npz(file) if path.suffix.lower() == ".npz" else _safetensors(file)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(place) from error
    size = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in found.values())
    if size > LARGEST_BYTES:
        raise fault(place, f"at most {LARGEST_BYTES} bytes of arrays", size, "Split the submission.")
    return found


def _damaged(where: Place) -> SubmissionError:
    """The error for a file that ends early or makes no sense."""
    return said(where, "must be a whole .npz or .safetensors file, got a damaged one. Write it again.")


def _npz(file: File) -> dict[str, Tensor]:
    """The arrays of a zip of .npy files."""
    path, place = file
    allowed = max(ALWAYS_ALLOWED_BYTES, LARGEST_RATIO * path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(members) > MOST_ARRAYS:
            raise fault(place, f"at most {MOST_ARRAYS} arrays", len(members), "Stack them into one.")
        if sum(info.file_size for info in members) > allowed:
            remedy = "Save it with numpy.savez."
            raise said(place, f"must unpack to at most {LARGEST_RATIO} times its size. {remedy}")
        return {info.filename.removesuffix(".npy"): _npy(file, archive, info) for info in members}


def _npy(file: File, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    """One .npy file of a zip."""
    path, place = file
    name = info.filename.removesuffix(".npy")
    where = Place(f"{place.file} array {name}")
    if info.flag_bits & 1:
        raise said(where, "must not be encrypted. Save it with numpy.savez.")
    with archive.open(info) as stream:
        start = stream.read(12)
        wide = start[6:7] != b"\x01"
        length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
        if start[:6] != NPY_MAGIC or length > LONGEST_NPY_HEADER_BYTES:
            raise _damaged(where)
        rest = stream.read(length if wide else length - 2)
        header = (rest if wide else start[10:12] + rest).decode("latin-1")
    shape, dtype = _described(header, where)
    offset = length + (12 if wide else 10)
    if offset + math.prod(shape) * dtype.itemsize != info.file_size:
        raise _damaged(where)
    return Tensor(path, place, name, shape, dtype, offset, member=info.filename)


def _described(header: str, where: Place) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a .npy header."""
    try:
        entry = ast.literal_eval(header.strip())
        descr, fortran, shape = entry["descr"], entry["fortran_order"], entry["shape"]
        dtype = np.dtype(descr) if isinstance(descr, str) else None
        legal = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**40 for n in shape) and len(shape) <= 8
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise _damaged(where) from error
    if dtype is None or dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise fault(where, "an array of numbers", str(descr)[:80], "Save plain numbers, no objects and no texts.")
    if fortran or not legal:
        raise said(where, "must be in row-major order. Save numpy.ascontiguousarray of it.")
    return shape, dtype


def _safetensors(file: File) -> dict[str, Tensor]:
    """The arrays of a .safetensors file: a length, a JSON header of that length, the numbers."""
    path, place = file
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER_BYTES, size - 8):
            raise _damaged(place)
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise _damaged(place) from error
    if not isinstance(header, dict) or len(header) > MOST_ARRAYS:
        raise _damaged(place)
    return {name: _stored(file, name, header[name], 8 + length) for name in header if name != "__metadata__"}


def _stored(file: File, name: str, entry: Any, start: int) -> Tensor:
    """One array of a .safetensors file."""
    path, place = file
    where = Place(f"{place.file} array {name}")
    try:
        kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        legal = all(type(n) is int and 0 <= n < 2**40 for n in (*shape, first, last)) and len(shape) <= 8
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(where) from error
    if kind not in SAFETENSORS_TYPES:
        raise fault(where, f"of a type among {', '.join(sorted(SAFETENSORS_TYPES))}", kind, "Convert it to float32.")
    dtype = np.dtype(SAFETENSORS_TYPES[kind])
    if not legal or last - first != math.prod(shape) * dtype.itemsize or start + last > path.stat().st_size:
        raise _damaged(where)
    return Tensor(path, place, name, shape, dtype, start + first, bfloat16=kind == "BF16")
