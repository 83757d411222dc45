"""JSONL as a table: responses of serving stacks, or one row per line with its values in lists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa

from brf_exp.submission.batches import Batch, File, Reader, no_rows, rows_per_batch
from brf_exp.submission.fault import Place, listed, said
from brf_exp.submission.json_lines import records
from brf_exp.submission.positions import Document, Position, at_position
from brf_exp.submission.row_lines import is_row, open_rows
from brf_exp.submission.serving_logs import documents
from brf_exp.submission.token_ids import TokenIds


@dataclass(frozen=True)
class LogReader:
    """Logs of serving stacks with `k` values per position; `scored` says whether every realised token has its own."""

    files: tuple[File, ...]
    tokens: TokenIds
    k: int
    scored: bool

    @property
    def names(self) -> tuple[str, ...]:
        """doc_id, position, token_id, target_logprob where known, id_1, ..., logprob_1, ..."""
        target = ("target_logprob",) if self.scored else ()
        numbered = [f"{stem}_{rank}" for stem in ("id", "logprob") for rank in range(1, self.k + 1)]
        return ("doc_id", "position", "token_id", *target, *numbered)

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns; row n of a file is its n-th position over all lines."""
        for file in self.files:
            found = ((document, position) for document in _documents(file) for position in document.positions)
            row = 1
            while rows := list(islice(found, rows_per_batch(4 * self.k))):
                columns = self._columns(rows, file[1])
                yield Batch(file[1], row, pa.record_batch({name: columns[name] for name in names}))
                row += len(rows)

    def _columns(self, rows: Sequence[tuple[Document, Position]], place: Place) -> dict[str, pa.Array]:
        """Every column of some positions."""
        id_of = self.tokens.id_of
        ids = np.array([[id_of(token) for token, _ in p.top[: self.k]] for _, p in rows], dtype=np.int64)
        values = np.array([[value for _, value in p.top[: self.k]] for _, p in rows], dtype=np.float64)
        columns = {
            "doc_id": pa.array([document.doc_id for document, _ in rows], pa.string()),
            "position": pa.array([p.index for _, p in rows], pa.int32()),
            "token_id": pa.array([id_of(p.token) for _, p in rows], pa.int64()),
        }
        if self.scored:
            columns["target_logprob"] = pa.array([p.logprob for _, p in rows], pa.float64())
        columns |= {f"id_{rank + 1}": pa.array(ids[:, rank]) for rank in range(self.k)}
        return columns | {f"logprob_{rank + 1}": pa.array(values[:, rank]) for rank in range(self.k)}


def open_lines(files: Sequence[File], tokens: TokenIds) -> Reader:
    """Open JSONL files of one kind; reads them once to learn how many values every position has.

    Raises
    ------
    InputError
        Where a line cannot be read, or a position has fewer than two values; names them.
    """
    first = next((record for _, record in records(files[0])), None)
    if first is None:
        raise no_rows(files[0][1])
    if is_row(first):
        return open_rows(files)
    shape = _Shape()
    for file in files:
        before = shape.n_positions
        for document in _documents(file):
            shape.add(document, tokens)
        if shape.n_positions == before:
            raise no_rows(file[1])
    return LogReader(tuple(files), tokens, shape.k(files[0][1]), shape.scored)


def _documents(file: File) -> Iterator[Document]:
    """The documents of one file in order."""
    for number, (where, record) in enumerate(records(file), start=1):
        yield from documents(record, number, where)


@dataclass
class _Shape:
    """What all positions of a table have in common."""

    n_positions: int = 0
    scored: bool = True
    least: int | None = None
    least_certain: bool = False
    short: list[str] = field(default_factory=list)

    def add(self, document: Document, tokens: TokenIds) -> None:
        """Take in the positions of one document; its tokens get their ids."""
        for position in document.positions:
            self.n_positions += 1
            self.scored = self.scored and position.logprob is not None
            n_listed = len(position.top)
            if n_listed < 2:
                self.short.append(str(at_position(document.where, position.index)))
            if self.least is None or n_listed < self.least:
                self.least, self.least_certain = n_listed, False
            if n_listed == self.least:
                self.least_certain |= not position.doubtful
            for token, _ in ((position.token, None), *position.top):
                tokens.id_of(token)

    def k(self, place: Place) -> int:
        """Values per position: of the shortest list, less the realised token where that may have been appended to it.

        Where every list of that length ends in the realised token, it may stand there for any rank below, and one
        value less is taken.
        """
        if self.short:
            places = listed(self.short)
            raise said(self.short[0], f"must have at least two tokens listed, got fewer at {places}. Ask for more.")
        k = (self.least or 0) - (not self.least_certain)
        if k < 2:
            raise said(place, "must list at least two tokens beside the realised one. Ask for more.")
        return k
