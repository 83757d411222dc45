"""A submission's tables, opened, and written as captures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from brf_exp.storage.captures import read_part
from brf_exp.storage.parts import PartWriter
from brf_exp.submission.check import DocumentOrder, check_rows, check_same_rows
from brf_exp.submission.convert import capture_columns, to_capture
from brf_exp.submission.description import Member
from brf_exp.submission.fault import said
from brf_exp.submission.layout import Layout, layout_of
from brf_exp.submission.rows import read_rows
from brf_exp.submission.tables import Source, open_source

SAME_ROW: Final = ("doc_id", "position", "token_id")


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
    """One model's capture, written into a folder; `documents` are the doc_ids in order."""

    folder: Path
    table: Table
    parts: list[dict[str, Any]]
    documents: list[str]

    def read(self, names: Sequence[str]) -> pa.Table:
        """The named columns of every row."""
        return pa.concat_tables([read_part(self.folder / part["name"], names) for part in self.parts])


def open_table(folder: Path, member: Member) -> Table:
    """A model's table and what its columns are; InputError where they cannot be used."""
    source = open_source(folder, member.capture)
    return Table(member, source, layout_of(source, member))


def write_capture(target: Path, table: Table, *, rows_per_part: int) -> Imported:
    """Check, convert and write one model's rows into a new folder; InputError at the first that cannot be used."""
    target.mkdir()
    order = DocumentOrder()
    writer = PartWriter(target, rows_per_part=rows_per_part)
    columns, layout, member = table.columns, table.layout, table.member
    for batch in table.source.batches(layout.read):
        rows = read_rows(batch, layout, member)
        check_rows(rows, layout, member)
        doc_id, starts = order.place(rows)
        writer.add(to_capture(rows, doc_id, columns=columns, layout=layout, member=member), starts)
    return Imported(target, table, writer.finish(), order.names)


def check_alignment(imported: Sequence[Imported]) -> None:
    """Models of one tokenizer have the same rows; InputError names the first that differs."""
    first: dict[tuple[str, int], Imported] = {}
    for one in imported:
        member = one.table.member
        other = first.setdefault((member.tokenizer, member.vocab_size), one)
        if other is not one:
            _check_aligned(other, one)


def _check_aligned(reference: Imported, candidate: Imported) -> None:
    """Two tables have the same rows."""
    tables = reference.table, candidate.table
    named = [table for table in tables if "doc_id" in table.layout.fixed]
    if len(named) == 1:
        without = next(table for table in tables if table is not named[0])
        raise said(without.source.place, f"must have the column doc_id as {named[0].source.place} has it. Add it.")
    names = [name for name in SAME_ROW if all(name in table.columns for table in tables)]
    files = [str(table.source.place) for table in tables]
    check_same_rows((files[0], reference.read(names)), (files[1], candidate.read(names)))
