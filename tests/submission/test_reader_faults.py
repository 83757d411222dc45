"""Tables that cannot be read: one line that says what, where, and what to do; no pickle, no flood of memory."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.errors import InputError
from brf_exp.submission import csv_dialect, csv_tables, json_lines, parquet_tables, unpacked
from brf_exp.submission.fault import SubmissionError
from brf_exp.submission.parquet_footer import column_values
from brf_exp.submission.tables import open_source

Write = Callable[[Path], object]


def refusal(folder: Path, capture: str) -> str:
    """The line with which opening or reading a table ends."""
    with pytest.raises(InputError) as caught:
        source = open_source(folder, capture)
        for _ in source.batches(list(source.names)):
            pass
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


def content(data: bytes | str) -> Write:
    """A file of these bytes."""
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data.encode())


HEAD = "position,logit_1,logit_2\n"
CSV: dict[str, tuple[str, Write, str]] = {
    "nothing": ("a.csv", content(""), "`a.csv` must start with a header of column names, got an empty line or file."),
    "blank lines": ("a.csv", content("\n\n"), "`a.csv` must start with a header of column names, got an empty line"),
    "no rows": ("a.csv", content(HEAD), "`a.csv` must have at least one row below its header, got none."),
    "blank rows": ("a.csv", content(HEAD + "\n\n\n"), "`a.csv` must have at least one row below its header, got none."),
    "UTF-16": ("a.csv", content(HEAD.encode("utf-16")), "`a.csv` must be UTF-8 text, got UTF-16. Save it as UTF-8."),
    "UTF-32": ("a.csv", content(HEAD.encode("utf-32")), "`a.csv` must be UTF-8 text, got UTF-32. Save it as UTF-8."),
    "UTF-16 without a mark": (
        "a.csv",
        content(HEAD.encode("utf-16-le")),
        "`a.csv` must be UTF-8 text, got UTF-16 or binary data. Save it as UTF-8.",
    ),
    "Latin-1 header": ("a.csv", content("d\xe9\n".encode("latin-1")), "`a.csv` must be UTF-8 text, got other bytes in"),
    "Latin-1 name": (
        "a.csv",
        content(b"doc_id,position,logit_1,logit_2\na,0,2,1\n\nd\xe9,1,2,1\n"),
        "`a.csv row 2` must be UTF-8 text, got other bytes. Save it as UTF-8.",
    ),
    "carriage returns alone": (
        "a.csv",
        content(HEAD.replace("\n", "\r") + "0,2,1\r"),
        "`a.csv` must end its lines with a",
    ),
    "too narrow": (
        "a.csv",
        content(HEAD + "0,2,1\n1,2\n"),
        "`a.csv row 2` must be 3 values wide as the header is, got 2.",
    ),
    "too wide": (
        "a.csv",
        content(HEAD + "0,2,1\n1,2,3,4\n"),
        "`a.csv row 2` must be 3 values wide as the header is, got 4.",
    ),
    "decimal commas between commas": (
        "a.csv",
        content(HEAD + "0,2,5,1,5\n"),
        "`a.csv row 1` must be 3 values wide as the header is, got 5. Separate values by commas alone.",
    ),
    "rows with another delimiter": (
        "a.csv",
        content(HEAD.replace(",", ";") + "0,2,1\n"),
        "`a.csv row 1` must be 3 values wide as the header is, got 1. Separate values by semicolons alone.",
    ),
    "two delimiters": (
        "a.csv",
        content("position,a;position\n"),
        "`a.csv` must have one delimiter, got a header that commas or semicolons could separate.",
    ),
    "thousands or decimals": (
        "a.csv",
        content("position;logit_1;logit_2\n0;12,345;1,234\n"),
        "`a.csv column logit_1` must tell decimals from thousands, got '12,345' and the like in logit_1, logit_2.",
    ),
    "a column twice": (
        "a.csv",
        content("position,logit_1,logit_1\n0,2,1\n"),
        "`a.csv column logit_1` must be there once, got 2 times. Remove one.",
    ),
    "an open quote": ("a.csv", content(HEAD + '0,"2,1\n1,2,1\n'), "`a.csv row 1` must be 3 values wide as the header"),
    "many columns": (
        "a.csv",
        content("position," + ",".join(f"x{n}" for n in range(20_000))),
        "`a.csv` must have at most 20000 columns, got 20001. Dump fewer values per row.",
    ),
    "not gzip": ("a.csv.gz", content(HEAD), "`a.csv.gz` must be a whole, readable file, got a damaged one."),
    "half a gzip": (
        "a.csv.gz",
        content(gzip.compress((HEAD + "0,2,1\n" * 99_999).encode())[:-20]),
        "`a.csv.gz` must be a whole, readable file, got a damaged one.",
    ),
    "not zstd": ("a.csv.zst", content(HEAD), "`a.csv.zst` must be a whole, readable file, got a damaged one."),
    "no kind of table": (
        "a.pkl",
        content(b"cos\nsystem\n."),
        "`a.pkl` must be a .csv, .tsv, .jsonl (also .gz, .zst), ",
    ),
}


@pytest.mark.parametrize("name", CSV)
def test_csv(name: str, tmp_path: Path) -> None:
    capture, write, expected = CSV[name]
    write(tmp_path / capture)
    message = refusal(tmp_path, capture)
    assert message.startswith(expected), message


def test_every_row_of_another_width_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_tables, "BLOCK_BYTES", 40)
    lines = [f"{row},2,1" for row in range(1, 301)]
    for row in (2, 3, 17, 300):
        lines[row - 1] += ",9"
    lines[150 - 1] = "150,x,1"
    (tmp_path / "a.csv").write_text(HEAD + "\n".join(lines) + "\n")
    source, rows = open_source(tmp_path, "a.csv"), []
    with pytest.raises(SubmissionError) as caught:
        for batch in source.batches(["position", "logit_1"]):
            numbers = range(batch.first_row, batch.first_row + batch.table.num_rows)
            rows += zip(numbers, [int(one) for one in batch.table["position"].to_pylist()], strict=True)
    told = [caught.value.problem, *caught.value.others]
    assert [problem.place.row for problem in told] == [2, 3, 17, 300] and caught.value.n == 4
    assert {problem.value for problem in told} == {"4"}
    assert [row for row, _ in rows] == sorted(set(range(1, 301)) - {2, 3, 17, 300})
    assert all(row == position for row, position in rows)


def test_a_file_of_another_width_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_tables, "BLOCK_BYTES", 1000)
    (tmp_path / "a.csv").write_text(HEAD + "1,2\n" * 50_000)
    with pytest.raises(SubmissionError) as caught:
        list(open_source(tmp_path, "a.csv").batches(["position"]))
    assert csv_tables.MOST_RAGGED < caught.value.n < csv_tables.MOST_RAGGED + 300
    assert len(caught.value.others) == csv_tables.RAGGED_LISTED - 1


def test_rows_of_another_width_and_of_other_bytes_are_both_told(tmp_path: Path) -> None:
    head = "doc_id,position,logit_1,logit_2\n"
    (tmp_path / "a.csv").write_bytes(head.encode() + b"a,0,2\na,1,2,1\n")
    assert refusal(tmp_path, "a.csv").startswith("`a.csv row 1` must be 4 values wide as the header is, got 3.")
    (tmp_path / "a.csv").write_bytes(head.encode() + b"\xe9,0,2\na,1,2,1\n")
    assert refusal(tmp_path, "a.csv").startswith("`a.csv row 1` must be ")


def test_a_long_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_tables, "BLOCK_BYTES", 64)
    monkeypatch.setattr(csv_tables, "LONGEST_LINE_BYTES", 200)
    (tmp_path / "a.csv").write_text(HEAD + "0,2,1\n" + "1" * 500 + ",2,1\n")
    assert refusal(tmp_path, "a.csv").startswith("`a.csv` must have lines of at most 200 bytes.")


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_packed_flood_stops_at_its_ratio(packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "ALWAYS_ALLOWED_BYTES", 2**20)
    with pa.output_stream(tmp_path / f"a.csv.{packing}", compression={"gz": "gzip", "zst": "zstd"}[packing]) as file:
        file.write((HEAD + "0,2,1\n").encode() + b"\n" * 2**25)
    assert "bytes unpacked. Split the submission." in refusal(tmp_path, f"a.csv.{packing}")


# Parquet


def parquet(**columns: Any) -> Write:
    """A file of these columns."""
    return lambda path: pq.write_table(pa.table({"position": [0, 1], **columns}), path)


NESTED = pa.array([[[1.0]], [[2.0]]])
PARQUET: dict[str, tuple[Write, str]] = {
    "lists of lists": (parquet(logits=NESTED), "`a.parquet column logits` must be a list of numbers, got 'list<"),
    "lists of texts": (
        parquet(logits=[["x", "y"]] * 2),
        "`a.parquet column logits` must be a list of numbers, got 'list<",
    ),
    "structs": (parquet(logits=[{"a": 1.0}] * 2), "`a.parquet column logits` must be a list of numbers, got 'struct<"),
    "plain numbers": (parquet(ids=[1, 2]), "`a.parquet column ids` must be a list of numbers, got 'int64'."),
    "no list": (
        parquet(logits=[[2.0, 1.0], None]),
        "`a.parquet column logits` must have lists of at least two values, got",
    ),
    "short lists": (
        parquet(logits=[[2.0, 1.0], [1.0]]),
        "`a.parquet column logits` must have lists of at least two values, got fewer in row 2. Dump at least two.",
    ),
    "lists and columns": (
        parquet(logits=[[2.0, 1.0]] * 2, logit_1=[2.0, 2.0]),
        "`a.parquet column logit_1` must be there once, got 2 times.",
    ),
    "a list for a number": (
        parquet(logit_1=[[2.0], [1.0]], logit_2=[0.0, 0.0]),
        "`a.parquet column logit_1` must be numbers or texts, got 'list<",
    ),
    "a long name": (
        parquet(doc_id=["x" * 5000] * 2),
        "`a.parquet column doc_id` must be texts of at most 4096 bytes, got '5000 bytes'.",
    ),
    "no rows": (
        lambda path: pq.write_table(pa.table({"position": pa.array([], pa.int32())}), path),
        "`a.parquet` must have",
    ),
    "not Parquet": (content("PAR1 and no more"), "`a.parquet` must be a Parquet file. Write it again."),
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet(name: str, tmp_path: Path) -> None:
    write, expected = PARQUET[name]
    write(tmp_path / "a.parquet")
    message = refusal(tmp_path, "a.parquet")
    assert message.startswith(expected), message


def test_half_a_parquet_file(tmp_path: Path) -> None:
    parquet(logits=[[2.0, 1.0]] * 2)(tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:60] = bytes(56)
    (tmp_path / "a.parquet").write_bytes(data)
    assert refusal(tmp_path, "a.parquet").startswith("`a.parquet` must be a whole Parquet file. Write it again.")


def test_a_damaged_footer_never_ends_the_process(tmp_path: Path) -> None:
    """Arrow's accessor of column metadata does for some of these, so it is not used."""
    parquet(logits=[[2.0, 1.0]] * 2)(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    first = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(first, len(whole), 3):
        (tmp_path / "a.parquet").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            source = open_source(tmp_path, "a.parquet")
            assert sum(batch.table.num_rows for batch in source.batches(list(source.names))) <= 2
        except InputError as error:
            assert "\n" not in str(error)


def test_values_declared_in_a_footer(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2, 3], "logits": [[1.0] * 300, [], [2.0] * 5], "s": ["a", "b", None]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    chunks = [metadata.row_group(group).column(column) for group in range(2) for column in range(3)]
    expected = [(chunk.path_in_schema.split(".")[0], chunk.num_values) for chunk in chunks]
    assert list(column_values(tmp_path / "a.parquet")) == expected


def test_too_many_values_in_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_tables, "MOST_LIST_VALUES", 100)
    parquet(logits=[[0.0] * 2, [0.0] * 99])(tmp_path / "a.parquet")
    assert refusal(tmp_path, "a.parquet").startswith("`a.parquet` must be at most 100 values in a row group, got 101.")


