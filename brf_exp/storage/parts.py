"""Rows that arrive in batches, written as part files of whole documents."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from brf_exp.storage.captures import ROW_GROUP_ROWS, finish_part, open_part, part_name


class PartWriter:
    """Cuts a stream of rows into part files.

    A part holds as many whole documents as fit `rows_per_part`, and at least one. Where the parts are cut does not
    depend on how the rows were batched, so that the same rows give the same bytes. A document longer than a part is
    written while it arrives, so that no more than a part and a batch are ever in memory.
    """

    def __init__(self, folder: Path, *, rows_per_part: int, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        self.parts: list[dict[str, Any]] = []
        self._folder, self._rows_per_part, self._row_group_rows = folder, rows_per_part, row_group_rows
        self._pending: list[pa.RecordBatch] = []
        self._starts: list[int] = []
        self._n_rows = 0
        self._open: pq.ParquetWriter | None = None
        self._n_written = 0

    def add(self, batch: pa.RecordBatch, starts: np.ndarray) -> None:
        """Take rows in; `starts` (bool, one per row) marks the first row of each document."""
        self._starts += (np.flatnonzero(starts) + self._n_rows).tolist()
        self._pending.append(batch)
        self._n_rows += batch.num_rows
        while self._is_full() and (cut := self._cut()) is not None:
            self._end(cut)
        if self._is_full() and self._n_rows > self._row_group_rows:
            self._write((self._n_rows - 1) // self._row_group_rows * self._row_group_rows)

    def finish(self) -> list[dict[str, Any]]:
        """Write what is left; returns name, rows, documents, bytes and SHA-256 of every part."""
        while self._n_rows:
            cut = self._cut() if self._is_full() else None
            self._end(self._n_rows if cut is None else cut)
        return self.parts

    def close(self) -> None:
        """Leave the part that is open, if any, as it is."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _is_full(self) -> bool:
        return self._n_written + self._n_rows > self._rows_per_part

    def _cut(self) -> int | None:
        """Rows that end the part: the last document's end within reach, else the first one's; None if not yet known.

        Once rows of a part are written, they are those of a document that is longer than a part.
        """
        ends = self._starts if self._n_written else self._starts[1:]
        within = [end for end in ends if self._n_written + end <= self._rows_per_part]
        return within[-1] if within else next(iter(ends), None)

    @property
    def _path(self) -> Path:
        return self._folder / part_name(len(self.parts))

    def _end(self, n_rows: int) -> None:
        """Write the first rows pending, with which the part ends."""
        documents = sum(start < n_rows for start in self._starts) + (self._n_written > 0)
        self._write(n_rows)
        self.close()
        rows, self._n_written = self._n_written, 0
        sha256 = finish_part(self._path)
        n_bytes = self._path.stat().st_size
        named = {"name": self._path.name, "rows": rows, "documents": documents}
        self.parts.append(named | {"bytes": n_bytes, "sha256": sha256})

    def _write(self, n_rows: int) -> None:
        """Write the first rows pending to the open part."""
        table = pa.Table.from_batches(self._pending)
        if self._open is None:
            self._open = open_part(self._path, table.schema)
        if n_rows:
            self._open.write_table(table.slice(0, n_rows).combine_chunks(), row_group_size=self._row_group_rows)
        self._pending = [batch for batch in table.slice(n_rows).to_batches() if batch.num_rows]
        self._starts = [start - n_rows for start in self._starts if start >= n_rows]
        self._n_rows -= n_rows
        self._n_written += n_rows
