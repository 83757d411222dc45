"""A submission's tables: opened, checked in one pass, and written as captures while nothing is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from brf_exp.storage.captures import ROW_GROUP_ROWS
from brf_exp.storage.parts import PartWriter
from brf_exp.submission.check import check_rows
from brf_exp.submission.convert import capture_columns, to_capture
from brf_exp.submission.description import Member
from brf_exp.submission.documents import DocumentOrder
from brf_exp.submission.labels import LabelEvidence
from brf_exp.submission.layout import Layout, layout_of
from brf_exp.submission.places import PlaceLog
from brf_exp.submission.problems import MOST_PROBLEMS, Problems
from brf_exp.submission.rows import Rows, read_rows
from brf_exp.submission.tables import Batch, Reading, Source, open_source

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


def open_table(folder: Path, member: Member, problems: Problems, reading: Reading) -> Table | None:
    """A model's table and what its columns are; None, and problems, where they cannot be used."""
    table = None
    with problems.catching():
        source = open_source(folder, member.capture, vocabulary_size=member.vocab_size, reading=reading)
        if (layout := layout_of(source, member, problems)) is not None:
            table = Table(member, source, layout)
    return table


def read_table(
    table: Table, problems: Problems, *, target: Path | None, memory_mb: int, rows_per_part: int
) -> Imported:
    """Check one model's rows, all of them, and write them into a new folder `target` unless that is None.

    Writing stops at the first error; checking goes on.
    """
    checking = _Checking(table, problems, target, rows_per_part)
    is_whole = False
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

    def __init__(self, table: Table, problems: Problems, target: Path | None, rows_per_part: int) -> None:
        self._table, self._problems, self._target = table, problems, target
        self._order = DocumentOrder(problems)
        self._evidence = LabelEvidence(table.member, table.layout)
        self._columns = table.columns
        self._places = PlaceLog()
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
        table, problems = self._table, self._problems
        rows = read_rows(batch, table.layout, table.member, problems)
        self._check(rows.sound(), n_cut=rows.n_cut)
        if not rows.has_place:
            self.all_places_known = False
            return
        doc_id, starts = self._order.place(rows)
        self._places.add(rows, starts)
        if problems.n_errors and self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._writer is not None:
            batch_made = to_capture(rows, doc_id, columns=self._columns, layout=table.layout, member=table.member)
            self._writer.add(batch_made, starts)

    def _check(self, rows: Rows, *, n_cut: int) -> None:
        """Check what stands within rows; what they look like is judged at the end."""
        self._evidence.n_cut_rows += n_cut
        if not len(rows.values):
            return
        before = [self._problems.counts[name] for name in CONTRADICTIONS]
        check_rows(rows, self._table.layout, self._table.member, self._problems)
        self._evidence.add(rows)
        if before != [self._problems.counts[name] for name in CONTRADICTIONS] or self._evidence.tempering.n_broken:
            self._evidence.add_contradicting(rows)

    def finish(self, *, is_whole: bool) -> Imported:
        """Judge the table as a whole and close its capture."""
        self._evidence.judge(self._table.source.place, self._problems)
        self._places.names = self._order.names
        writes = self._writer is not None and not self._problems.n_errors
        parts = self._writer.finish() if writes and self._writer is not None else []
        return Imported(self._target, self._table, parts, self._places, is_whole)


def _pieces(batch: Batch, memory_mb: int) -> Iterator[Batch]:
    """A batch in pieces that take no more than half the memory while they are checked."""
    n_rows = max(1, memory_mb * 2**20 // 2 // BYTES_PER_CELL // max(1, batch.table.num_columns))
    table: pa.RecordBatch = batch.table
    for first in range(0, table.num_rows, n_rows):
        yield Batch(batch.place, batch.first_row + first, table.slice(first, n_rows))
