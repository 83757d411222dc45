"""One dump in every form it may come in: what is read is what was dumped."""

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.errors import InputError
from brf_exp.submission import csv_tables, line_tables
from brf_exp.submission.tables import Reading, Source, open_source
from brf_exp.submission.token_ids import TokenIds
from docs.examples.submissions.make_examples import WRITERS, Document, Dump

K = 6
VOCABULARY = 40
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "submissions"
TEXT_ONLY = ("openai-chat", "llama-cpp-older")
WHOLE_ROWS = ("npz", "npz-steps", "safetensors")
BEHIND_A_FIRST_TOKEN = (*WHOLE_ROWS, "vllm-prompt")


def made(seed: int, lengths: tuple[int, ...] = (3, 9, 1, 5)) -> Dump:
    """A dump of random logits; the realised token is often outside the top."""
    rng = np.random.default_rng(seed)
    vocabulary = tuple(bytes([65 + number // 26, 97 + number % 26]) for number in range(VOCABULARY))
    documents = tuple(
        Document(
            f"doc {number}",
            rng.integers(VOCABULARY, size=length),
            rng.normal(scale=3, size=(length, VOCABULARY)).astype(np.float32),
        )
        for number, length in enumerate(lengths)
    )
    return Dump(documents, vocabulary, K)


def read(source: Source) -> pd.DataFrame:
    """All rows of a source."""
    batches = list(source.batches(list(source.names)))
    next_row: dict[str, int] = {}
    for batch in batches:
        assert batch.first_row == next_row.get(batch.place.file, 1)
        next_row[batch.place.file] = batch.first_row + batch.table.num_rows
    return pa.Table.from_batches([batch.table for batch in batches]).to_pandas()


def opened(folder: Path, form: str, dump: Dump, reading: Reading | None = None) -> Source:
    """A dump written in a form and opened."""
    suffix, write = WRITERS[form]
    folder.mkdir(exist_ok=True)
    write(dump, folder / "a")
    return open_source(folder, f"a{suffix}", reading=reading or Reading(k=K))


def columns(table: pd.DataFrame, stem: str) -> np.ndarray:
    """Columns stem_1 to stem_K."""
    return table[[f"{stem}_{rank}" for rank in range(1, K + 1)]].to_numpy()


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_rows_that_were_dumped(form: str, tmp_path: Path) -> None:
    dump, reading = made(0), Reading(k=K)
    table = read(opened(tmp_path, form, dump, reading))
    truth = list(dump.rows())
    tokens = np.array([document.tokens[position] for document, position, _, _ in truth])
    ids = np.array([order[:K] for _, _, order, _ in truth])
    values = np.array([document.logits[position] for document, position, _, _ in truth], dtype=float)
    if form in TEXT_ONLY:
        as_bytes = np.array(reading.tokens.texts)
        np.testing.assert_array_equal(as_bytes[columns(table, "id")], np.array(dump.vocabulary)[ids])
        np.testing.assert_array_equal(as_bytes[table["token_id"]], np.array(dump.vocabulary)[tokens])
    else:
        np.testing.assert_array_equal(columns(table, "id"), ids)
        np.testing.assert_array_equal(table["token_id"], tokens)
    expected = np.take_along_axis(values, ids, axis=1)
    total = np.array([total for _, _, _, total in truth])
    target = values[np.arange(len(tokens)), tokens]
    if "logit_1" in table:
        np.testing.assert_array_equal(columns(table, "logit").astype(np.float32), expected.astype(np.float32))
        np.testing.assert_array_equal(table["target_logit"].astype(np.float32), target.astype(np.float32))
        np.testing.assert_allclose(table["logsumexp"], total, rtol=1e-14)
    else:
        np.testing.assert_allclose(columns(table, "logprob"), expected - total[:, np.newaxis], atol=1e-12)
    if "target_logprob" in table:
        np.testing.assert_allclose(table["target_logprob"], target - total, atol=1e-12)
    assert ("target_logprob" in table or "target_logit" in table) == (form != "llama-cpp-older")
    shift = int(form in BEHIND_A_FIRST_TOKEN)
    assert table["position"].tolist() == [position + shift for _, position, _, _ in truth]
    names = [f"seq-{int(d.doc_id[4:]):05d}" if form in WHOLE_ROWS else d.doc_id for d, _, _, _ in truth]
    assert table["doc_id"].astype(str).tolist() == names


@pytest.mark.parametrize("form", ["csv-semicolon", "openai-chat", "jsonl-rows"])
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_text_may_be_packed(form: str, packing: str, tmp_path: Path) -> None:
    dump = made(1)
    expected = read(opened(tmp_path, form, dump))
    suffix = WRITERS[form][0]
    path = tmp_path / f"a{suffix}"
    text = gzip.decompress(path.read_bytes()) if suffix.endswith(".gz") else path.read_bytes()
    name = f"b{suffix.removesuffix('.gz')}{packing}"
    with pa.output_stream(str(tmp_path / name), compression={"": None, ".gz": "gzip", ".zst": "zstd"}[packing]) as out:
        out.write(text)
    pd.testing.assert_frame_equal(read(open_source(tmp_path, name)), expected)


@pytest.mark.parametrize("form", ["csv", "parquet-lists", "vllm-prompt", "npz"])
def test_parts_of_a_folder_follow_each_other(form: str, tmp_path: Path) -> None:
    dump = made(2)
    suffix, write = WRITERS[form]
    (tmp_path / "a").mkdir()
    for number, document in enumerate(dump.documents):
        write(Dump((document,), dump.vocabulary, K), tmp_path / "a" / f"part-{number}")
    source = open_source(tmp_path, "a", reading=Reading(k=K))
    batches = list(source.batches(["position", "id_1"]))
    assert [batch.place.file for batch in batches] == [f"a/part-{number}{suffix}" for number in range(4)]
    assert [batch.first_row for batch in batches] == [1] * 4
    ids = pa.Table.from_batches([batch.table for batch in batches])["id_1"].to_pylist()
    assert ids == [int(order[0]) for _, _, order, _ in dump.rows()]


def test_parts_of_whole_rows_are_named_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, dump in (("part-x", made(0, (2,))), ("part-y", made(1, (2, 3)))):
        WRITERS["safetensors"][1](dump, tmp_path / "a" / name)
    names = read(open_source(tmp_path, "a"))["doc_id"].unique().tolist()
    assert names == ["part-x", "part-y-00000", "part-y-00001"]


@pytest.mark.parametrize(
    ("delimiter", "decimal"), [*itertools.product(",;\t| ", "."), *itertools.product(",;\t| ", ",")]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiter_and_decimal_mark_are_told(delimiter: str, decimal: str, end: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"doc_id": "a b", "position": range(9), "logit_1": 2.5, "logit_2": -np.arange(9) / 8})
    text = table.to_csv(None, index=False, sep=delimiter, decimal=decimal, lineterminator=end)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + (text + end * 3).encode())
    found = read(open_source(tmp_path, "a.csv"))
    pd.testing.assert_frame_equal(found, table, check_dtype=False)
    assert found.dtypes[["position", "logit_1"]].tolist() == [np.int32, np.float64]


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 2**20])
def test_blocks_may_end_anywhere(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(tmp_path, "csv", made(3))
    expected = read(source)
    monkeypatch.setattr(csv_tables, "BLOCK_BYTES", size)
    pd.testing.assert_frame_equal(read(source), expected)


def test_a_faulty_cell_comes_as_text_in_its_block_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_tables, "BLOCK_BYTES", 32)
    lines = [f"{row};{row},5;{row}" for row in range(30)]
    lines[17] = "17;x;NA"
    (tmp_path / "a.csv").write_text("position;logit_1;logit_2\n" + "\n".join(lines))
    batches = list(open_source(tmp_path, "a.csv").batches(["position", "logit_1", "logit_2"]))
    texts = [batch for batch in batches if batch.table.schema.field("logit_1").type == pa.string()]
    assert len(texts) == 1 and len(batches) > 5
    cells = texts[0].table.to_pydict()
    at = 17 + 1 - texts[0].first_row
    assert (cells["position"][at], cells["logit_1"][at], cells["logit_2"][at]) == ("17", "x", "NA")
    assert cells["logit_1"][at - 1] == "16.5"
    assert sum(batch.table.num_rows for batch in batches) == 30


