"""Rows that arrive in batches, written as part files of whole documents."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from brf_exp.storage.captures import part_name, write_part


class PartWriter:
    """Cuts a stream of rows into part files.

    A part holds as many whole documents as fit `rows_per_part`, and at least one. Where the parts are cut does not
    depend on how the rows were batched, so that the same rows give the same bytes.
    """

    def __init__(self, folder: Path, *, rows_per_part: int) -> None:
        self.parts: list[dict[str, Any]] = []
        self._folder, self._rows_per_part = folder, rows_per_part
        self._pending: list[pa.RecordBatch] = []
        self._starts: list[int] = []
        self._n_rows = 0

    def add(self, batch: pa.RecordBatch, starts: np.ndarray) -> None:
        """Take rows in; `starts` (bool, one per row) marks the first row of each document."""
        self._starts += (np.flatnonzero(starts) + self._n_rows).tolist()
        self._pending.append(batch)
        self._n_rows += batch.num_rows
        while self._n_rows > self._rows_per_part and (cut := self._cut()) is not None:
            self._write(cut)

    def finish(self) -> list[dict[str, Any]]:
        """Write what is left; returns name, rows, documents and SHA-256 of every part."""
        while self._n_rows:
            cut = self._cut() if self._n_rows > self._rows_per_part else None
            self._write(self._n_rows if cut is None else cut)
        return self.parts

    def _cut(self) -> int | None:
        """Rows of the next part: the last document's end within reach, else the first one's; None if not yet known."""
        ends = self._starts[1:]
        within = [end for end in ends if end <= self._rows_per_part]
        return within[-1] if within else next(iter(ends), None)

    def _write(self, n_rows: int) -> None:
        """Write the first rows pending as one part."""
        table = pa.Table.from_batches(self._pending)
        name = part_name(len(self.parts))
        sha256 = write_part(self._folder / name, table.slice(0, n_rows).combine_chunks())
        documents = sum(start < n_rows for start in self._starts)
        self.parts.append({"name": name, "rows": n_rows, "documents": documents, "sha256": sha256})
        self._pending = table.slice(n_rows).to_batches()
        self._starts = [start - n_rows for start in self._starts if start >= n_rows]
        self._n_rows -= n_rows
