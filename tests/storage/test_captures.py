"""Captures read side by side, whatever their part files and row groups; documents as runs of one name."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.errors import InputError
from brf_exp.storage import captures
from brf_exp.storage.captures import Capture, document_starts, lockstep, open_capture
from brf_exp.storage.runs import write_json

LENGTHS = (3, 1, 11, 4, 1, 25, 2, 1, 9)
N = sum(LENGTHS)
DOC_IDS = np.repeat([f"d{number}" for number in range(len(LENGTHS))], LENGTHS)
VALUES = np.arange(N, dtype=np.int32)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Capture]:
    """A function that writes a capture, cut into parts of the given rows and row groups of `group` rows."""

    def written(
        name: str, columns: dict[str, Any], *, cuts: tuple[int, ...] = (), group: int = 65536, **manifest: Any
    ) -> Capture:
        folder, table = tmp_path / name, pa.table(columns)
        folder.mkdir()
        ends = [0, *cuts, table.num_rows]
        parts = [{"name": f"part-{index:05d}.parquet"} for index in range(len(ends) - 1)]
        for part, (first, stop) in zip(parts, itertools.pairwise(ends), strict=True):
            pq.write_table(table.slice(first, stop - first), folder / part["name"], row_group_size=group)
        rest = {"schema": 1, "model": {"name": name}, "rows": table.num_rows, "parts": parts, **manifest}
        write_json(folder / "capture.json", rest)
        return open_capture(folder)

    return written


def rows_of(batch: pa.RecordBatch, name: str) -> np.ndarray:
    column = batch.column(name)
    return np.array(column.to_pylist())


# --- lockstep ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 3, 8, 100])
def test_captures_cut_in_other_places_come_side_by_side(write: Callable[..., Capture], n_rows: int) -> None:
    columns = {"doc_id": DOC_IDS, "x": VALUES, "unwanted": VALUES}
    made = [
        write("whole", columns),
        write("parts", columns | {"x": -VALUES}, cuts=(4, 15, 16, 50), group=7),
        write("groups", columns | {"x": 2 * VALUES}, cuts=(29,), group=2),
    ]
    found = list(lockstep(made, [["doc_id", "x"], ["x"], ["x", "doc_id"]], n_rows=n_rows))
    assert all(len({batch.num_rows for batch in batches}) == 1 for batches in found)
    assert max(batches[0].num_rows for batches in found) <= n_rows
    assert found[0][1].schema.names == ["x"]
    for place, factor in enumerate((1, -1, 2)):
        values = np.concatenate([rows_of(batches[place], "x") for batches in found])
        np.testing.assert_array_equal(values, factor * VALUES)
    for place in (0, 2):
        names = np.concatenate([rows_of(batches[place], "doc_id") for batches in found])
        np.testing.assert_array_equal(names, DOC_IDS)


def test_the_shortest_capture_ends_it(write: Callable[..., Capture]) -> None:
    short = write("short", {"doc_id": DOC_IDS[:20], "x": VALUES[:20]}, group=3)
    whole = write("whole", {"doc_id": DOC_IDS, "x": VALUES})
    for made in ([short, whole], [whole, short]):
        assert sum(batches[0].num_rows for batches in lockstep(made, [["x"], ["x"]], n_rows=6)) == 20


class Counted:
    """Stands for a capture whose batches have the given rows, and counts how many were asked for."""

    def __init__(self, rows: list[int]) -> None:
        self.rows, self.n_asked = rows, 0

    def iter_batches(self, names: list[str], *, n_rows: int) -> Iterator[pa.RecordBatch]:
        for n in self.rows:
            self.n_asked += 1
            yield pa.RecordBatch.from_pydict({"x": np.arange(n)})


def test_lockstep_holds_one_batch_of_each_capture() -> None:
    wide, narrow = Counted([100, 100]), Counted([5] * 40)
    for number, _ in enumerate(lockstep([wide, narrow], [["x"], ["x"]], n_rows=100), start=1):  # type: ignore[list-item]
        assert narrow.n_asked == number
        assert wide.n_asked == (number + 19) // 20


def test_a_row_group_is_in_memory_however_slow_the_reader(write: Callable[..., Capture]) -> None:
    group = 2**14
    n = 60 * group
    made = write("long", {"x": np.random.default_rng(0).random(n)}, cuts=(20 * group, 50 * group), group=group)
    held, before = [], pa.total_allocated_bytes()
    for batch in made.iter_batches(["x"], n_rows=group):
        time.sleep(0.002)
        held.append((pa.total_allocated_bytes() - before) / (8 * group))
        assert batch.num_rows <= group
    assert len(held) >= 60
    assert max(held) < 8


# --- documents --------------------------------------------------------------------------------------------------------


def grouped(names: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Runs of equal names, and where they begin."""
    runs = [(name, len(list(rows))) for name, rows in itertools.groupby(names)]
    return tuple(name for name, _ in runs), [0, *itertools.accumulate(n for _, n in runs)]


