"""Documents that are others over again, and choices that are samples of one prompt, are not counted as independent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brf_exp.config import IngestStageConfig
from brf_exp.errors import InputError
from brf_exp.stages.ingest import run
from brf_exp.storage.runs import read_json
from brf_exp.submission import csv_tables
from brf_exp.submission.tables import open_source

Submission = Any


def documents(submission: Submission, lengths: dict[str, int]) -> None:
    """Both models have documents of these lengths."""
    places = [{"doc_id": name, "position": row} for name, length in lengths.items() for row in range(length)]
    submission.rows = pd.DataFrame(places).assign(token_id=submission.rng.integers(11, size=len(places)))
    submission.tables = {key: submission.table() for key in "ab"}


def copied(submission: Submission, name: str, other: str) -> None:
    """A document's rows with another's tokens and values, at positions of its own."""
    for key, table in submission.tables.items():
        source = table[table["doc_id"] == other].assign(doc_id=name)
        source["position"] += 3
        submission.tables[key] = pd.concat([table[table["doc_id"] != name], source], ignore_index=True)


def ingest(submission: Submission, tmp_path: Path) -> list[str]:
    """Names of the checks that gave a warning."""
    folder = run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    return [warning["check"] for warning in read_json(folder / "pair.json")["warnings"]]


@pytest.mark.parametrize("block", [300, 2**20])
def test_a_copied_document_is_an_error(
    block: int, submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_tables, "BLOCK_BYTES", block)
    documents(submission, {"d1": 25, "d2": 30, "d3": 25})
    copied(submission, "d3", "d1")
    with pytest.raises(InputError) as caught:
        ingest(submission, tmp_path)
    assert str(caught.value).startswith(
        "`a.csv row 56 column doc_id` must be a document of its own, not 'd1' over again: two of one count as "
        "independent, got 'd3'. Leave out the copy. (1 more error: "
    )


def test_every_copy_is_told(submission: Submission, tmp_path: Path) -> None:
    names = [f"d{number}" for number in range(6)]
    documents(submission, dict.fromkeys(names, 20))
    for name in names[2:]:
        copied(submission, name, names[int(name[1:]) % 2])
    report = tmp_path / "report.json"
    config = IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs"), report=str(report))
    with pytest.raises(InputError):
        run(config)
    found = [(one["file"], one["row"], one["value"]) for one in read_json(report)["problems"]]
    assert found == [(f"{key}.csv", 20 * n + 1, f"'d{n}'") for key in "ab" for n in range(2, 6)]


def last_token(table: pd.DataFrame) -> None:
    """Another token in the last row."""
    table.loc[len(table) - 1, "token_id"] = (table["token_id"].iloc[-1] + 1) % 11


def last_value(table: pd.DataFrame) -> None:
    """Another best value in the last row."""
    table.loc[len(table) - 1, "logit_1"] += 1e-5


@pytest.mark.parametrize("change", [last_token, last_value])
def test_a_document_that_differs_in_one_cell_is_another(
    change: Callable[[pd.DataFrame], None], submission: Submission, tmp_path: Path
) -> None:
    documents(submission, {"d1": 25, "d2": 25})
    submission.drop("target_logit", *[f"id_{rank}" for rank in range(1, 5)])
    copied(submission, "d2", "d1")
    for table in submission.tables.values():
        change(table)
    assert ingest(submission, tmp_path) == []


def test_short_documents_met_twice_give_a_warning(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"d{number}" for number in range(9)]
    documents(submission, {"long": 40} | dict.fromkeys(names, 6) | {"tiny": 4, "tiny too": 4})
    for name in names[1:]:
        copied(submission, name, "d0")
    copied(submission, "tiny too", "tiny")
    assert ingest(submission, tmp_path) == ["short-document-twice"] * 2
    expected = "got 8 of fewer than 20 rows that are others over again (d1, d2, d3, d4, d5, ...). Leave out copies"
    assert expected in capsys.readouterr().err


def test_constant_documents_say_nothing(submission: Submission, tmp_path: Path) -> None:
    documents(submission, {"d1": 25, "d2": 25})
    values = [f"logit_{rank}" for rank in range(1, 5)]
    submission.tables = {key: table[["doc_id", "position", *values]] for key, table in submission.tables.items()}
    submission.tables = {key: table.assign(**dict.fromkeys(values, 1.5)) for key, table in submission.tables.items()}
    assert "document-twice" not in ingest(submission, tmp_path)


# Choices


def ranked(*tokens: int) -> dict[str, Any]:
    """One entry of vLLM's, the realised token first."""
    return {str(token): {"logprob": -1.0 - rank, "rank": rank + 1} for rank, token in enumerate(tokens)}