def test_ids_written_as_floats_are_numbers_still(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("position,token_id,logit_1,logit_2\n0.0,7.0,2,1\n1.0,8.0,3,1\n")
    found = read(open_source(tmp_path, "a.csv"))
    assert found["token_id"].tolist() == [7.0, 8.0]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), K)])
def test_lists_of_any_kind(kind: pa.DataType, tmp_path: Path) -> None:
    expected = read(opened(tmp_path, "parquet", made(4)))
    WRITERS["parquet-lists"][1](made(4), tmp_path / "a")
    table = pq.read_table(tmp_path / "a.parquet")
    names = ["top_logits" if name == "logits" else name for name in table.schema.names]
    table = table.set_column(table.schema.get_field_index("logits"), "logits", table["logits"].cast(kind))
    pq.write_table(table.rename_columns(names), tmp_path / "a.parquet", row_group_size=4)
    found = read(open_source(tmp_path, "a.parquet"))
    assert columns(found, "logit").tolist() == columns(expected, "logit").tolist()
    assert found["doc_id"].astype(str).tolist() == expected["doc_id"].astype(str).tolist()


def test_lists_of_different_lengths_are_cut_to_the_shortest(tmp_path: Path) -> None:
    lists = [[5.0, 4.0, 3.0, 2.0], [5.0, 4.0, 3.0], [9.0, 8.0, 7.0, 6.0]]
    pq.write_table(pa.table({"position": [0, 1, 2], "logits": lists}), tmp_path / "a.parquet")
    rows = [json.dumps({"position": n, "logits": values}) for n, values in enumerate(lists)]
    (tmp_path / "b.jsonl").write_text("\n".join(rows))
    for name in ("a.parquet", "b.jsonl"):
        found = read(open_source(tmp_path, name))
        assert list(found) == ["position", "logit_1", "logit_2", "logit_3"]
        assert found["logit_3"].tolist() == [3.0, 3.0, 7.0]


