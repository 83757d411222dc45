"""Tables of a submission as batches of Arrow columns: CSV, CSV.gz, Parquet, or a folder of Parquet parts."""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from brf_exp.errors import InputError
from brf_exp.submission.fault import Place, fault, listed, said

BLOCK_BYTES: Final = 8 * 1024 * 1024
BATCH_ROWS: Final = 32768
BATCH_CELLS: Final = 4 * 1024 * 1024
LARGEST_BYTES: Final = 8 * 1024**3
PARTS: Final = "part-*.parquet"


@dataclass(frozen=True)
class Batch:
    """Some rows of one file; `first_row` is the 1-based data row of the first of them."""

    place: Place
    first_row: int
    table: pa.RecordBatch


@dataclass(frozen=True)
class Source:
    """One model's table: its column names and its files, in order."""

    place: Place
    names: tuple[str, ...]
    files: tuple[tuple[Path, Place], ...]

    def batches(self, names: list[str]) -> Iterator[Batch]:
        """The named columns of every row, a batch at a time; columns of a CSV come as strings."""
        for path, place in self.files:
            yield from _batches(path, place, names)


def open_source(folder: Path, capture: str) -> Source:
    """The table at `capture` inside a submission's folder; InputError where its header cannot be used."""
    path, place = folder / capture, Place(capture)
    files = _parts(folder, path, capture) if path.is_dir() else ((path, place),)
    names = _names(*files[0])
    for part, part_place in files[1:]:
        if _names(part, part_place) != names:
            raise said(part_place, f"must have the columns of {files[0][1]}. Write all parts with the same columns.")
    return Source(place, names, files)


def _parts(folder: Path, path: Path, capture: str) -> tuple[tuple[Path, Place], ...]:
    """The part files of a folder by name, none of them outside the submission."""
    parts = sorted(path.glob(PARTS))
    if not parts:
        raise said(capture, f"must hold files named {PARTS}, got none. Name the parts so.")
    for part in parts:
        if not part.is_file() or not part.resolve().is_relative_to(folder.resolve()):
            raise said(f"{capture}/{part.name}", "must be a file inside the submission. Put the file itself there.")
    return tuple((part, Place(f"{capture.rstrip('/')}/{part.name}")) for part in parts)


def _names(path: Path, place: Place) -> tuple[str, ...]:
    """The column names of one file, each of them once."""
    names = _opened_parquet(path, place).schema_arrow.names if path.suffix == ".parquet" else _header(path, place)
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if twice:
        raise said(place.at(column=twice[0]), f"must be there once, got {Counter(names)[twice[0]]} times. Remove one.")
    return tuple(names)


def _batches(path: Path, place: Place, names: list[str]) -> Iterator[Batch]:
    """The named columns of one file, in batches; an error where it has no rows."""
    read: Callable[..., Iterator[pa.RecordBatch]] = _read_parquet if path.suffix == ".parquet" else _read_csv
    row = 1
    for table in read(path, place, names):
        if table.num_rows:
            yield Batch(place, row, table)
            row += table.num_rows
    if row == 1:
        raise said(place, "must have at least one row below its header, got none. Dump it again.")


# Parquet


def _opened_parquet(path: Path, place: Place) -> pq.ParquetFile:
    """The file opened, its declared size within the cap."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise said(place, "must be a Parquet file. Write it again.") from error
    size = sum(file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups))
    if size > LARGEST_BYTES:
        raise fault(place, f"at most {LARGEST_BYTES} bytes unpacked", size, "Split the submission.")
    return file


def _read_parquet(path: Path, place: Place, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file."""
    n_rows = max(1, min(BATCH_ROWS, BATCH_CELLS // len(names)))
    try:
        yield from _opened_parquet(path, place).iter_batches(batch_size=n_rows, columns=names, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise said(place, "must be a whole Parquet file. Write it again.") from error


# CSV


class _CappedReader(io.RawIOBase):
    """A byte stream that ends with an InputError once more than `limit` bytes have been unpacked."""

    def __init__(self, stream: BinaryIO, place: Place, limit: int) -> None:
        super().__init__()
        self._stream, self._place, self._left = stream, place, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise said(self._place, "must be a whole, readable file, got a damaged one. Write it again.") from error
        self._left -= len(chunk)
        if self._left < 0:
            raise said(self._place, f"must be at most {LARGEST_BYTES} bytes unpacked. Split the submission.")
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_unpacked(path: Path, place: Place) -> BinaryIO:
    """A file's bytes, gunzipped where its name ends in .gz, under the size cap."""
    try:
        stream = cast(BinaryIO, gzip.GzipFile(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise said(place, f"must be readable, got: {error.strerror}. Set its permissions.") from error
    return io.BufferedReader(_CappedReader(stream, place, LARGEST_BYTES), buffer_size=1024 * 1024)


def _header(path: Path, place: Place) -> list[str]:
    """The column names of a CSV, blanks around them removed."""
    try:
        with open_unpacked(path, place) as stream:
            line = stream.readline(BLOCK_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise said(place, "must be UTF-8 text, got other bytes in its header. Save it as UTF-8.") from error
    if not line.strip():
        raise said(place, "must start with a header of column names, got an empty line or file. Dump it again.")
    return [name.strip() for name in next(csv.reader([line]))]


def _read_csv(path: Path, place: Place, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of a CSV, every column as strings: casting later can say which row is wrong."""
    header = _header(path, place)
    options = pa_csv.ConvertOptions(
        include_columns=names, column_types={name: pa.string() for name in names}, strings_can_be_null=False
    )
    try:
        with open_unpacked(path, place) as stream:
            yield from pa_csv.open_csv(
                stream,
                read_options=pa_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=header, skip_rows=1
                ),
                parse_options=pa_csv.ParseOptions(invalid_row_handler=lambda row: _ragged(row)),
                convert_options=options,
            )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise _csv_fault(place, str(error), len(header)) from error


def _ragged(_row: Any) -> str:
    """Stop at a row of the wrong width."""
    return "error"


def _csv_fault(place: Place, message: str, width: int) -> InputError:
    """One line for what Arrow's reader says."""
    found = re.search(r"Row #(\d+)", message)
    where = place.at(row=int(found[1]) - 1) if found else place
    if "UTF8" in message or "UTF-8" in message:
        return said(where, "must be UTF-8 text, got other bytes. Save it as UTF-8.")
    ragged = re.search(r"Expected (\d+) columns, got (\d+)", message)
    if ragged:
        return fault(where, f"{ragged[1]} values wide as the header is", int(ragged[2]), "Separate values by commas.")
    return said(place, f"must be a CSV of {width} columns ({listed([message.splitlines()[0]])}). Dump it again.")