def test_parts_of_different_kinds(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "part-0.csv").write_text(HEAD + "0,2,1\n")
    (tmp_path / "a" / "part-1.jsonl").write_text("{}")
    assert refusal(tmp_path, "a").startswith("`a/part-1.jsonl` must be of the kind of part-0.csv.")


# JSONL


def item(**changes: Any) -> dict[str, Any]:
    """One entry of a chat response, changed."""
    top = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}]
    return {"token": "a", "logprob": -1, "top_logprobs": top} | changes


def chat(**changes: Any) -> dict[str, Any]:
    """A chat response of two positions, the second changed."""
    return {"choices": [{"logprobs": {"content": [item(), item(**changes)]}}]}


def legacy(**changes: Any) -> dict[str, Any]:
    """The older form of the same."""
    logprobs = {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"a": -1, "b": -2}]} | changes
    return {"choices": [{"logprobs": logprobs}]}


def prompt(*entries: Any, **more: Any) -> dict[str, Any]:
    """A vLLM response with prompt_logprobs."""
    return {"prompt_logprobs": [None, *entries], **more}


def older(settings: dict[str, Any], prob: Any = 0.5) -> dict[str, Any]:
    """An older llama.cpp response."""
    probs = [{"tok_str": "a", "prob": prob}, {"tok_str": "b", "prob": 0.25}]
    return {"completion_probabilities": [{"content": "a", "probs": probs}], "generation_settings": settings}