def test_token_texts_have_the_same_ids_for_all_models(tmp_path: Path) -> None:
    reading = Reading()
    first = read(opened(tmp_path / "1", "openai-chat", made(5), reading))
    texts = reading.tokens.texts
    assert columns(first, "id")[0].tolist() != list(range(K)) or texts[0] != texts[1]
    again = opened(tmp_path / "1", "openai-chat", made(5), reading)
    assert reading.tokens.texts == texts
    pd.testing.assert_frame_equal(read(again), first)
    other = read(opened(tmp_path / "2", "openai-chat", made(6), reading))
    vocabulary = np.array(made(6).vocabulary)
    expected = np.array([vocabulary[order[:K]] for _, _, order, _ in made(6).rows()])
    np.testing.assert_array_equal(np.array(reading.tokens.texts)[columns(other, "id")], expected)


Change = Callable[[dict[str, Any]], object]


def chat(tokens: list[str], *, order: list[int] | None = None) -> dict[str, Any]:
    """A chat response of one position with tokens at -1, -2, ..., the first of them realised."""
    items = [{"token": token, "logprob": -1.0 - rank} for rank, token in enumerate(tokens)]
    top = [items[rank] for rank in order or range(len(items))]
    return {"choices": [{"logprobs": {"content": [items[0] | {"top_logprobs": top}]}}]}


