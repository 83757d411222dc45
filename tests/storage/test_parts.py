"""Part files hold whole documents, and the same rows give the same bytes however they arrive."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.storage.captures import sha256_of, write_part
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


@pytest.mark.parametrize("batch_rows", [1, 3, 7, 35])
def test_a_document_longer_than_a_part_is_written_while_it_arrives(batch_rows: int, tmp_path: Path) -> None:
    (tmp_path / "streamed").mkdir()
    streamed = PartWriter(tmp_path / "streamed", rows_per_part=8, row_group_rows=4)
    most_held = 0
    for start in range(0, TABLE.num_rows, batch_rows):
        for batch in TABLE.slice(start, batch_rows).to_batches():
            streamed.add(batch, STARTS[start : start + batch_rows])
            most_held = max(most_held, sum(held.num_rows for held in streamed._pending))
    parts = streamed.finish()
    assert most_held <= 8 + batch_rows
    assert [(part["rows"], part["documents"]) for part in parts] == [(5, 2), (12, 1), (5, 2), (5, 1), (8, 2)]
    for number, part in enumerate(parts):
        path = tmp_path / "streamed" / str(part["name"])
        first = sum(int(str(earlier["rows"])) for earlier in parts[:number])
        whole = write_part(tmp_path / "whole.parquet", TABLE.slice(first, part["rows"]), row_group_rows=4)
        assert part["sha256"] == whole == sha256_of(path)


def test_one_endless_document_is_never_held_whole(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, rows_per_part=100, row_group_rows=50)
    for number in range(40):
        batch = pa.record_batch({"logit_1": np.full(30, number, dtype=np.float32)})
        writer.add(batch, np.arange(30) == (0 if number == 0 else -1))
        assert sum(held.num_rows for held in writer._pending) <= 130
    (part,) = writer.finish()
    assert (part["rows"], part["documents"]) == (1200, 1)
    read = pq.read_table(tmp_path / str(part["name"])).column("logit_1").to_numpy()
    np.testing.assert_array_equal(read, np.repeat(np.arange(40), 30))