RANKED = {"5": {"logprob": -1, "rank": 1}, "6": {"logprob": -2, "rank": 2}}
UNORDERED = {"5": {"logprob": -3, "rank": 3}, "6": {"logprob": -2, "rank": 2}, "7": {"logprob": -1, "rank": 1}}
ROW = {"position": 0, "logits": [2.0, 1.0]}
LINES: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "`a.jsonl line 1` must be one JSON object, got something else. Write one response per line."),
    "a list": ([], "`a.jsonl line 1` must be a JSON object, got 'list'."),
    "deep": ("[" * 100_000, "`a.jsonl line 1` must be one JSON object, got something else."),
    "a number of many digits": ('{"choices": ' + "9" * 5000 + "}", "`a.jsonl line 1` must be one JSON object, got "),
    "not UTF-8": (b'{"\xff": 1}', "`a.jsonl line 1` must be UTF-8 text, got other bytes."),
    "an error message": ({"error": "overloaded"}, "`a.jsonl line 1` must hold log-probabilities, got only error."),
    "no logprobs": (
        {"choices": [{"logprobs": None}]},
        "`a.jsonl line 1` must hold log-probabilities, got only choices.",
    ),
    "choices of numbers": ({"choices": [1]}, "`a.jsonl line 1` must be an object at choices, got 'int'."),
    "no top list": (chat(top_logprobs=None), "`a.jsonl line 1 position 1` must be an object with a list top_logprobs"),
    "one token": (
        chat(top_logprobs=[{"token": "a", "logprob": -1}]),
        "`a.jsonl line 1 position 1` must have at least two",
    ),
    "text for a number": (chat(logprob="-1"), "`a.jsonl line 1 position 1` must be a number at logprob, got '-1'."),
    "a truth value": (chat(logprob=True), "`a.jsonl line 1 position 1` must be a number at logprob, got True."),
    "a long number": (chat(logprob=-(10**400)), "`a.jsonl line 1 position 1` must be a number at logprob that a float"),
    "token of no text": (chat(token=None), "`a.jsonl line 1 position 1` must be a text at token, got nothing."),
    "a number of bytes": (
        chat(bytes=10**15),
        "`a.jsonl line 1 position 1` must be a list of numbers from 0 to 255 at b",
    ),
    "few bytes": (
        chat(bytes=5),
        "`a.jsonl line 1 position 1` must be a list of numbers from 0 to 255 at bytes, got 5.",
    ),
    "a byte too large": (chat(bytes=[10**30]), "`a.jsonl line 1 position 1` must be a list of numbers from 0 to 255"),
    "half a character": (
        '{"custom_id": "\\ud800", "choices": []}',
        "`a.jsonl line 1` must be text that UTF-8 can hold, got half of an escaped pair.",
    ),
    "an id too long": (chat(id=10**20), "`a.jsonl line 1 position 1` must be a whole number at id, got 1000000000"),
    "bytes of no bytes": (
        chat(bytes=[300]),
        "`a.jsonl line 1 position 1` must be a list of numbers from 0 to 255 at b",
    ),
    "a token twice": (
        chat(top_logprobs=[{"token": "�", "logprob": -1}, {"token": "�", "logprob": -2}]),
        "`a.jsonl line 1 position 1` must be a list of different tokens, got '� twice'. Ask the server for token ids",
    ),
    "after sampling": (
        {"completion_probabilities": [{"id": 1, "token": "a", "prob": 0.5, "top_probs": []}]},
        "`a.jsonl line 1 position 0` must be log-probabilities before sampling, got 'probabilities after it'.",
    ),
    "lists of different lengths": (
        legacy(tokens=["a", "b"]),
        "`a.jsonl line 1` must be tokens, token_logprobs and top_l",
    ),
    "a score of nothing": (
        legacy(tokens=["a", "b"], token_logprobs=[-1, None], top_logprobs=[{"a": -1, "b": -2}, None]),
        "`a.jsonl line 1 position 1` must be an object at top_logprobs, got 'NoneType'.",
    ),
    "a token that is no text": (
        legacy(top_logprobs=[{"a": -1, "\ufffd": -2}]),
        "`a.jsonl line 1 position 0` must be a list of tokens that their texts tell apart, got '\ufffd'. Ask for token",
    ),
    "tokens of one text": (
        legacy(
            tokens=["a", "a", "b"],
            token_logprobs=[-1, -1, -2],
            top_logprobs=[{"a": -1, "b": -2, "c": -3}, {"a": -1, "b": -2}, {"a": -1, "b": -2, "c": -3}],
        ),
        "`a.jsonl line 1 position 1` must list 3 tokens at every position, got fewer at 1: tokens of one text fall ",
    ),
    "tokens of one text beside the realised one": (
        legacy(
            tokens=["x", "a", "c"],
            token_logprobs=[-9, -1, -3],
            top_logprobs=[{"a": -1, "b": -2, "c": -3, "x": -9}, {"a": -1, "b": -2}, {"a": -1, "b": -2, "c": -3}],
        ),
        "`a.jsonl line 1 position 1` must list 3 tokens at every position, got fewer at 1: tokens of one text fall ",
    ),
    "keys that are no ids": (prompt({"x": {"logprob": -1}}), "`a.jsonl line 1 position 1` must be keyed by token ids"),
    "order lost": (prompt(RANKED, UNORDERED), "`a.jsonl line 1 position 2` must be ordered as vLLM wrote it, the real"),
    "empty entry": (prompt(RANKED, {}), "`a.jsonl line 1 position 2` must be at least two tokens, got 'none'."),
    "another prompt": (prompt(RANKED, prompt_token_ids=[0]), "`a.jsonl line 1` must be 2 token ids, one per position"),
    "a prompt's other token": (
        prompt(RANKED, prompt_token_ids=[0, 7]),
        "`a.jsonl line 1 position 1` must be a list that has the realised token, got 7.",
    ),
    "a temperature": (
        older({"temperature": 0.8}),
        "`a.jsonl line 1` must be probabilities before sampling, got 'temperature 0.8'. Ask again with temperature -1",
    ),
    "top-k sampling": (older({"top_k": 40}), "`a.jsonl line 1` must be probabilities before sampling, got 'top_k 40'."),
    "a probability of 2": (
        older({}, 2),
        "`a.jsonl line 1 position 0` must be a probability from 0 to 1 at prob, got 2.0.",
    ),
    "an appended token alone": (
        legacy(tokens=["b"], token_logprobs=[-2]),
        "`a.jsonl` must list at least two tokens beside the realised one. Ask for more.",
    ),
    "row without values": (ROW | {"logits": 3}, "`a.jsonl line 1` must be an object with a list logits, got 'int'."),
    "row of one value": (
        ROW | {"logits": [3]},
        "`a.jsonl line 1` must have at least two values, got fewer at a.jsonl l",
    ),
    "row of texts": (ROW | {"logits": ["2", "1"]}, "`a.jsonl line 1` must be a number at logits, got '2'."),
    "row of half a token": (ROW | {"ids": [1.5, 2]}, "`a.jsonl line 1` must be a whole number at ids, got 1.5."),
    "row of nothing": (ROW | {"entropy": None}, "`a.jsonl line 1` must be a value at entropy, got nothing."),
    "nothing": ("", "`a.jsonl` must have at least one row below its header, got none."),
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str, tmp_path: Path) -> None:
    line, expected = LINES[name]
    text = line if isinstance(line, str | bytes) else json.dumps(line)
    content(text)(tmp_path / "a.jsonl")
    message = refusal(tmp_path, "a.jsonl")
    assert message.startswith(expected), message


