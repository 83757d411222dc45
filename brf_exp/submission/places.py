"""Where every row of a table stands, kept in a file without a name: what tables are compared by."""

import tempfile
import weakref
from collections.abc import Iterator
from typing import Final

import numpy as np

from brf_exp.submission.rows import PLACES, Rows

UNKNOWN: Final = -1
CHUNK_ROWS: Final = 1_000_000


class PlaceLog:
    """position, token_id, char_start and char_end (-1 where not given) of every row, in the table's order.

    `names` are the documents, `starts` the row at which each begins.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="brf-exp-")  # noqa: SIM115 - lives as long as the log
        weakref.finalize(self, self._file.close)
        self.names: list[str] = []
        self.starts: list[int] = []
        self.n_rows = 0
        self.columns: frozenset[str] = frozenset()

    def add(self, rows: Rows, starts: np.ndarray) -> None:
        """Take rows in; `starts` (n,) marks the first row of each document."""
        self.columns = frozenset(name for name in PLACES if name in rows.fixed)
        n = len(starts)
        table = np.full((n, len(PLACES)), UNKNOWN, dtype=np.int32)
        for place, name in enumerate(PLACES):
            if name in rows.fixed:
                table[:, place] = rows.fixed[name]
        self._file.write(table.tobytes())
        self.starts += (np.flatnonzero(starts) + self.n_rows).tolist()
        self.n_rows += n

    @property
    def offsets(self) -> np.ndarray:
        """Rows of the documents, (D + 1,)."""
        return np.array([*self.starts, self.n_rows], dtype=np.int64)

    def read(self, name: str, first: int, stop: int) -> np.ndarray:
        """One column of the rows from `first` to `stop`, (stop - first,) int32."""
        width = len(PLACES) * 4
        self._file.seek(first * width)
        table = np.frombuffer(self._file.read((stop - first) * width), dtype=np.int32).reshape(-1, len(PLACES))
        return table[:, PLACES.index(name)]

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First row and the one behind the last of pieces of bounded length."""
        for first in range(0, self.n_rows, CHUNK_ROWS):
            yield first, min(first + CHUNK_ROWS, self.n_rows)
