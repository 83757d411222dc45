import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from brf_exp.config import CorpusConfig
from brf_exp.corpora.document import Document
from brf_exp.corpora.load import interleaved, load_documents
from brf_exp.errors import BrfError, ConfigError, InputError

ROWS = {"name": ["one", "two", "three"], "text": ["first text", 'naïve 😀,\n"second"', "third"], "n": [1, 2, 3]}


@pytest.fixture
def table(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The rows in a file whose name is hard on globs and overrides."""
    path = tmp_path / f"my [texts], v=1*.{request.param}"
    frame = pd.DataFrame(ROWS)
    if request.param == "csv":
        frame.to_csv(path, index=False)
    elif request.param == "parquet":
        frame.to_parquet(path)
    elif request.param == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")
    else:
        path.write_text(json.dumps(frame.to_dict("records")), encoding="utf-8")
    return path


def of(path: Path, **settings: Any) -> CorpusConfig:
    return CorpusConfig(name="file", path=str(path), **settings)


@pytest.mark.parametrize("table", ["csv", "json", "jsonl", "parquet"], indirect=True)
def test_tables(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    found = load_documents(of(table, id_column="name"))
    assert [(d.doc_id, d.text) for d in found] == list(zip(ROWS["name"], ROWS["text"], strict=True))
    assert not list(home.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["home", table.name])


@pytest.mark.parametrize("table", ["jsonl"], indirect=True)
def test_row_numbers_and_integers_as_ids(table: Path) -> None:
    assert [d.doc_id for d in load_documents(of(table))] == ["000000", "000001", "000002"]
    assert [d.doc_id for d in load_documents(of(table, id_column="n"))] == ["1", "2", "3"]
    assert [d.text for d in load_documents(of(table, text_column="name"))] == ["one", "two", "three"]


@pytest.mark.parametrize("table", ["jsonl"], indirect=True)
def test_a_path_may_stand_for_the_name(table: Path) -> None:
    assert list(load_documents(CorpusConfig(name=str(table)))) == list(load_documents(of(table)))


@pytest.mark.parametrize("table", ["jsonl"], indirect=True)
def test_max_documents(table: Path) -> None:
    assert [d.doc_id for d in load_documents(of(table, max_documents=2))] == ["000000", "000001"]
    with pytest.raises(ConfigError, match=r"^`corpus\.max_documents` must be at least 1, got 0\.$"):
        load_documents(of(table, max_documents=0))


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_bytes("line\r\nnaïve".encode())
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst")
    (tmp_path / "notes.md").write_text("no")
    assert list(load_documents(of(tmp_path))) == [Document("a", "first"), Document("b/x", "line\r\nnaïve")]
    assert list(load_documents(of(tmp_path / "a.txt"))) == [Document("a", "first")]


def test_rows_without_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n{"text": null}\n{"text": "  "}\n{"text": "b"}\n')
    assert [(d.doc_id, d.text) for d in load_documents(of(path))] == [("000000", "a"), ("000003", "b")]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        (
            "t.jsonl",
            '{"a": "x", "b": "y"}\n',
            {},
            r"`corpus\.text_column` must be one of a, b in '.*t\.jsonl', got 'text'\.$",
        ),
        (
            "t.csv",
            "text,key\nx,1\n",
            {"id_column": "id"},
            r"^`corpus\.id_column` must be one of key, text in .*, got 'id'\.$",
        ),
        (
            "t.jsonl",
            '{"text": 3}\n',
            {},
            r"^`corpus\.text_column` must hold text, got int in row 1 of column 'text' of ",
        ),
        (
            "t.jsonl",
            '{"text": "x", "id": "a"}\n{"text": "y", "id": "a"}\n',
            {"id_column": "id"},
            r"unique document ids, got 1 repeated .* 'a'\.",
        ),
        (
            "t.jsonl",
            '{"text": "x", "id": null}\n',
            {"id_column": "id"},
            r"^`corpus\.id_column` must have an id in every row, got none in row 1",
        ),
        ("t.jsonl", "{not json\n", {}, r"^`corpus\.path` must be a readable \.jsonl table, got .* in '.*t\.jsonl'\.$"),
        ("t.parquet", "PAR1", {}, r"^`corpus\.path` must be a readable \.parquet table, got "),
        ("t.jsonl", '{"text": "\\ud800"}\n', {}, r"`corpus\.path` must be a readable \.jsonl table, got "),
        ("t.txt", " \n", {}, r"^`corpus` must have at least one document with text, got none in '.*t\.txt'\.$"),
        ("t.docx", "x", {}, r"`corpus\.path` must end in one of \.csv, \.json, .*, \.txt, got '.*t\.docx'\.$"),
    ],
)
def test_files_that_are_not_texts(
    name: str, content: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_documents(of(tmp_path / name, **settings))
    assert "\n" not in str(caught.value)


def test_other_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(InputError, match=r"^`corpus\.path` must be UTF-8 text, got another encoding at byte 2 of "):
        load_documents(of(tmp_path / "t.txt"))


def test_folder_without_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^`corpus\.path` must be a folder with \.txt files, got none in "):
        load_documents(of(tmp_path))


@pytest.mark.parametrize(
    ("corpus", "error", "message"),
    [
        (CorpusConfig(name="file"), ConfigError, r"`corpus\.path` must be a file or a folder .*, got None\.$"),
        (CorpusConfig(name="nowhere"), InputError, r"`corpus` must be file, hub, .* file or folder, got 'nowhere'\.$"),
        (CorpusConfig(split="test"), ConfigError, r"`corpus\.split` must be one of all, held_out, .*, got 'test'\.$"),
        (
            CorpusConfig(domain="verse"),
            ConfigError,
            r"`corpus\.domain` must be one of all, code, prose, got 'verse'\.$",
        ),
        (CorpusConfig(name="hub"), ConfigError, r"`corpus\.id` must be a hub dataset id with corpus=hub, got None\.$"),
    ],
)
def test_settings_that_cannot_be(corpus: CorpusConfig, error: type[BrfError], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        load_documents(corpus)


def test_without_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "t.txt").write_text("text")
    assert list(load_documents(of(tmp_path / "t.txt"))) == [Document("t", "text")]
    (tmp_path / "t.jsonl").write_text('{"text": "x"}')
    with pytest.raises(InputError, match=r"where `datasets` is not installed\. Run: pip install 'brf-exp\[models\]'$"):
        load_documents(of(tmp_path / "t.jsonl"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that has one data set; what it was asked for."""
    import datasets
    import huggingface_hub

    asked: dict[str, Any] = {}

    def load_dataset(name: str, subset: str | None, **settings: Any) -> datasets.Dataset:
        asked.update(settings, name=name, subset=subset)
        if settings["split"] != "test":
            raise ValueError("Unknown split \"held_out\". Should be one of ['test', 'train'].")
        return datasets.Dataset.from_dict({"text": ["a text", "", "more"]})

    def dataset_info(self: object, name: str, **_: Any) -> None:
        if name != "org/texts":
            raise ConnectionError("Name or service not known\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return asked


def test_hub(hub: dict[str, Any]) -> None:
    corpus = CorpusConfig(name="hub", id="org/texts", subset="raw", split="test", revision="abc")
    assert [(d.doc_id, d.text) for d in load_documents(corpus)] == [("000000", "a text"), ("000002", "more")]
    assert hub == {"name": "org/texts", "subset": "raw", "split": "test", "revision": "abc"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "held_out"}, r"got 'org/texts': Unknown split"),
        ({"id": "org/else"}, r"got 'org/else': Name or service not"),
    ],
)
def test_hub_that_does_not_serve(changes: dict[str, str], message: str, hub: dict[str, Any]) -> None:
    corpus = replace(CorpusConfig(name="hub", id="org/texts", split="test"), **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as caught:
        load_documents(corpus)
    assert "\n" not in str(caught.value)


def test_embedded_corpus_is_mixed_from_its_start() -> None:
    found = list(load_documents(CorpusConfig()))
    assert {d.split.value for d in found} == {"held_out"}
    assert found == list(load_documents(CorpusConfig()))
    share = sum(d.domain == "prose" for d in found) / len(found)
    for n in (10, 20, 40):
        assert abs(sum(d.domain == "prose" for d in found[:n]) - n * share) <= 1
    assert list(load_documents(CorpusConfig(max_documents=20))) == found[:20]
    prose = list(load_documents(CorpusConfig(domain="prose")))
    assert prose == [d for d in found if d.domain == "prose"]


def test_interleaving_keeps_every_document() -> None:
    documents = [Document(f"{domain}{n}", "", domain) for domain, size in (("a", 3), ("b", 9)) for n in range(size)]
    mixed = interleaved(documents)
    assert sorted(mixed, key=lambda d: d.doc_id) == documents
    assert "".join(d.domain for d in mixed) == "babbbabbbabb"
    assert mixed == interleaved(documents[::-1])