def test_rows_of_other_keys(tmp_path: Path) -> None:
    lines = [json.dumps(ROW), json.dumps(ROW | {"position": 1, "token_id": 3})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    expected = "`a.jsonl line 2` must have the keys of the first line, which differs in token_id."
    assert refusal(tmp_path, "a.jsonl").startswith(expected)


def test_a_line_of_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE_BYTES", 100)
    (tmp_path / "a.jsonl").write_text(json.dumps(chat(token="x" * 200)))
    assert refusal(tmp_path, "a.jsonl").startswith("`a.jsonl line 1` must be at most 100 bytes.")


# Arrays


def saved(**arrays: Any) -> Write:
    """An .npz file of these arrays."""
    return lambda path: np.savez(path, **arrays)


def member(data: bytes, *, compressed: bool = False) -> Write:
    """An .npz file whose `logits` is these bytes."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
            archive.writestr("logits.npy", data)

    return write


def npy(header: str, data: bytes = b"") -> bytes:
    """A .npy file."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + data


def tensors(header: Any, data: bytes = b"", *, length: int | None = None) -> Write:
    """A .safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return content(struct.pack("<Q", len(text) if length is None else length) + text + data)


LOGITS = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
ZEROS = np.zeros((2, 3), int)
F32 = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
DAMAGED = "must be a whole .npz or .safetensors file, got a damaged one. Write it again."
ARRAYS: dict[str, tuple[str, Write, str]] = {
    "pickled": (
        "a.npz",
        saved(logits=np.array([[{}, 1], [2, 3]], dtype=object)),
        "`a.npz array logits` must be an array of numbers, got '|O'. Save plain numbers, no objects and no texts.",
    ),
    "a record type": (
        "a.npz",
        saved(logits=np.zeros(3, dtype=[("x", "f4")])),
        "`a.npz array logits` must be an array of numbers, got \"[('x', '<f4')]\".",
    ),
    "column-major": (
        "a.npz",
        saved(logits=np.asfortranarray(LOGITS[0])),
        "`a.npz array logits` must be in row-major order.",
    ),
    "not a zip": ("a.npz", content("PK"), f"`a.npz` {DAMAGED}"),
    "no numpy": ("a.npz", member(b"x" * 99), f"`a.npz array logits` {DAMAGED}"),
    "header of code": ("a.npz", member(npy("__import__('os').system('false')")), f"`a.npz array logits` {DAMAGED}"),
    "deep header": ("a.npz", member(npy("(" * 9000)), f"`a.npz array logits` {DAMAGED}"),
    "more than there is": (
        "a.npz",
        member(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 99)}", b"1234")),
        f"`a.npz array logits` {DAMAGED}",
    ),
    "negative shape": (
        "a.npz",
        member(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}")),
        "`a.npz array logits` must be in row-major order.",
    ),
    "scores": (
        "a.npz",
        saved(scores=LOGITS),
        "`a.npz` must have the array logits, or logits_0, logits_1, ...; scores are",
    ),
    "a step left out": (
        "a.npz",
        saved(logits_0=LOGITS[0], logits_2=LOGITS[0]),
        "`a.npz` must have logits_0 to logits_1 w",
    ),
    "steps unlike": (
        "a.npz",
        saved(logits_0=LOGITS[0], logits_1=LOGITS[1, :2]),
        "`a.npz array logits_1` must be floats (",
    ),
    "whole numbers": (
        "a.npz",
        saved(logits=ZEROS),
        "`a.npz array logits` must be floats (..., outcomes), all alike, got",
    ),
    "one row flat": (
        "a.npz",
        saved(logits=LOGITS[0, 0]),
        "`a.npz` must be an array logits (steps, outcomes), got (5,).",
    ),
    "no rows": ("a.npz", saved(logits=LOGITS[:, :0]), "`a.npz` must have at least one row of logits, got none."),
    "tokens of others": (
        "a.npz",
        saved(logits=LOGITS, token_ids=ZEROS[:, :2]),
        "`a.npz array token_ids` must be whole numbers of shape (2, 3), got 'int64 (2, 2)'.",
    ),
    "tokens of floats": (
        "a.npz",
        saved(logits=LOGITS, token_ids=ZEROS * 1.0),
        "`a.npz array token_ids` must be whole num",
    ),
    "padding": (
        "a.npz",
        saved(logits=LOGITS, sequences=ZEROS),
        "`a.npz` must tell padding from text, as sequences end in one token repeated. Save attention_mask, "
        "eos_token_id, or lengths (np.full(2, 3) where nothing is padding).",
    ),
    "padding ahead": (
        "a.npz",
        saved(logits=LOGITS, input_ids=np.array([[9, 9, 3], [9, 9, 4]])),
        "`a.npz` must tell padding from text, as 2 sequences begin with token 9 repeated, as padding on the left does. "
        "Save attention_mask with them (all ones where nothing is padding).",
    ),
    "a mask of another shape": (
        "a.npz",
        saved(logits=LOGITS, input_ids=ZEROS, attention_mask=np.ones((2, 2))),
        "`a.npz array attention_mask` must be zeros and ones of shape (2, 3), got 'float64 (2, 2)'.",
    ),
    "a mask of other numbers": (
        "a.npz",
        saved(logits=LOGITS, input_ids=ZEROS, attention_mask=ZEROS - 1),
        "`a.npz array attention_mask` must hold zeros and ones alone.",
    ),
    "a mask with a hole": (
        "a.npz",
        saved(logits=LOGITS, input_ids=ZEROS, attention_mask=np.array([[1, 0, 1]] * 2)),
        "`a.npz array attention_mask` must be ones in one run per sequence, padding around it.",
    ),
    "an end of floats": (
        "a.npz",
        saved(logits=LOGITS, sequences=ZEROS, eos_token_id=0.5),
        "`a.npz array eos_token_id` must be whole numbers, got 'float64'.",
    ),
    "lengths of others": (
        "a.npz",
        saved(logits=LOGITS, lengths=[1, 2, 3]),
        "`a.npz array lengths` must be 2 whole numbers",
    ),
    "no header": ("a.safetensors", content(b"1234"), f"`a.safetensors` {DAMAGED}"),
    "header beyond the end": ("a.safetensors", tensors({}, length=2**40), f"`a.safetensors` {DAMAGED}"),
    "header of nothing": ("a.safetensors", tensors(b"[" * 5000), f"`a.safetensors` {DAMAGED}"),
    "header of a list": ("a.safetensors", tensors([]), f"`a.safetensors` {DAMAGED}"),
    "an entry of text": ("a.safetensors", tensors({"logits": "x"}), f"`a.safetensors array logits` {DAMAGED}"),
    "numbers beyond the end": (
        "a.safetensors",
        tensors({"logits": F32 | {"shape": [10**6, 2], "data_offsets": [0, 8 * 10**6]}}),
        f"`a.safetensors array logits` {DAMAGED}",
    ),
    "offsets backwards": (
        "a.safetensors",
        tensors({"logits": F32 | {"data_offsets": [8, 0]}}, b"12345678"),
        f"`a.safetensors array logits` {DAMAGED}",
    ),
    "another type": (
        "a.safetensors",
        tensors({"logits": F32 | {"dtype": "F8_E4M3"}}, b"12345678"),
        "`a.safetensors array logits` must be of a type among BF16, BOOL, F16, F32,",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str, tmp_path: Path) -> None:
    capture, write, expected = ARRAYS[name]
    write(tmp_path / capture)
    message = refusal(tmp_path, capture)
    assert message.startswith(expected), message


def test_an_array_that_unpacks_to_more_than_its_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brf_exp.submission.tensor_files.ALWAYS_ALLOWED_BYTES", 2**20)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1000, 1000), np.float32))
    member(buffer.getvalue(), compressed=True)(tmp_path / "a.npz")
    assert refusal(tmp_path, "a.npz").startswith("`a.npz` must unpack to at most 200 times its size.")


def test_numbers_damaged_in_a_zip(tmp_path: Path) -> None:
    saved(logits=LOGITS)(tmp_path / "a.npz")
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(LOGITS.tobytes(), LOGITS[::-1].tobytes()))
    assert refusal(tmp_path, "a.npz").removeprefix("`a.npz array logits` ").removeprefix("`a.npz` ") == DAMAGED


def test_the_sample_that_tells_the_decimal_mark_is_bounded() -> None:
    assert csv_dialect.SAMPLE_BYTES <= 2**20
