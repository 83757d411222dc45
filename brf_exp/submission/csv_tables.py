"""CSV in blocks of whole lines: typed columns where every cell parses, strings where one does not, to name it later.

Rows of another width than the header are left out, counted, and told of at the end.
"""

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from brf_exp.submission.batches import Batch, File, no_rows
from brf_exp.submission.csv_dialect import DECIMAL, LONGEST_LINE_BYTES, WHOLE, Dialect, dialect_of
from brf_exp.submission.fault import Place, SubmissionError, fault, said, together
from brf_exp.submission.unpacked import open_unpacked

BLOCK_BYTES: Final = 16 * 1024 * 1024
PARSED_AT_ONCE_BYTES: Final = 1024 * 1024
# Blocks parsed at a time: beside the checks and the writing of others, more find no processor to run on.
PARSERS: Final = 2
# A file with more rows of another width is of another form altogether; so many are listed.
MOST_RAGGED: Final = 1000
RAGGED_LISTED: Final = 100
RAGGED: Final = re.compile(r"Expected (\d+) columns, got (\d+)")
COMMA_NUMBER: Final = r"^\s*([+-]?[0-9]*),([0-9]+([eE][+-]?[0-9]+)?)\s*$"

Types = dict[str, pa.DataType]


@dataclass(frozen=True)
class CsvReader:
    """CSV files of the same columns."""

    files: tuple[tuple[File, Dialect], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The header's column names."""
        return self.files[0][1].names

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns: numbers as int32 or float64, all columns of a block with a faulty cell as strings.

        Raises
        ------
        InputError
            At the end, where rows were of another width than the header; at once for what cannot be read at all.
        """
        ragged = _Ragged()
        for file, dialect in self.files:
            yield from _file_batches(file, dialect, names, ragged)
        if ragged.n:
            raise ragged.error()


def open_csv(files: Sequence[File]) -> CsvReader:
    """Open CSV files; InputError where a header cannot be used or differs from the first file's."""
    opened = tuple((file, dialect_of(file)) for file in files)
    for (_, place), dialect in opened[1:]:
        if dialect.names != opened[0][1].names:
            raise said(place, f"must have the columns of {files[0][1]}. Write all parts with the same columns.")
    return CsvReader(opened)


@dataclass
class _Ragged:
    """Rows of another width than the header: the first of them, and how many."""

    listed: list[SubmissionError] = field(default_factory=list)
    n: int = 0

    def add(self, place: Place, row: int, expected: int, got: int, separated_by: str) -> None:
        """Take one row in."""
        self.n += 1
        if self.n <= RAGGED_LISTED:
            requirement = f"{expected} values wide as the header is"
            self.listed.append(fault(place.at(row=row), requirement, got, f"Separate values by {separated_by} alone."))

    def error(self, *more: SubmissionError) -> SubmissionError:
        """One error for all of them, and for what ended the reading."""
        return together([*self.listed, *more], n=self.n + len(more))


def _file_batches(file: File, dialect: Dialect, names: Sequence[str], ragged: _Ragged) -> Iterator[Batch]:
    """The batches of one file; the next blocks are read and parsed while one is looked at."""
    _, place = file
    blocks = _Blocks(place, dialect, list(names), ragged)
    with open_unpacked(file) as stream, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(PARSERS) as parsers:
        stream.read(dialect.header_bytes)

        def read() -> tuple[bytes, Future[pa.Table | None]]:
            block = _lines(stream, place)
            return block, parsers.submit(blocks.typed, block)

        ahead = deque(reader.submit(read) for _ in range(PARSERS + 1))
        while (found := ahead.popleft().result())[0]:
            ahead.append(reader.submit(read))
            block, typed = found
            yield from blocks.next(block, typed.result())
    if blocks.row == 1:
        raise no_rows(place)


def _lines(stream: BinaryIO, place: Place) -> bytes:
    """About `BLOCK_BYTES` of whole lines."""
    block = stream.read(BLOCK_BYTES)
    if block and not block.endswith(b"\n"):
        block += stream.readline(LONGEST_LINE_BYTES)
        if not block.endswith(b"\n") and stream.peek(1):  # type: ignore[attr-defined]
            raise said(place, f"must have lines of at most {LONGEST_LINE_BYTES} bytes. Dump fewer values.")
    return block


@dataclass
class _Blocks:
    """A CSV below its header, parsed block by block; `row` is the next block's first."""

    place: Place
    dialect: Dialect
    names: list[str]
    ragged: _Ragged
    row: int = 1
    leaves_out: bool = False
    left_out: list[tuple[int, int, int]] = field(default_factory=list)

    def typed(self, block: bytes) -> pa.Table | None:
        """A block with numbers as narrow as they parse, in any thread; None where a cell or a row's width is faulty."""
        return self._narrowest(self._read, block)

    def _narrowest(self, read: Callable[[bytes, Types], pa.Table], block: bytes) -> pa.Table | None:
        """What is read of a block with whole numbers as int32, else as float64; None where that is no number either."""
        for whole in (pa.int32(), pa.float64()):
            types = {name: kind for name in self.names if (kind := _kind(name, whole)) is not None}
            with contextlib.suppress(pa.ArrowInvalid):
                return read(block, types).combine_chunks()
        return None

    def next(self, block: bytes, typed: pa.Table | None) -> list[Batch]:
        """The next block's rows, given what `typed` made of it."""
        self.left_out, self.leaves_out = [], False
        if (table := typed) is None and (table := self._narrowest(self._read_sound, block)) is None:
            table = self._strings(block).combine_chunks()
        self._tell_ragged()
        batches, done, first = [], 0, self.row
        for number, _, _ in [*self.left_out, (table.num_rows + len(self.left_out) + 1, 0, 0)]:
            n_rows = first + number - 1 - self.row
            if n_rows:
                batches += [Batch(self.place, self.row, piece) for piece in table.slice(done, n_rows).to_batches()]
            done, self.row = done + n_rows, first + number
        self.row -= 1
        return batches

    def _tell_ragged(self) -> None:
        """Note the block's rows of another width, which are none of its table's."""
        for number, expected, got in self.left_out:
            self.ragged.add(self.place, self.row - 1 + number, expected, got, self.dialect.separated_by)

    def _leave_out(self, found: Any) -> str:
        """Whether Arrow's reader goes on behind a row of another width."""
        self.left_out.append((found.number, found.expected_columns, found.actual_columns))
        return "skip" if self.ragged.n + len(self.left_out) <= MOST_RAGGED else "error"

    def _read_sound(self, block: bytes, types: Types) -> pa.Table:
        """`_read`, once more without the rows of another width where there are such."""
        try:
            return self._read_without(block, types) if self.leaves_out else self._read(block, types)
        except pa.ArrowInvalid as error:
            # Arrow hands rows over as text, and has nowhere to put what happens where they are not UTF-8.
            if self.leaves_out or not RAGGED.search(str(error)) or not _is_text(block):
                raise
        self.leaves_out = True
        return self._read_without(block, types)

    def _read_without(self, block: bytes, types: Types) -> pa.Table:
        """`_read` of the rows as wide as the header; `left_out` has the others."""
        self.left_out = []
        return self._read(block, types, self._leave_out)

    def _read(self, block: bytes, types: Types, leave_out: Callable[[Any], str] | None = None) -> pa.Table:
        """The block with columns of the given types, all others as strings."""
        return pa_csv.read_csv(
            pa.BufferReader(block),
            pa_csv.ReadOptions(
                use_threads=False, block_size=PARSED_AT_ONCE_BYTES, column_names=list(self.dialect.names)
            ),
            pa_csv.ParseOptions(delimiter=self.dialect.delimiter, invalid_row_handler=leave_out),
            pa_csv.ConvertOptions(
                include_columns=self.names,
                column_types={name: types.get(name, pa.string()) for name in self.names},
                decimal_point=self.dialect.decimal,
                null_values=[],
                strings_can_be_null=False,
            ),
        )

    def _strings(self, block: bytes) -> pa.Table:
        """The block as text, decimal commas as points; InputError where a row has another width or is not UTF-8."""
        try:
            table = self._read_sound(block, {})
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return pa.table({name: pa.array([], pa.string()) for name in self.names})
            self._tell_ragged()
            if self.ragged.n > MOST_RAGGED:
                raise self.ragged.error() from error
            raise self.ragged.error(self._fault(str(error))) from error
        if self.dialect.decimal == ".":
            return table
        columns = [
            pc.replace_substring_regex(table[name], COMMA_NUMBER, r"\1.\2") if DECIMAL.fullmatch(name) else table[name]
            for name in self.names
        ]
        return pa.table(dict(zip(self.names, columns, strict=True)))

    def _fault(self, message: str) -> SubmissionError:
        """One line for what Arrow's reader says of a block."""
        found = re.search(r"Row #(\d+)", message)
        where = self.place.at(row=self.row - 1 + int(found[1])) if found else self.place
        if "UTF8" in message or "UTF-8" in message:
            return said(where, "must be UTF-8 text, got other bytes. Save it as UTF-8.")
        if ragged := RAGGED.search(message):
            remedy = f"Separate values by {self.dialect.separated_by} alone."
            return fault(where, f"{ragged[1]} values wide as the header is", int(ragged[2]), remedy)
        width = len(self.dialect.names)
        return said(where, f"must be a CSV of {width} columns ({message.splitlines()[0]}). Dump it again.")


def _is_text(block: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _kind(name: str, whole: pa.DataType) -> pa.DataType | None:
    """The type a column is parsed as; None for text."""
    if WHOLE.fullmatch(name):
        return whole
    return pa.float64() if DECIMAL.fullmatch(name) else None
