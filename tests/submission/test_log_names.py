"""Documents of logs are named so that two models' logs of one text have them in common."""

import json
from pathlib import Path

import pytest

from brf_exp.submission.serving_logs import MADE_BY_SERVER
from brf_exp.submission.tables import Source, named_alike, open_source

NAMED = {
    "custom ids": (["q0", "q1"], "custom_id", ["q0", "q1"]),
    "custom ids that look made up": (["gen-0", "chatcmpl-1"], "custom_id", ["gen-0", "chatcmpl-1"]),
    "numbers": ([7, 8], "request_id", ["7", "8"]),
    "prefixed": (["chatcmpl-1", "chat-55aa"], "id", ["line-00001", "line-00002"]),
    "nothing": (["", ""], "id", ["line-00001", "line-00002"]),
}


def line(name: object, key: str) -> str:
    """A response of one position."""
    top = [{"token": "y", "logprob": -1}, {"token": "z", "logprob": -2}]
    content = [{"token": "y", "logprob": -1, "top_logprobs": top}]
    return json.dumps({key: name, "choices": [{"logprobs": {"content": content}}]})


def opened(folder: Path, table: str, names: list[object], key: str = "id") -> Source:
    """A log of responses with these names."""
    (folder / table).write_text("\n".join(line(name, key) for name in names))
    return open_source(folder, table)


def documents(source: Source) -> list[str]:
    """The documents of a table."""
    return [name for batch in source.batches(["doc_id"]) for name in batch.table["doc_id"].to_pylist()]


@pytest.mark.parametrize("name", NAMED)
def test_what_documents_are_called(name: str, tmp_path: Path) -> None:
    given, key, expected = NAMED[name]
    source = opened(tmp_path, "a.jsonl", list(given), key)
    assert documents(source) == expected
    assert source.remarks == ()


@pytest.mark.parametrize(
    "made_up",
    [
        "chatcmpl-abc",
        "cmpl-9f",
        "chat-0123456789abcdef",
        "batch_req_1",
        "resp_67c",
        "gen-1712",
        "123e4567-e89b-12d3-a456-426614174000",
        "123E4567E89B12D3A456426614174000",
        "oZf3Xyz-4pPsyA-983b12345abcdef0",
        "8c1f2a3b4d5e-983b12345abcdef0",
    ],
)
def test_ids_of_servers(made_up: str) -> None:
    assert MADE_BY_SERVER.fullmatch(made_up)


@pytest.mark.parametrize(
    "own", ["doc-1", "wiki-0001", "q12", "generated-7", "2024-05-01", "chat", "alice-in-wonderland"]
)
def test_ids_of_people(own: str) -> None:
    assert not MADE_BY_SERVER.fullmatch(own)


def test_ids_without_any_in_common_give_way_to_numbers(tmp_path: Path) -> None:
    sources = [opened(tmp_path, f"{key}.jsonl", [f"{key}{n}" for n in range(3)]) for key in "ab"]
    alike = named_alike(sources)
    assert [documents(source) for source in alike] == [["line-00001", "line-00002", "line-00003"]] * 2
    assert [remark.problem.check for source in alike for remark in source.remarks] == ["documents-numbered"] * 2
    assert str(alike[1].remarks[0]) == (
        "`b.jsonl` must have names that the other models' logs have too, as all have 3 documents and none in common, "
        "got ids that the server made up: documents go by the numbers of their lines. Write a custom_id or doc_id into "
        "every line."
    )


def test_made_up_ids_beside_others_give_way_too(tmp_path: Path) -> None:
    sources = [opened(tmp_path, "a.jsonl", ["chatcmpl-1", "chatcmpl-2"]), opened(tmp_path, "b.jsonl", ["u", "v"])]
    assert [documents(source) for source in named_alike(sources)] == [["line-00001", "line-00002"]] * 2


@pytest.mark.parametrize(
    ("left", "right", "key"),
    [(["u", "v"], ["v", "w"], "id"), (["u", "v"], ["x"], "id"), (["u", "v"], ["x", "y"], "custom_id")],
)
def test_names_stay_where_they_may_be_meant(left: list[object], right: list[object], key: str, tmp_path: Path) -> None:
    sources = [opened(tmp_path, "a.jsonl", left, key), opened(tmp_path, "b.jsonl", right, key)]
    assert [documents(source) for source in named_alike(sources)] == [left, right]


def test_one_id_for_all_is_no_name(tmp_path: Path) -> None:
    source = opened(tmp_path, "a.jsonl", ["x", "y", "x"])
    assert documents(source) == ["line-00001", "line-00002", "line-00003"]
    assert "must have ids that are each there once, got ids that the server made up" in str(source.remarks[0])


def test_lines_are_numbered_through_all_parts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for part in range(2):
        (tmp_path / "a" / f"part-{part}.jsonl").write_text("\n".join([line("", "id")] * 2))
    assert documents(open_source(tmp_path, "a")) == [f"line-{number:05d}" for number in range(1, 5)]