def test_the_realised_token_listed_ahead_of_a_cut_top_list_is_not_counted(tmp_path: Path) -> None:
    """vLLM's chat interface lists the realised token first and drops the last of the top for it."""
    inside, outside = chat(["a", "b", "c", "d"]), chat(["a", "b", "c", "d"])
    content = outside["choices"][0]["logprobs"]["content"][0]
    content["logprob"] = content["top_logprobs"][0]["logprob"] = -9.0
    content["top_logprobs"][1]["logprob"] = -1.5
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(inside)}\n{json.dumps(outside)}\n")
    found = read(open_source(tmp_path, "a.jsonl"))
    assert [name for name in found if name.startswith("logprob")] == ["logprob_1", "logprob_2", "logprob_3"]
    assert found[["logprob_1", "logprob_2", "logprob_3"]].to_numpy().tolist() == [[-1, -2, -3], [-1.5, -3, -4]]
    assert found["target_logprob"].tolist() == [-1, -9]


def test_appended_tokens_are_not_counted_where_no_list_tells_them_from_the_top(tmp_path: Path) -> None:
    first = {"tokens": ["x"], "token_logprobs": [-9.0], "top_logprobs": [{"a": -1, "b": -2, "x": -9.0}]}
    second = {"tokens": ["c"], "token_logprobs": [-3.0], "top_logprobs": [{"a": -1, "b": -2, "c": -3.0}]}

    def names() -> tuple[str, ...]:
        lines = [json.dumps({"choices": [{"logprobs": logprobs}]}) for logprobs in (first, second)]
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        return open_source(tmp_path, "a.jsonl").names

    assert "logprob_3" not in names()
    second["top_logprobs"][0]["d"] = -4.0
    assert "logprob_3" not in names()
    first["top_logprobs"][0]["w"] = -3.0
    assert "logprob_3" in names()


def test_null_for_the_realised_token_says_that_it_is_not_known(tmp_path: Path) -> None:
    known, unknown = chat(["a", "b", "c"]), chat(["a", "b", "c"])
    unknown["choices"][0]["logprobs"]["content"][0]["logprob"] = None
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(known)}\n{json.dumps(unknown)}\n")
    found = read(open_source(tmp_path, "a.jsonl"))
    assert "target_logprob" not in found and len(found) == 2
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1, None], "top_logprobs": [{"a": -1, "b": -2}] * 2}
    (tmp_path / "b.jsonl").write_text(json.dumps({"choices": [{"logprobs": logprobs}]}))
    assert "target_logprob" not in open_source(tmp_path, "b.jsonl").names


def test_a_prompt_and_its_completion_are_one_document(tmp_path: Path) -> None:
    prompt = [None, {"5": {"logprob": -1, "rank": 1}, "6": {"logprob": -2, "rank": 2}}]
    logprobs = {"tokens": ["token_id:6"], "token_logprobs": [-2.5]}
    logprobs["top_logprobs"] = [{"token_id:5": -0.5, "token_id:6": -2.5, "token_id:7": -3.5}]
    body = {"id": "mine", "choices": [{"prompt_logprobs": prompt, "logprobs": logprobs}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(body))
    found = read(open_source(tmp_path, "a.jsonl"))
    assert found["doc_id"].tolist() == ["mine", "mine"]
    assert found[["position", "token_id", "id_1", "id_2"]].to_numpy().tolist() == [[1, 5, 5, 6], [2, 6, 5, 6]]
    assert found["target_logprob"].tolist() == [-1, -2.5]


def test_an_echoed_prompt_begins_with_a_token_nothing_predicts(tmp_path: Path) -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {"b": -1, "c": -2}]}
    other = logprobs | {"tokens": ["a", "c"]}
    choices = [{"logprobs": logprobs}, {"logprobs": other}]
    (tmp_path / "a.json").write_text(json.dumps([{"id": "cmpl-8", "choices": choices}], indent=1))
    found = read(open_source(tmp_path, "a.json"))
    assert found[["doc_id", "position"]].to_numpy().tolist() == [["line-00001/0", 1], ["line-00001/1", 1]]


def test_token_ids_of_a_prompt_say_which_token_was_realised(tmp_path: Path) -> None:
    entries = {"5": {"logprob": -1, "rank": 1}, "6": {"logprob": -2, "rank": 2}, "9": {"logprob": -7, "rank": 30}}
    line = {"prompt_token_ids": [0, 9], "prompt_logprobs": [None, entries]}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    found = read(open_source(tmp_path, "a.jsonl"))
    assert found[["token_id", "target_logprob", "id_1", "id_2"]].to_numpy().tolist() == [[9, -7, 5, 6]]
    assert "id_3" not in found


