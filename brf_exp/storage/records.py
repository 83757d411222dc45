"""Tables of records with nulls and a type for every column."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def write_records(path: Path, rows: Iterable[Mapping[str, Any]], types: Mapping[str, type]) -> None:
    """Write one row per record with the columns of `types`, in their order; what a record lacks is null.

    Raises an ArrowInvalid or ArrowTypeError for a value that is not of its column's type.
    """
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in types.items()])
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), path, compression="zstd")
