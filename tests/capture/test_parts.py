from pathlib import Path

import pyarrow.parquet as pq
import pytest

from brf_exp.capture.parts import remove_side_files, write_parts
from brf_exp.capture.tokenise import TokenisedDocument, tokenise
from brf_exp.config import CaptureConfig, Dtype
from brf_exp.corpora.document import Document
from brf_exp.models.load import LoadedModel, load_model, resolve_spec

SETTINGS = CaptureConfig(k=3, batch_tokens=64, min_context_tokens=4, rows_per_part=60)
VERSIONS = {"torch": "1"}


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(resolve_spec(str(tiny_folder)), Dtype.FLOAT32, "cpu")


@pytest.fixture(scope="module")
def documents(loaded: LoadedModel) -> list[TokenisedDocument]:
    texts = [Document(f"d{n}", "some words and more " * n) for n in (1, 3, 2, 1, 4)]
    return tokenise(texts, loaded.tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None)


def write(
    folder: Path, loaded: LoadedModel, documents: list[TokenisedDocument], **changes: dict[str, str]
) -> list[int]:
    """Rows of each batch or kept part, in the order they were reported."""
    done: list[int] = []
    folder.mkdir(exist_ok=True)
    write_parts(folder, loaded, documents, SETTINGS, made_by=changes.get("made_by", VERSIONS), on_tokens=done.append)
    return done


def test_rows_in_order_with_whole_documents_in_parts(
    tmp_path: Path, loaded: LoadedModel, documents: list[TokenisedDocument]
) -> None:
    parts = write_parts(tmp_path, loaded, documents, SETTINGS, made_by=VERSIONS, on_tokens=lambda n: None)
    assert [(part.rows, part.documents) for part in parts] == [(20, 1), (60, 1), (60, 2), (80, 1)]
    rows = [row for part in parts for row in pq.read_table(tmp_path / part.name).to_pylist()]
    assert [row["doc_id"] for row in rows] == [d.document.doc_id for d in documents for _ in range(d.n_tokens)]
    assert [row["position"] for row in rows] == [n for d in documents for n in range(d.n_tokens)]
    assert [row["token_id"] for row in rows] == [int(i) for d in documents for i in d.token_ids]
    assert [row["char_end"] for row in rows] == [int(i) for d in documents for i in d.char_end]
    assert all(row["logit_1"] >= row["logit_2"] >= row["logit_3"] for row in rows)


def test_finished_parts_are_taken_over(tmp_path: Path, loaded: LoadedModel, documents: list[TokenisedDocument]) -> None:
    write(tmp_path, loaded, documents)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert write(tmp_path, loaded, documents) == [20, 60, 60, 80]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == before


@pytest.mark.parametrize("damage", ["truncated", "no side file", "broken side file", "other versions"])
def test_damaged_parts_are_made_again(
    damage: str, tmp_path: Path, loaded: LoadedModel, documents: list[TokenisedDocument]
) -> None:
    write(tmp_path, loaded, documents)
    part, side = tmp_path / "part-00001.parquet", tmp_path / "part-00001.json"
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    if damage == "truncated":
        part.write_bytes(part.read_bytes()[:-10])
    elif damage == "no side file":
        side.unlink()
    elif damage == "broken side file":
        side.write_text('{"rows": 60')
    else:
        side.write_text(side.read_text().replace('"torch": "1"', '"torch": "0"'))
    write(tmp_path, loaded, documents)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")} == whole
    changed = {path.name for path in tmp_path.glob("*.parquet") if path.stat().st_mtime_ns != stamps[path.name]}
    assert changed == {"part-00001.parquet"}


def test_side_files_go_at_the_end(tmp_path: Path, loaded: LoadedModel, documents: list[TokenisedDocument]) -> None:
    write(tmp_path, loaded, documents)
    assert len(list(tmp_path.glob("*.json"))) == 4
    remove_side_files(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".parquet"] * 4
