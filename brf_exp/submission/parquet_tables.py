"""Parquet, flat or with the values of a row in lists, as batches of flat columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pa_types

from brf_exp.submission.batches import Batch, File, no_rows, rows_per_batch
from brf_exp.submission.fault import Place, fault, listed, said
from brf_exp.submission.parquet_footer import column_values
from brf_exp.submission.unpacked import LARGEST_BYTES

LIST_COLUMNS: Final = {
    "ids": "id",
    "top_ids": "id",
    "logits": "logit",
    "top_logits": "logit",
    "logprobs": "logprob",
    "top_logprobs": "logprob",
}
MOST_LIST_VALUES: Final = 2**27
LONGEST_TEXT_BYTES: Final = 4096


@dataclass(frozen=True)
class ParquetReader:
    """Parquet files of the same columns; `lists` maps the name of a list column to the values taken of every row."""

    files: tuple[File, ...]
    flat: tuple[str, ...]
    lists: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Flat names; a list `logits` stands as logit_1, logit_2, ..."""
        return self.flat + tuple(name for column in self.lists for name in self._expanded(column))

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns, lists cut to the shortest of all rows."""
        wanted = set(names)
        lists = [column for column in self.lists if wanted & set(self._expanded(column))]
        stored = [name for name in self.flat if name in wanted] + lists
        for file in self.files:
            _check_flat(file, [name for name in stored if name not in lists])
            row = 1
            for batch in _row_batches(file, stored, rows_per_batch(len(names))):
                columns = {name: _bounded_text(batch.column(name), name, file[1]) for name in stored if name in wanted}
                for column in lists:
                    columns |= zip(self._expanded(column), self._values(batch.column(column), column), strict=True)
                yield Batch(file[1], row, pa.record_batch({name: columns[name] for name in names}))
                row += batch.num_rows
            if row == 1:
                raise no_rows(file[1])

    def _expanded(self, column: str) -> list[str]:
        """The flat names of a list column."""
        return [f"{LIST_COLUMNS[column]}_{rank}" for rank in range(1, self.lists[column] + 1)]

    def _values(self, column: Any, name: str) -> list[pa.Array]:
        """The first values of every row's list, one array per rank."""
        starts = np.concatenate([[0], np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False)[:-1])])
        values = pc.list_flatten(column)
        return [values.take(pa.array(starts + rank)) for rank in range(self.lists[name])]


def open_parquet(files: Sequence[File]) -> ParquetReader:
    """Open Parquet files; InputError where one is damaged, too large, nested or unlike the first."""
    opened = [_opened(file) for file in files]
    names = opened[0].schema_arrow.names
    for (_, place), one in zip(files[1:], opened[1:], strict=True):
        if one.schema_arrow.names != names:
            raise said(place, f"must have the columns of {files[0][1]}. Write all parts with the same columns.")
    lists = [name for name in dict.fromkeys(names) if name in LIST_COLUMNS]
    for file, one in zip(files, opened, strict=True):
        _check_lists(file[1], one, lists)
        if lists:
            _check_sizes(file, lists)
    shortest = _shortest(files, lists) if lists else {}
    return ParquetReader(tuple(files), tuple(name for name in names if name not in lists), shortest)


def _opened(file: File) -> pq.ParquetFile:
    """The file opened, its declared size within the cap."""
    path, place = file
    try:
        opened = pq.ParquetFile(path)
        text = [f.name for f in opened.schema_arrow if _is_text(f.type)]
        opened = pq.ParquetFile(path, read_dictionary=text)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise said(place, "must be a Parquet file. Write it again.") from error
    metadata = opened.metadata
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if size > LARGEST_BYTES:
        raise fault(place, f"at most {LARGEST_BYTES} bytes unpacked", size, "Split the submission.")
    return opened


def _is_text(kind: Any) -> bool:
    """Whether a type, or what a dictionary encodes, is a string."""
    kind = kind.value_type if pa_types.is_dictionary(kind) else kind
    return bool(pa_types.is_string(kind) or pa_types.is_large_string(kind))


def _check_lists(place: Place, opened: pq.ParquetFile, lists: Sequence[str]) -> None:
    """List columns hold plain numbers."""
    for name, kind in zip(opened.schema_arrow.names, opened.schema_arrow.types, strict=True):
        if name not in lists:
            continue
        a_list = pa_types.is_list(kind) or pa_types.is_large_list(kind) or pa_types.is_fixed_size_list(kind)
        if not a_list or not (pa_types.is_integer(kind.value_type) or pa_types.is_floating(kind.value_type)):
            raise fault(place.at(column=name), "a list of numbers", str(kind), "Write one flat list per row.")


def _check_flat(file: File, names: Sequence[str]) -> None:
    """Columns that are read as they are hold nothing nested."""
    schema = _opened(file).schema_arrow
    for name in names:
        if pa_types.is_nested(schema.field(name).type):
            raise fault(file[1].at(column=name), "numbers or texts", str(schema.field(name).type), "Write it flat.")


def _check_sizes(file: File, lists: Sequence[str]) -> None:
    """Row groups are declared to hold no more values in lists than are read at once."""
    path, place = file
    try:
        most = max((n_values for name, n_values in column_values(path) if name in lists), default=0)
    except (ValueError, OSError) as error:
        raise said(place, "must be a Parquet file. Write it again.") from error
    if most > MOST_LIST_VALUES:
        raise fault(place, f"at most {MOST_LIST_VALUES} values in a row group", most, "Write smaller row groups.")


def _shortest(files: Sequence[File], lists: Sequence[str]) -> dict[str, int]:
    """Values of the shortest list of each column; InputError names the rows with fewer than two."""
    shortest: dict[str, int] = {}
    for file in files:
        row = 1
        for batch in _row_batches(file, lists, rows_per_batch(64)):
            for name in lists:
                lengths = pc.fill_null(pc.list_value_length(batch.column(name)), 0).to_numpy(zero_copy_only=False)
                short = np.flatnonzero(lengths < 2)
                if len(short):
                    rows = listed([str(row + index) for index in short.tolist()])
                    requirement = f"lists of at least two values, got fewer in row {rows}. Dump at least two."
                    raise said(file[1].at(column=name), f"must have {requirement}")
                shortest[name] = min(shortest.get(name, lengths[0]), int(lengths.min()))
            row += batch.num_rows
    return {name: int(shortest.get(name, 0)) for name in lists}


def _row_batches(file: File, columns: Sequence[str], n_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of the stored columns."""
    path, place = file
    opened = _opened(file)
    try:
        yield from opened.iter_batches(batch_size=n_rows, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise said(place, "must be a whole Parquet file. Write it again.") from error


def _bounded_text(column: Any, name: str, place: Place) -> Any:
    """The column; InputError where a text is longer than any name."""
    if pa_types.is_dictionary(column.type) and len(column.dictionary):
        longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
        if longest > LONGEST_TEXT_BYTES:
            requirement = f"texts of at most {LONGEST_TEXT_BYTES} bytes"
            raise fault(place.at(column=name), requirement, f"{longest} bytes", "Shorten the names.")
    return column
