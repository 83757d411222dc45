"""Rows of models with different tokenizers that predict from the same text: matched by character offsets.

A position belongs to the text ahead of its token. Two positions are matched where their tokens begin at the same
character of the same document: both models have then read the same characters and nothing else. Of several tokens that
begin at one character (the bytes of a code point, an empty token) only the first is such a position, and only where the
token before it has ended.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from brf_exp.storage import schema
from brf_exp.storage.parts import PartWriter
from brf_exp.submission.fault import said
from brf_exp.submission.importing import Imported
from brf_exp.submission.problems import Problems

SPANS: Final = ("char_start", "char_end")
KEPT: Final = ("doc_id", "position", *SPANS, "logsumexp", "target_logit", "entropy", "logit_1", "logit_2")
LEAST_SHARE: Final = 0.5
BATCH_ROWS: Final = 65536


@dataclass(frozen=True)
class AlignedRows:
    """Which rows of each model are matched, in equal number and order.

    `masks` are (n_m,) bool, one per model; `position` (n,) is the first model's; `starts` (n,) marks the first matched
    row of each document.
    """

    masks: tuple[np.ndarray, ...]
    position: np.ndarray
    starts: np.ndarray

    @property
    def n_rows(self) -> int:
        """Matched positions."""
        return int(self.position.size)

    @property
    def shares(self) -> list[float]:
        """Share of each model's positions that is matched."""
        return [self.n_rows / mask.size for mask in self.masks]


@dataclass(frozen=True)
class AlignedCapture:
    """One model's matched rows, written."""

    key: str
    parts: list[dict[str, Any]]
    columns: list[str]


def align_rows(imported: Sequence[Imported], problems: Problems) -> AlignedRows:
    """Match the rows of all models, in the documents that all of them have; another order of these is a problem."""
    shared = set.intersection(*(set(one.documents) for one in imported))
    orders = [[name for name in one.documents if name in shared] for one in imported]
    for one, order in zip(imported[1:], orders[1:], strict=True):
        if order != orders[0]:
            sentence = f"must have its documents in the order of {imported[0].table.source.place}. Sort both alike."
            problems.add(said(one.table.source.place, sentence, check="rows-documents"))
    masks = tuple(np.zeros(one.places.n_rows, dtype=bool) for one in imported)
    positions, lengths = [np.empty(0, dtype=np.int32)], []
    if not problems.n_errors:
        for found in _matched_documents(imported, orders[0]):
            for mask, rows in zip(masks, found, strict=True):
                mask[rows] = True
            first = imported[0].places.read("position", int(found[0][0]), int(found[0][-1]) + 1)
            positions.append(first[found[0] - found[0][0]])
            lengths.append(found[0].size)
    starts = np.zeros(sum(lengths), dtype=bool)
    starts[np.cumsum([0, *lengths[:-1]])[: len(lengths)]] = True
    return AlignedRows(masks, np.concatenate(positions), starts)


def _matched_documents(imported: Sequence[Imported], names: Sequence[str]) -> Iterator[list[np.ndarray]]:
    """The matched rows of every model, document by document; documents without any are left out."""
    numbers = [dict(zip(one.documents, range(len(one.documents)), strict=True)) for one in imported]
    for name in names:
        made = [_beginnings(one, numbers[model][name]) for model, one in enumerate(imported)]
        common = reduce(np.intersect1d, (characters for characters, _ in made))
        if common.size:
            yield [rows[np.searchsorted(characters, common)] for characters, rows in made]


def _beginnings(one: Imported, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Characters at which a token of a document begins and the one before has ended, rising; and those rows."""
    offsets = one.places.starts
    first = offsets[number]
    stop = offsets[number + 1] if number + 1 < len(offsets) else one.places.n_rows
    start, end = (one.places.read(name, first, stop) for name in SPANS)
    furthest = np.maximum.accumulate(end)
    begins = np.concatenate([[True], (start[1:] >= furthest[:-1]) & (start[1:] > start[:-1])])
    return start[begins], first + np.flatnonzero(begins)


def warn_of_share(imported: Sequence[Imported], rows: AlignedRows, problems: Problems) -> None:
    """Where little is matched, what is left may not stand for the whole.

    No more can match than the model of the longest tokens has positions, so that its share is looked at: of bytes
    beside words few begin where a word does, and all is well. Which documents all models have counts for each.
    """
    shares = rows.shares
    coarsest = shares.index(max(shares))
    if shares[coarsest] < LEAST_SHARE:
        sentence = (
            f"must be aligned with the other models at half of its positions, got {shares[coarsest]:.1%} by "
            "char_start. Check that all spans count code points of the same texts."
        )
        problems.add(said(imported[coarsest].table.source.place, sentence, check="offsets-share"))
    shared = set.intersection(*(set(one.documents) for one in imported))
    for one in imported:
        if len(shared) < LEAST_SHARE * len(one.documents):
            sentence = (
                f"must have half of its documents in common with the other models, got {len(shared)} of "
                f"{len(one.documents)}. Dump the same documents with all models."
            )
            problems.add(said(one.table.source.place, sentence, check="offsets-share"))


def write_aligned(
    building: Path, imported: Sequence[Imported], rows: AlignedRows, *, rows_per_part: int
) -> list[AlignedCapture]:
    """Write the matched rows of every model as captures `aligned-<key>`, at the first model's positions."""
    return [
        _write(building / f"aligned-{one.table.member.key}", one, mask, rows, rows_per_part)
        for one, mask in zip(imported, rows.masks, strict=True)
    ]


def _write(target: Path, one: Imported, mask: np.ndarray, rows: AlignedRows, rows_per_part: int) -> AlignedCapture:
    target.mkdir()
    columns = schema.arrow_schema([name for name in KEPT if name in one.table.columns])
    writer, done = PartWriter(target, rows_per_part=rows_per_part), 0
    for batch in _kept(one, mask, columns.names):
        piece = slice(done, done + batch.num_rows)
        arrays = {name: batch.column(name) for name in columns.names} | {"position": pa.array(rows.position[piece])}
        writer.add(pa.RecordBatch.from_arrays(list(arrays.values()), schema=columns), rows.starts[piece])
        done = piece.stop
    return AlignedCapture(one.table.member.key, writer.finish(), columns.names)


def _kept(one: Imported, mask: np.ndarray, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a written capture where the mask is True."""
    assert one.folder is not None
    row = 0
    for part in one.parts:
        with pq.ParquetFile(one.folder / part["name"], pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names, use_threads=False):
                kept = batch.filter(pa.array(mask[row : row + batch.num_rows]))
                row += batch.num_rows
                if kept.num_rows:
                    yield kept
