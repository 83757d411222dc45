"""What every reader of a submitted table gives: rows in batches, under the canonical flat column names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from brf_exp.errors import InputError
from brf_exp.submission.fault import Place, said

BATCH_ROWS = 32768
BATCH_CELLS = 4 * 1024 * 1024

File = tuple[Path, Place]


@dataclass(frozen=True)
class Batch:
    """Some rows of one file; `first_row` is the 1-based data row of the first of them."""

    place: Place
    first_row: int
    table: pa.RecordBatch


class Reader(Protocol):
    """The files of one table, opened: what columns there are, and their rows in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, each once: `doc_id`, `position`, ..., `id_1`, ..., `logit_1` or `logprob_1`, ..."""

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns of every row; InputError for what cannot be read."""


def rows_per_batch(n_columns: int) -> int:
    """Rows of a batch of so many columns."""
    return max(1, min(BATCH_ROWS, BATCH_CELLS // max(1, n_columns)))


def no_rows(place: Place) -> InputError:
    """The error for a file without rows."""
    return said(place, "must have at least one row below its header, got none. Dump it again.")
