"""Part files hold whole documents, and the same rows give the same bytes however they arrive."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.storage.captures import sha256_of
from brf_exp.storage.parts import PartWriter

LENGTHS = (3, 2, 12, 4, 1, 5, 7, 1)
TABLE = pa.table(
    {
        "doc_id": np.repeat([f"d{number}" for number in range(len(LENGTHS))], LENGTHS),
        "logit_1": np.arange(sum(LENGTHS), dtype=np.float32),
    }
)
STARTS = np.isin(np.arange(sum(LENGTHS)), np.cumsum((0, *LENGTHS)))


def written(folder: Path, batch_rows: int) -> list[dict[str, object]]:
    """The parts of the table, fed in batches."""
    folder.mkdir()
    writer = PartWriter(folder, rows_per_part=8)
    for start in range(0, TABLE.num_rows, batch_rows):
        for batch in TABLE.slice(start, batch_rows).to_batches():
            writer.add(batch, STARTS[start : start + batch_rows])
    return writer.finish()


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 8, 9, 35])
def test_parts_do_not_depend_on_batches(batch_rows: int, tmp_path: Path) -> None:
    parts = written(tmp_path / "parts", batch_rows)
    assert [part["rows"] for part in parts] == [5, 12, 5, 5, 8]
    assert [part["documents"] for part in parts] == [2, 1, 2, 1, 2]
    assert parts == written(tmp_path / "whole", TABLE.num_rows)
    read = pa.concat_tables([pq.read_table(tmp_path / "parts" / str(part["name"])) for part in parts])
    assert read.equals(TABLE)
    assert [sha256_of(tmp_path / "parts" / str(part["name"])) for part in parts] == [part["sha256"] for part in parts]
    assert len(list((tmp_path / "parts").iterdir())) == len(parts)
