"""JSONL with one row per line: the columns of the format by name, ids and values in lists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from brf_exp.submission.batches import Batch, File, no_rows, rows_per_batch
from brf_exp.submission.fault import Place, fault, listed, said
from brf_exp.submission.json_lines import Record, list_at, number, records, text_of, whole_number

STEMS: Final = {"ids": "id", "logits": "logit", "logprobs": "logprob"}
WHOLE: Final = ("position", "token_id", "char_start", "char_end", "target_rank")


@dataclass(frozen=True)
class RowReader:
    """Rows whose keys are `scalars` and `lists`; `k` values are taken of every list."""

    files: tuple[File, ...]
    scalars: tuple[str, ...]
    lists: tuple[str, ...]
    k: int

    @property
    def names(self) -> tuple[str, ...]:
        """Flat names; a list `logits` stands as logit_1, logit_2, ..."""
        return self.scalars + tuple(f"{STEMS[name]}_{rank + 1}" for name in self.lists for rank in range(self.k))

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns; every line is a row."""
        for file in self.files:
            found, row = records(file), 1
            while rows := list(islice(found, rows_per_batch(4 * self.k))):
                columns = self._columns(rows, set(names))
                yield Batch(file[1], row, pa.record_batch({name: columns[name] for name in names}))
                row += len(rows)

    def _columns(self, rows: Sequence[tuple[Place, Record]], wanted: set[str]) -> dict[str, pa.Array]:
        """The wanted columns of some rows, or more."""
        columns = {
            name: pa.array([_scalar(record, name, where) for where, record in rows])
            for name in self.scalars
            if name in wanted
        }
        for name in self.lists:
            read = whole_number if name == "ids" else number
            values = np.array([[read(v, where, name) for v in record[name][: self.k]] for where, record in rows])
            columns |= {f"{STEMS[name]}_{rank + 1}": pa.array(values[:, rank]) for rank in range(self.k)}
        return columns


def is_row(record: Record) -> bool:
    """Whether a line is a row of its own: a position with a list of values."""
    return "position" in record and ("logits" in record or isinstance(record.get("logprobs"), list))


def open_rows(files: Sequence[File]) -> RowReader:
    """Open files of one row per line; InputError where lines differ in their keys or have fewer than two values."""
    keys: set[str] = set()
    least: int | None = None
    short: list[str] = []
    for file in files:
        n_before = len(short)
        empty = True
        for where, record in records(file):
            keys, empty = keys or set(record), False
            if set(record) != keys:
                odd = listed(sorted(set(record) ^ keys))
                raise said(where, f"must have the keys of the first line, which differs in {odd}. Write all alike.")
            n_values = min(len(list_at(record, name, where)) for name in STEMS if name in record)
            least = n_values if least is None else min(least, n_values)
            short += [str(where)] if n_values < 2 else []
        if empty:
            raise no_rows(file[1])
        if len(short) > n_before:
            raise said(short[n_before], f"must have at least two values, got fewer at {listed(short)}. Dump more.")
    lists = tuple(name for name in STEMS if name in keys)
    scalars = tuple(sorted(name for name in keys if name not in STEMS))
    return RowReader(tuple(files), scalars, lists, least or 0)


def _scalar(record: Record, name: str, where: Place) -> Any:
    """The value under a key, of the kind its column has."""
    value = record[name]
    if name == "doc_id":
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value, where, name)
    if value is None:
        raise fault(where, f"a value at {name}", None, "Fill it or drop the row.")
    return whole_number(value, where, name) if name in WHOLE else number(value, where, name)
