"""A submission's tables: opened, checked in one pass, and written as captures while nothing is wrong.

Rows are parsed, checked and written in three threads, a batch each.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from brf_exp.storage.captures import ROW_GROUP_ROWS
from brf_exp.storage.parts import PartWriter
from brf_exp.submission.check import check_rows
from brf_exp.submission.convert import capture_columns, to_capture
from brf_exp.submission.copies import DocumentCopies
from brf_exp.submission.description import Member
from brf_exp.submission.documents import DocumentOrder
from brf_exp.submission.labels import LabelEvidence
from brf_exp.submission.layout import Layout, layout_of
from brf_exp.submission.places import PlaceLog
from brf_exp.submission.problems import MOST_PROBLEMS, Problems
from brf_exp.submission.rows import Rows, read_rows
from brf_exp.submission.tables import Batch, Reading, Source, named_alike, open_source

# A cell takes 8 bytes, and at the widest place some 16 arrays of a batch's size are alive at once.
BYTES_PER_CELL: Final = 128
# Rows of a part file and of a row group shrink where a row is wider than this many values.
WIDE: Final = 512
CONTRADICTIONS: Final = ("logsumexp-low", "logsumexp-high", "entropy-bounds")


@dataclass(frozen=True)
class Table:
    """One model's table, opened."""

    member: Member
    source: Source
    layout: Layout

    @property
    def columns(self) -> list[str]:
        """Columns of the capture it becomes."""
        return capture_columns(self.layout, self.member)


@dataclass(frozen=True)
class Imported:
    """One model's table, read; `parts` are those of the capture in `folder`, none where it was only checked.

    `is_whole` says whether every row was read and stands at a known place.
    """

    folder: Path | None
    table: Table
    parts: list[dict[str, Any]]
    places: PlaceLog
    is_whole: bool

    @property
    def documents(self) -> list[str]:
        """The doc_ids in order."""
        return self.places.names


def open_tables(folder: Path, members: Sequence[Member], problems: Problems, reading: Reading) -> list[Table]:
    """The models' tables and what their columns are; those that cannot be used are problems and left out."""
    found: list[tuple[Member, Source]] = []
    for member in members:
        with problems.catching():
            source = open_source(folder, member.capture, vocabulary_size=member.vocab_size, reading=reading)
            found.append((member, source))
    sources = named_alike([source for _, source in found])
    tables = []
    for (member, _), source in zip(found, sources, strict=True):
        for remark in source.remarks:
            problems.add(remark)
        if (layout := layout_of(source, member, problems)) is not None:
            tables.append(Table(member, source, layout))
    return tables


def read_tables(
    tables: Sequence[Table], problems: Problems, *, building: Path | None, memory_mb: int, rows_per_part: int
) -> list[Imported]:
    """Check all rows of all models, and write each model's into a new folder of `building` unless that is None.

    Writing stops at the first error; checking goes on.
    """
    with ThreadPoolExecutor(1) as pool:
        thread = _Thread(pool)
        imported = []
        for table in tables:
            target = building and building / table.member.key
            imported.append(_read(table, _Checking(table, problems, target, rows_per_part, thread), memory_mb))
        thread.wait()
    return imported


class _Thread:
    """Does one task after the other beside this thread, and lets none wait behind another."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._running: Future[Any] | None = None

    def do(self, task: Callable[..., Any], *given: Any) -> None:
        """Start a task once the one before is done; raises what that raised."""
        self.wait()
        self._running = self._pool.submit(task, *given)

    def wait(self) -> None:
        """Until nothing is running; raises what the task raised."""
        if self._running is not None:
            self._running.result()


def _read(table: Table, checking: "_Checking", memory_mb: int) -> Imported:
    """Check one model's rows."""
    problems, is_whole = checking.problems, False
    with problems.catching():
        for batch in table.source.batches(table.layout.read):
            for piece in _pieces(batch, memory_mb):
                checking.add(piece)
            if sum(problems.counts.values()) > MOST_PROBLEMS:
                break
        else:
            is_whole = checking.all_places_known
    return checking.finish(is_whole=is_whole)


class _Checking:
    """The state of reading one table."""

    def __init__(
        self, table: Table, problems: Problems, target: Path | None, rows_per_part: int, thread: _Thread
    ) -> None:
        self._table, self.problems, self._target, self._thread = table, problems, target, thread
        self._order = DocumentOrder(problems)
        self._evidence = LabelEvidence(table.member, table.layout)
        self._columns = table.columns
        self._places = PlaceLog()
        self._copies = DocumentCopies(problems, table.source.place)
        self.all_places_known = True
        self._writer: PartWriter | None = None
        if target is not None:
            target.mkdir()
            shrink = max(1, -(-table.layout.k // WIDE))
            self._writer = PartWriter(
                target,
                rows_per_part=max(1, rows_per_part // shrink),
                row_group_rows=max(1, ROW_GROUP_ROWS // shrink),
            )

    def add(self, batch: Batch) -> None:
        """Check a batch, and write it while all is well."""
        table, problems = self._table, self.problems
        rows = read_rows(batch, table.layout, table.member, problems)
        self._check(rows.sound(), n_cut=rows.n_cut)
        if not rows.has_place:
            self.all_places_known = False
            return
        doc_id, starts = self._order.place(rows)
        self._places.add(rows, starts)
        self._copies.add(rows, starts, self._order.names)
        if problems.n_errors and self._writer is not None:
            self._thread.do(self._writer.close)
            self._writer = None
        if self._writer is not None:
            self._thread.do(self._write, self._writer, rows, doc_id, starts)

    def _write(self, writer: PartWriter, rows: Rows, doc_id: pa.Array, starts: np.ndarray) -> None:
        """Write a batch."""
        table = self._table
        writer.add(to_capture(rows, doc_id, columns=self._columns, layout=table.layout, member=table.member), starts)

    def _check(self, rows: Rows, *, n_cut: int) -> None:
        """Check what stands within rows; what they look like is judged at the end."""
        self._evidence.n_cut_rows += n_cut
        if not len(rows.values):
            return
        before = [self.problems.counts[name] for name in CONTRADICTIONS]
        check_rows(rows, self._table.layout, self._table.member, self.problems)
        self._evidence.add(rows)
        if before != [self.problems.counts[name] for name in CONTRADICTIONS] or self._evidence.tempering.n_broken:
            self._evidence.add_contradicting(rows)

    def finish(self, *, is_whole: bool) -> Imported:
        """Judge the table as a whole and close its capture, whose parts are known once the thread has written them."""
        self._copies.finish()
        self._evidence.judge(self._table.source.place, self.problems)
        self._places.names = self._order.names
        parts: list[dict[str, Any]] = []
        if self._writer is not None:
            writes = not self.problems.n_errors
            parts = self._writer.parts if writes else []
            self._thread.do(self._writer.finish if writes else self._writer.close)
        return Imported(self._target, self._table, parts, self._places, is_whole)


def _pieces(batch: Batch, memory_mb: int) -> Iterator[Batch]:
    """A batch in pieces that take no more than half the memory while they are checked."""
    n_rows = max(1, memory_mb * 2**20 // 2 // BYTES_PER_CELL // max(1, batch.table.num_columns))
    table: pa.RecordBatch = batch.table
    for first in range(0, table.num_rows, n_rows):
        yield Batch(batch.place, batch.first_row + first, table.slice(first, n_rows))