@pytest.mark.parametrize("batch_rows", [1, 2, 5, 16, 1000])
def test_documents_span_batches_and_parts(
    write: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(captures, "ROW_GROUP_ROWS", batch_rows)
    index = write("m", {"doc_id": DOC_IDS}, cuts=(3, 4, 20, 44), group=6).documents
    assert (index.doc_ids, index.offsets.tolist()) == grouped(DOC_IDS.tolist())
    assert index.lengths.tolist() == list(LENGTHS)


@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
def test_a_document_that_comes_again_is_refused(
    write: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(captures, "ROW_GROUP_ROWS", batch_rows)
    made = write("m", {"doc_id": ["a", "a", "b", "b", "b", "a"]})
    with pytest.raises(InputError, match="`m` must keep the rows of a document together. Sort it by doc_id."):
        _ = made.documents


def test_names_of_documents_are_codes(write: Callable[..., Capture]) -> None:
    made = write("m", {"doc_id": DOC_IDS}, cuts=(13,), group=5)
    batches = list(made.iter_batches(["doc_id"], n_rows=4))
    assert all(pa.types.is_dictionary(batch.column("doc_id").type) for batch in batches)
    for batch in batches:
        starts, names = document_starts(batch)
        expected, places = grouped(batch.column("doc_id").to_pylist())
        assert (tuple(names), starts.tolist()) == (expected, places[:-1])


def test_names_that_look_like_numbers_or_are_empty_stay_names(write: Callable[..., Capture]) -> None:
    names = ["007", "7", "", "NaN", "nan", "é", "e\u0301"]
    assert write("m", {"doc_id": names}).documents.doc_ids == tuple(names)


def test_a_capture_without_rows_has_no_documents(write: Callable[..., Capture]) -> None:
    index = write("m", {"doc_id": pa.array([], pa.string())}).documents
    assert (index.doc_ids, index.offsets.tolist()) == ((), [0])
    empty = pa.RecordBatch.from_pydict({"doc_id": pa.array([], pa.string()).dictionary_encode()})
    starts, names = document_starts(empty)
    assert (starts.size, names) == (0, [])


# --- broken files -----------------------------------------------------------------------------------------------------


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwritten(path: Path) -> None:
    path.write_bytes(b"no Parquet file")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_off, overwritten, damaged])
@pytest.mark.parametrize("part", [0, 1])
def test_a_broken_part_is_one_line(write: Callable[..., Capture], damage: Callable[[Path], None], part: int) -> None:
    made = write("m", {"doc_id": DOC_IDS, "x": np.random.default_rng(0).random(N)}, cuts=(30,))
    damage(made.folder / f"part-0000{part}.parquet")
    for read in (lambda: made.read(["x"]), lambda: list(made.iter_batches(["x"], n_rows=10))):
        with pytest.raises(InputError, match=r"m` must hold whole part files: .*\. Delete the damaged") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_part_of_other_columns_is_one_line(write: Callable[..., Capture]) -> None:
    made = write("m", {"doc_id": DOC_IDS, "x": VALUES}, cuts=(30,))
    pq.write_table(pa.table({"doc_id": DOC_IDS[30:], "x": ["text"] * (N - 30)}), made.folder / "part-00001.parquet")
    for read in (lambda: made.read(["x"]), lambda: list(made.iter_batches(["x"], n_rows=10))):
        with pytest.raises(InputError, match="must hold whole part files"):
            read()
    pq.write_table(pa.table({"doc_id": DOC_IDS[30:]}), made.folder / "part-00001.parquet")
    with pytest.raises(InputError, match="must hold whole part files: part-00001.parquet has not the columns of the"):
        list(made.iter_batches(["x"], n_rows=10))


@pytest.mark.parametrize("counted", [N - 1, N + 1])
def test_rows_must_be_as_many_as_counted(write: Callable[..., Capture], counted: int) -> None:
    made = write("m", {"doc_id": DOC_IDS}, rows=counted)
    with pytest.raises(InputError, match=f"must hold the {counted} rows that its capture.json counts, got {N}"):
        made.require_whole()
    write("n", {"doc_id": DOC_IDS}, cuts=(7,)).require_whole()