def legacy(*tokens: str, echo: bool = True) -> dict[str, Any]:
    """A choice of the older interface, whose prompt is scored with echo."""
    known = [f"token_id:{token}" for token in tokens]
    scores = [None if echo and not index else -1.0 for index in range(len(tokens))]
    tops = [
        None if score is None else {token: -1.0, "token_id:99": -2.0}
        for score, token in zip(scores, known, strict=True)
    ]
    return {"logprobs": {"tokens": known, "token_logprobs": scores, "top_logprobs": tops}}


def chat(*tokens: str) -> dict[str, Any]:
    """A choice of a chat completion."""
    top = [{"token": "y", "logprob": -1}, {"token": "z", "logprob": -2}]
    return {"logprobs": {"content": [{"token": token, "logprob": -1, "top_logprobs": top} for token in tokens]}}


PROMPT = [None, ranked(1, 2), ranked(3, 4)]
LONG = [str(number) for number in range(9)]
CHOICES: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "outputs of a prompt": (
        {
            "request_id": "0",
            "prompt_logprobs": PROMPT,
            "outputs": [{"token_ids": [5], "logprobs": [ranked(5, 6)]}, {"token_ids": [7], "logprobs": [ranked(7, 8)]}],
        },
        ["0"] * 3,
        1,
    ),
    "samples of a chat": ({"id": "x", "choices": [chat("a"), chat("b"), chat("c")]}, ["x"], 2),
    "completions without their prompts": (
        {"id": "x", "choices": [legacy("1", "2", echo=False), legacy("5", "6", echo=False)]},
        ["x"] * 2,
        1,
    ),
    "prompts of one request": (
        {"id": "x", "choices": [legacy("1", "2"), legacy("1", "3"), legacy("1", "2", "4")]},
        ["x/0", "x/1", "x/2", "x/2"],
        0,
    ),
    "samples of one echoed prompt": (
        {"id": "x", "choices": [legacy(*LONG, "a"), legacy(*LONG, "b"), legacy("7", *LONG[1:3], "8")]},
        ["x/0"] * 9 + ["x/2"] * 3,
        1,
    ),
    "scored prompts beside completions": (
        {
            "id": "x",
            "choices": [
                {"prompt_logprobs": PROMPT, **legacy("5", echo=False)},
                {"prompt_logprobs": PROMPT, **legacy("6", echo=False)},
                {"prompt_logprobs": [None, ranked(9, 2)], **legacy("5", echo=False)},
            ],
        },
        ["x/0"] * 3 + ["x/2"] * 2,
        1,
    ),
    "one prompt scored for all": (
        {"id": "x", "prompt_logprobs": PROMPT, "choices": [legacy("5", echo=False), legacy("6", echo=False)]},
        ["x"] * 3,
        1,
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_of_one_prompt_are_one_document(name: str, tmp_path: Path) -> None:
    record, expected, n_left_out = CHOICES[name]
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    source = open_source(tmp_path, "a.jsonl")
    found = [one for batch in source.batches(["doc_id"]) for one in batch.table["doc_id"].to_pylist()]
    assert found == expected
    said = [str(remark) for remark in source.remarks if remark.problem.check == "choices-left-out"]
    assert [f"got more in 1: {n_left_out} choices are left out" in line for line in said] == [True] * (n_left_out > 0)


def test_the_warnings_of_logs_reach_the_user(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    submission.set_capture(".jsonl")
    submission.tables.clear()
    for entry in submission.description["models"].values():
        entry["value_kind"] = "logprob"
    folder = submission.write()
    for key in "ab":
        lines = []
        for _ in range(2):
            choice = {"tokens": ["u", "v"], "token_logprobs": [-1.0, -1.5]}
            choice["top_logprobs"] = [{"u": -1.0, "v": -1.5 - rng.random()}, {"v": -1.5, "w": -2.5}]
            lines.append(json.dumps({"choices": [{"logprobs": choice}] * 3}))
        (folder / f"{key}.jsonl").write_text("\n".join(lines))
    made = run(IngestStageConfig(submission=str(folder), runs_dir=str(tmp_path / "runs")))
    checks = [one["check"] for one in read_json(made / "pair.json")["warnings"]]
    assert checks == ["choices-left-out", "tokens-by-text"] * 2
    told = capsys.readouterr().err
    assert "`a.jsonl` must have one choice per response, got more in 2: 4 choices are left out, as samples of" in told
    assert "`b.jsonl` must name tokens by ids in top_logprobs, got texts: of tokens with one text a single one" in told