def test_a_forward_pass_predicts_the_next_token(tmp_path: Path) -> None:
    dump = made(7, (6,))
    logits, tokens = dump.documents[0].logits, dump.documents[0].tokens
    np.savez(tmp_path / "a.npz", logits=logits, input_ids=tokens)
    found = read(open_source(tmp_path, "a.npz"))
    assert found["position"].tolist() == [1, 2, 3, 4, 5]
    assert found["token_id"].tolist() == tokens[1:].tolist()
    np.testing.assert_array_equal(found["target_logit"], logits[np.arange(5), tokens[1:]])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_number_types(dtype: Any, tmp_path: Path) -> None:
    logits = made(8, (4,)).documents[0].logits.astype(dtype)
    np.savez(tmp_path / "a.npz", logits=logits)
    found = read(open_source(tmp_path, "a.npz", reading=Reading(k=3)))
    assert list(found)[:3] == ["doc_id", "position", "logsumexp"]
    np.testing.assert_array_equal(found["logit_1"], logits.max(axis=1))


def test_bfloat16(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    logits = torch.from_numpy(made(9, (4,)).documents[0].logits).to(torch.bfloat16)
    safetensors.save_file({"logits": logits}, tmp_path / "a.safetensors")
    found = read(open_source(tmp_path, "a.safetensors"))
    np.testing.assert_array_equal(found["logit_1"], logits.float().max(dim=1).values.numpy())


def test_outcomes_beyond_the_vocabulary_are_padding(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(5, 60)).astype(np.float32)
    logits[:, 50:] = 99.0
    np.savez(tmp_path / "a.npz", logits=logits)
    found = read(open_source(tmp_path, "a.npz", vocabulary_size=50))
    assert "id_50" in found and "id_51" not in found
    np.testing.assert_allclose(found["logsumexp"], np.log(np.exp(logits[:, :50].astype(float)).sum(axis=1)))
    with pytest.raises(InputError, match="must be at least vocab_size = 70 outcomes wide, got 60"):
        open_source(tmp_path, "a.npz", vocabulary_size=70)


@pytest.mark.parametrize("k", [0, 2, 50])
def test_k_of_whole_rows(k: int, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 600)).astype(np.float32)
    np.savez(tmp_path / "a.npz", logits=logits)
    names = open_source(tmp_path, "a.npz", reading=Reading(k=k)).names
    assert sum(name.startswith("logit_") for name in names) == (k or 600)


def test_no_batch_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read(opened(tmp_path, "vllm-prompt", made(10)))
    monkeypatch.setattr(line_tables, "rows_per_batch", lambda _: 2)
    source = open_source(tmp_path, "a.jsonl", reading=Reading(tokens=TokenIds()))
    assert max(batch.table.num_rows for batch in source.batches(["position"])) == 2
    pd.testing.assert_frame_equal(read(source), expected)


@pytest.mark.parametrize("form", WRITERS)
def test_the_examples_of_the_documentation_agree(form: str) -> None:
    reading = Reading(k=5)
    for key in "ab":
        expected = read(open_source(EXAMPLES / "csv", f"{key}.csv"))
        source = open_source(EXAMPLES / form, f"{key}{WRITERS[form][0]}", vocabulary_size=1024, reading=reading)
        found = read(source)
        stem = "logit" if "logit_1" in found else "logprob"
        n_values = sum(name.startswith(f"{stem}_") for name in found)
        gaps = [
            -np.diff(table[[f"{s}_{rank}" for rank in range(1, n_values + 1)]].to_numpy(float), axis=1)
            for table, s in ((expected, "logit"), (found, stem))
        ]
        np.testing.assert_allclose(gaps[0], gaps[1], atol=1e-5)
        assert 3 <= n_values <= 5
