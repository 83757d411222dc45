"""Small tables of results: columns of arrays to Parquet and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """Write equally long columns as one Parquet file."""
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_table(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """The columns of a table written by `write_table`, as arrays."""
    table = pq.read_table(path, columns=names)
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def write_csv(path: Path, columns: dict[str, Any]) -> None:
    """Write equally long columns as CSV."""
    pa.csv.write_csv(pa.table(columns), path)


def read_csv(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The named columns of a CSV file as float64; KeyError for a missing one, ValueError for what is no number."""
    table = pa.csv.read_csv(path)
    return {name: table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names}
