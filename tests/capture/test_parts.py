"""Parts as planned, trusted and put into columns; the writer behind the computing."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.capture.filling import BehindTheBack, Filling
from brf_exp.capture.interrupts import Stop
from brf_exp.capture.parts import Identity, Part, PlannedPart, find_part
from brf_exp.capture.teacher_forced import TeacherForced
from brf_exp.capture.tokenise import TokenisedDocument, tokenise
from brf_exp.config import CaptureConfig, CorpusConfig, Dtype
from brf_exp.corpora.document import Document, fingerprint, read_texts
from brf_exp.models.load import LoadedModel, load_model, resolve_spec

SETTINGS = CaptureConfig(k=3, batch_tokens=64, min_context_tokens=4, rows_per_part=60)
DOCUMENTS = [Document(f"d{n}", "some words and more " * times) for n, times in enumerate((1, 3, 2, 1, 4))]
US = Identity("key", {"torch": "1"})


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(resolve_spec(str(tiny_folder)), Dtype.FLOAT32, "cpu")


@pytest.fixture(scope="module")
def documents(loaded: LoadedModel) -> list[TokenisedDocument]:
    return tokenise(DOCUMENTS, loaded.tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None)


def fill(folder: Path, loaded: LoadedModel, identity: Identity = US) -> tuple[list[Part], list[int]]:
    """The parts, and the rows of each batch or kept part as they were told."""
    folder.mkdir(exist_ok=True)
    source = TeacherForced(loaded, DOCUMENTS, CorpusConfig(), SETTINGS)
    source.prepare(folder)
    filling, told = Filling(folder, identity, source, row_bytes=1), []
    filling.have(range(len(source.plan)), on_tokens=told.append, stop=Stop())
    return [filling.done[part.index] for part in source.plan], told


def test_rows_in_order_with_whole_documents_in_parts(
    tmp_path: Path, loaded: LoadedModel, documents: list[TokenisedDocument]
) -> None:
    parts, told = fill(tmp_path, loaded)
    assert [(part.rows, part.documents) for part in parts] == [(20, 1), (60, 1), (60, 2), (80, 1)]
    assert sum(told) == 220
    rows = [row for part in parts for row in pq.read_table(tmp_path / part.name).to_pylist()]
    assert [row["doc_id"] for row in rows] == [d.document.doc_id for d in documents for _ in range(d.n_tokens)]
    assert [row["position"] for row in rows] == [n for d in documents for n in range(d.n_tokens)]
    assert [row["token_id"] for row in rows] == [int(i) for d in documents for i in d.token_ids]
    assert [row["char_end"] for row in rows] == [int(i) for d in documents for i in d.char_end]
    assert all(row["logit_1"] >= row["logit_2"] >= row["logit_3"] for row in rows)
    assert [(tmp_path / part.name).stat().st_size for part in parts] == [part.bytes for part in parts]
    assert read_texts(tmp_path / "texts.jsonl") == {d.doc_id: d.text for d in DOCUMENTS}


def test_facts_name_the_texts(tmp_path: Path, loaded: LoadedModel) -> None:
    source = TeacherForced(loaded, iter(DOCUMENTS), CorpusConfig(max_documents=7), SETTINGS)
    source.prepare(tmp_path)
    corpus = source.facts()["corpus"]
    assert (corpus["fingerprint"], corpus["max_documents"]) == (fingerprint(DOCUMENTS), 7)


def test_finished_parts_are_taken_over(tmp_path: Path, loaded: LoadedModel) -> None:
    fill(tmp_path, loaded)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert fill(tmp_path, loaded)[1] == [20, 60, 60, 80]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == before


def test_nothing_but_parts_texts_and_side_files_is_left(tmp_path: Path, loaded: LoadedModel) -> None:
    fill(tmp_path, loaded)
    names = [f"part-{n:05d}.{kind}" for n in range(4) for kind in ("json", "parquet")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "texts.jsonl"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rows": 59}, "it has other documents"),
        ({"documents": range(1, 3)}, "it has other documents"),
        ({"exact": False, "rows": 70}, ""),
        ({"exact": False, "rows": 50}, "it has other documents"),
    ],
)
def test_a_part_must_be_as_planned(tmp_path: Path, loaded: LoadedModel, changes: dict[str, Any], why: str) -> None:
    parts, _ = fill(tmp_path, loaded)
    planned = replace(PlannedPart(1, range(1, 2), 60), **changes)
    assert find_part(tmp_path, planned, US) == (None if why else parts[1], why)


def test_a_side_file_must_be_of_this_capture_and_these_packages(tmp_path: Path, loaded: LoadedModel) -> None:
    fill(tmp_path, loaded)
    planned = PlannedPart(1, range(1, 2), 60)
    assert find_part(tmp_path, planned, Identity("another", US.made_by)) == (None, "it is of another capture")
    assert find_part(tmp_path, planned, Identity("key", {"torch": "2"}))[1] == "it was made by torch 1, not torch 2"
    stated = json.loads((tmp_path / "part-00001.json").read_text())
    (tmp_path / "part-00001.json").write_text(json.dumps(stated | {"made_by": 5}))
    assert find_part(tmp_path, planned, US)[1] == "it was made by unknown packages, not torch 1"
    assert find_part(tmp_path / "nowhere", planned, US) == (None, "")


# --- Writing behind the computing -------------------------------------------------------------------------------------


class Recorded:
    """A source of four parts of one row each that records when each is computed and made into a table."""

    def __init__(self, make: Callable[[int], pa.Table]) -> None:
        self.plan: Sequence[PlannedPart] = [PlannedPart(n, range(n, n + 1), 1) for n in range(4)]
        self.events: list[str] = []
        self._make = make

    def prepare(self, folder: Path) -> None:
        """Nothing is known beforehand."""

    def compute(self, part: PlannedPart, on_tokens: Callable[[int], None]) -> Callable[[], pa.Table]:
        self.events.append(f"compute {part.index}")
        on_tokens(1)

        def table() -> pa.Table:
            self.events.append(f"table {part.index}")
            return self._make(part.index)

        return table

    def finish(self, folder: Path, parts: Sequence[Part]) -> None:
        """Nothing is left to do."""

    def facts(self) -> dict[str, Any]:
        return {}


def test_the_next_part_is_computed_while_one_is_written(tmp_path: Path) -> None:
    computed = [threading.Event() for _ in range(5)]

    def make(index: int) -> pa.Table:
        assert index == 3 or computed[index + 1].wait(timeout=30)  # the next one is computed before this is a table
        assert threading.current_thread() is not threading.main_thread()
        return pa.table({"x": [index]})

    source = Recorded(make)
    told = iter(computed)
    Filling(tmp_path, US, source, row_bytes=1).have(range(4), on_tokens=lambda n: next(told).set(), stop=Stop())
    # At most two parts in memory: the third is not begun before the first is written.
    assert source.events.index("compute 2") > source.events.index("table 0")
    assert [pq.read_table(tmp_path / f"part-{n:05d}.parquet")["x"].to_pylist() for n in range(4)] == [
        [0],
        [1],
        [2],
        [3],
    ]


def test_an_error_of_the_writer_is_the_callers(tmp_path: Path) -> None:
    def make(index: int) -> pa.Table:
        if index == 1:
            raise ZeroDivisionError("one")
        return pa.table({"x": [index]})

    filling = Filling(tmp_path, US, Recorded(make), row_bytes=1)
    with pytest.raises(ZeroDivisionError, match="one"):
        filling.have(range(4), on_tokens=lambda n: None, stop=Stop())
    assert sorted(filling.done) == [0]
    assert not list(tmp_path.glob(".*"))


def test_a_stop_keeps_the_part_that_is_being_written(tmp_path: Path) -> None:
    def make(index: int) -> pa.Table:
        time.sleep(0.1)
        return pa.table({"x": [index]})

    stop, n_told = Stop(), iter(range(4))

    def on_tokens(n: int) -> None:
        stop.requested = next(n_told) == 2

    filling = Filling(tmp_path, US, Recorded(make), row_bytes=1)
    with pytest.raises(KeyboardInterrupt):
        filling.have(range(4), on_tokens=on_tokens, stop=stop)
    assert sorted(filling.done) == [0, 1]
    assert filling.kept == "2 of 4 parts are kept"
    assert filling.missing_bytes == 2 * filling.done[0].bytes
    assert not list(tmp_path.glob(".*"))


def test_behind_the_back_one_task_at_a_time() -> None:
    running, most = [], []

    def task() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()

    with BehindTheBack() as writer:
        for _ in range(5):
            writer.give(task)
    assert most == [1] * 5
