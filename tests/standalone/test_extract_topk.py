"""The extraction script: what it writes, for whom, and what it refuses."""

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from brf_exp.models.reference import EMBEDDED
from brf_exp.standalone import extract_topk

MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "models"
Extract = Callable[..., int]


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "extraction.json").read_text(encoding="utf-8"))


def description_of(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "submission.yaml").read_text(encoding="utf-8"))


def shares_ids(folder: Path) -> bool:
    models = description_of(folder)["models"].values()
    return len({(model["tokenizer"], model["vocab_size"]) for model in models}) == 1


def texts_of(folder: Path) -> dict[str, str]:
    lines = (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["doc_id"]: entry["text"] for entry in map(json.loads, lines)}


# --- what is written --------------------------------------------------------------------------------------------------


def test_two_calls_make_a_submission(extract: Extract, texts: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "My Pair"
    assert extract("tiny_prose", "--text", texts, "--out", out, "--k", 10, "--submitter", 'An "other" one') == 0
    first = capsys.readouterr()
    assert "--model SECOND/MODEL" in first.out
    assert "4 documents; a verdict takes at least 20" in first.err
    assert extract("tiny_code", "--out", out, "--k", 7) == 0
    assert f'brf-exp ingest submission="{out}"' in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "a.csv.gz",
        "b.csv.gz",
        "extraction.json",
        "submission.yaml",
        "texts.jsonl",
    ]
    description = description_of(out)
    models = description.pop("models")
    assert description == {"schema": 1, "name": "my-pair", "submitter": 'An "other" one'}
    tokenizer = models["a"]["tokenizer"]
    assert models == {
        key: {
            "name": name,
            "tokenizer": tokenizer,
            "vocab_size": 1024,
            "value_kind": "logit",
            "temperature": 1.0,
            "capture": f"{key}.csv.gz",
        }
        for key, name in (("a", "tiny_prose"), ("b", "tiny_code"))
    }
    places = [[(r["doc_id"], r["position"], r["token_id"]) for r in rows_of(out / f"{key}.csv.gz")] for key in "ab"]
    assert places[0] == places[1]
    assert sorted({doc_id for doc_id, _, _ in places[0]}) == sorted(texts_of(out))


def test_its_numbers_are_those_of_a_capture(extract: Extract, many: Path, tmp_path: Path) -> None:
    """Short documents and one of several windows, in other batches than those of a capture."""
    from brf_exp.config import CaptureConfig, CorpusConfig, ModelConfig
    from brf_exp.stages.capture import capture
    from brf_exp.storage.captures import open_capture

    assert extract("tiny_prose", "--text", many, "--out", tmp_path / "out", "--k", 20) == 0
    folder = capture(
        ModelConfig(name="tiny_prose"),
        CorpusConfig(name="file", path=str(many)),
        CaptureConfig(k=20),
        runs_dir=tmp_path / "runs",
    )
    expected = open_capture(folder)
    rows = rows_of(tmp_path / "out" / "a.csv.gz")
    assert list(rows[0]) == list(expected.columns)
    assert len(rows) == expected.n_rows
    assert list(expected.documents.doc_ids) == list(dict.fromkeys(row["doc_id"] for row in rows))
    for name in expected.columns:
        if name != "doc_id":
            exact = name.startswith("id_") or expected.read([name])[name].dtype == np.int32
            np.testing.assert_allclose(
                column(rows, name), expected.read([name])[name], rtol=0, atol=0 if exact else 1e-5, err_msg=name
            )


def test_the_tokenizer_goes_by_the_hash_that_a_capture_has(extract: Extract, texts: Path, tmp_path: Path) -> None:
    from brf_exp.config import Dtype
    from brf_exp.models.load import load_model, resolve_spec

    assert extract("tiny_bytes", "--text", texts, "--out", tmp_path / "out") == 0
    loaded = load_model(resolve_spec("tiny_bytes"), Dtype.FLOAT32, "cpu")
    assert record_of(tmp_path / "out")["models"]["a"]["tokenizer"] == loaded.tokenizer_fingerprint


def test_spans_are_code_points_of_the_text(extract: Extract, texts: Path, tmp_path: Path) -> None:
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "out") == 0
    whole = texts_of(tmp_path / "out")
    rows = [row for row in rows_of(tmp_path / "out" / "a.csv.gz") if row["doc_id"] == "short"]
    assert "".join(whole["short"][int(row["char_start"]) : int(row["char_end"])] for row in rows) == whole["short"]
    ends = {name: max(int(r["char_end"]) for r in rows_of(tmp_path / "out" / "a.csv.gz") if r["doc_id"] == name)
            for name in whole}  # fmt: skip
    assert ends == {name: len(text) for name, text in whole.items()}


def test_a_whole_small_vocabulary(extract: Extract, texts: Path, tmp_path: Path, capsys: Any) -> None:
    assert extract("tiny_bytes", "--text", texts, "--out", tmp_path / "out", "--k", 1000) == 0
    assert "k is 257: the whole vocabulary" in capsys.readouterr().err
    rows = rows_of(tmp_path / "out" / "a.csv.gz")
    logits = np.array([[float(row[f"logit_{rank}"]) for rank in range(1, 258)] for row in rows])
    np.testing.assert_allclose(np.log(np.exp(logits).sum(axis=1)), column(rows, "logsumexp"), atol=1e-6)
    assert all(sorted(int(row[f"id_{rank}"]) for rank in range(1, 258)) == list(range(257)) for row in rows)


def test_padding_of_the_output_layer_is_left_out(extract: Extract, texts: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    padded = tmp_path / "padded"
    shutil.copytree(EMBEDDED / "tiny_prose", padded)
    model: Any = AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny_prose")
    model.resize_token_embeddings(1100, mean_resizing=False)
    model.model.embed_tokens.weight.data[1024:] = 9.0
    model.save_pretrained(padded)
    assert extract(padded, "--text", texts, "--out", tmp_path / "out", "--k", 5) == 0
    assert extract("tiny_prose", "--out", tmp_path / "out", "--k", 5) == 0
    padded_entry, plain_entry = record_of(tmp_path / "out")["models"].values()
    assert (padded_entry["vocab_size"], padded_entry["padded_vocabulary_size"]) == (1024, 1100)
    assert plain_entry["padded_vocabulary_size"] == 1024
    found, expected = (rows_of(tmp_path / "out" / f"{key}.csv.gz") for key in "ab")
    for name in ("logsumexp", "entropy", "id_5", "logit_5"):
        np.testing.assert_allclose(column(found, name), column(expected, name), atol=1e-5)


def test_without_a_beginning_token_the_first_one_has_no_row(
    extract: Extract, changed: Callable[..., Path], texts: Path, tmp_path: Path, capsys: Any
) -> None:
    """A table of ids in common does not make rows in common: such a pair goes by characters."""
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "out") == 0
    bare = changed("bare", bos_token=None, eos_token=None)
    assert extract(bare, "--out", tmp_path / "out") == 0
    assert "the models' tokens differ" in capsys.readouterr().err
    assert not shares_ids(tmp_path / "out")
    with_it, without = (rows_of(tmp_path / "out" / f"{key}.csv.gz") for key in "ab")
    assert [row["token_id"] for row in without] == [row["token_id"] for row in with_it if row["position"] != "0"]


def test_models_of_other_tokens_read_the_same_texts(extract: Extract, texts: Path, tmp_path: Path, capsys: Any) -> None:
    for model in ("tiny_prose", "tiny_bytes", "tiny_code"):
        assert extract(model, "--text", texts, "--out", tmp_path / "out") == 0
    assert "the models' tokens differ" in capsys.readouterr().err
    models = description_of(tmp_path / "out")["models"]
    assert list(models) == ["a", "b", "c"]
    assert models["a"]["tokenizer"] == models["c"]["tokenizer"] != models["b"]["tokenizer"]


@pytest.mark.parametrize("name", ["babyllama105", "stories260k"])
def test_models_from_elsewhere(extract: Extract, many: Path, tmp_path: Path, name: str) -> None:
    if not (MODELS / name).is_dir():
        pytest.skip("the shared models are not there")
    assert extract(MODELS / name, "--text", many, "--out", tmp_path / "out") == 0
    entry = record_of(tmp_path / "out")["models"]["a"]
    assert entry["documents"] == 40
    assert entry["vocab_size"] == {"babyllama105": 105, "stories260k": 512}[name]


def test_documents_of_a_plain_text(extract: Extract, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"\xef\xbb\xbfOne\r\nline.\r\n \r\n\r\nTwo.\n\n\n\nThree.\n")
    split = extract_topk.read_documents(path, split="blank-lines")
    assert [(d.doc_id, d.text) for d in split] == [
        ("000000", "One\r\nline."),
        ("000001", "Two."),
        ("000002", "Three."),
    ]
    [whole] = extract_topk.read_documents(path, split="whole")
    assert (whole.doc_id, whole.text[:3], whole.text[-2:]) == ("book", "One", ".\n")


def test_max_tokens_ends_with_a_whole_document(extract: Extract, many: Path, tmp_path: Path) -> None:
    """And the second model reads what the first one read."""
    assert extract("tiny_prose", "--text", many, "--out", tmp_path / "out", "--max-tokens", 100) == 0
    assert extract("tiny_bytes", "--text", many, "--out", tmp_path / "out", "--max-tokens", 100) == 0
    rows = rows_of(tmp_path / "out" / "a.csv.gz")
    lengths = [sum(row["doc_id"] == doc_id for row in rows) for doc_id in texts_of(tmp_path / "out")]
    assert sum(lengths[:-1]) < 100 <= sum(lengths)
    documents = [list(dict.fromkeys(r["doc_id"] for r in rows_of(tmp_path / "out" / f"{key}.csv.gz"))) for key in "ab"]
    assert documents[0] == documents[1] == list(texts_of(tmp_path / "out"))


def test_a_line_added_to_the_description_stays(extract: Extract, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert extract("tiny_prose", "--text", texts, "--out", out) == 0
    path = out / "submission.yaml"
    path.write_text(path.read_text().replace('name: "out"', "name: other # mine\nsubmitter: me"), encoding="utf-8")
    assert extract("tiny_code", "--out", out) == 0
    description = description_of(out)
    assert (description["name"], description["submitter"], len(description["models"])) == ("other", "me", 2)


# --- system prompts ---------------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' and refuses %}{{ raise_exception('no') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
)


def _lead(folder: Path, model: str | Path, system: str, prompt: str | None) -> list[int]:
    args = extract_topk.parse(["--model", str(model), "--out", str(folder)])
    return extract_topk.lead_of(extract_topk.load(args), system, prompt)


def _logsumexp_behind(model: Path, lead: list[int], ids: list[int]) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([lead + ids])).logits[0, len(lead) - 1 : -1].double()
    return torch.logsumexp(logits, dim=-1).numpy()


def test_a_system_prompt_stands_in_front_and_is_not_scored(extract: Extract, texts: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("You write stories for children.\n", encoding="utf-8")
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "with", "--system", f"@{prompt}") == 0
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "without") == 0
    with_it, without = (rows_of(tmp_path / name / "a.csv.gz") for name in ("with", "without"))
    places = [[(r["doc_id"], r["position"], r["token_id"], r["char_end"]) for r in rows] for rows in (with_it, without)]
    assert places[0] == places[1]
    assert record_of(tmp_path / "with")["texts"]["system"] == "You write stories for children."
    rows = [row for row in with_it if row["doc_id"] == "short"]
    model = EMBEDDED / "tiny_prose"
    lead = _lead(tmp_path, model, "You write stories for children.", None)
    expected = _logsumexp_behind(model, lead, [int(row["token_id"]) for row in rows])
    np.testing.assert_allclose(column(rows, "logsumexp"), expected, atol=1e-5)


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("prompt", [None, "Tell one."])
def test_a_chat_template_is_used(
    changed: Callable[..., Path], tmp_path: Path, extract: Extract, refuses: bool, prompt: str | None
) -> None:
    """One without a system's turn gets the prompt as the user's."""
    model = changed("chat", chat_template=TEMPLATE.replace("refuses", str(refuses).lower()))
    user = "" if prompt is None else prompt
    told = {
        False: "[system]Be brief." + f"[user]{user}" * bool(user),
        True: "[user]" + "\n\n".join(["Be brief.", user]),
    }
    from transformers import AutoTokenizer

    expected: Any = AutoTokenizer.from_pretrained(model)
    text = told[refuses].removesuffix("\n\n") + "[assistant]"
    assert _lead(tmp_path, model, "Be brief.", prompt) == expected(text, add_special_tokens=False)["input_ids"]


def test_a_long_document_keeps_its_system_prompt(extract: Extract, many: Path, tmp_path: Path) -> None:
    """The last token is scored behind the prompt and the tokens of its own window."""
    assert extract("tiny_prose", "--text", many, "--out", tmp_path / "out", "--system", "Be brief.") == 0
    rows = [row for row in rows_of(tmp_path / "out" / "a.csv.gz") if row["doc_id"] == "000039"]
    ids = [int(row["token_id"]) for row in rows]
    lead = _lead(tmp_path, EMBEDDED / "tiny_prose", "Be brief.", None)
    windows = extract_topk.plan_windows(
        len(lead) + len(ids),
        first_target=len(lead),
        n_kept=len(lead),
        context_tokens=256,
        min_context_tokens=64,
    )
    assert len(windows) > 2
    start = windows[-1].start - len(lead)
    expected = _logsumexp_behind(EMBEDDED / "tiny_prose", lead, ids[start:])
    n_rows = windows[-1].n_targets
    np.testing.assert_allclose(column(rows, "logsumexp")[-n_rows:], expected[-n_rows:], atol=1e-5)


# --- generation -------------------------------------------------------------------------------------------------------

GENERATE = ("--generate", "--max-new-tokens", 24, "--k", 10)


def test_answers_are_logged_and_then_scored_by_the_second_model(extract: Extract, texts: Path, tmp_path: Path) -> None:
    """The second one is the first again, so that its rows are known: sampling has moved no logit."""
    out = tmp_path / "out"
    sampling = ("--temperature", 0.7, "--top-p", 0.9, "--seed", 3)
    assert extract("tiny_prose", "--text", texts, "--out", out, *GENERATE, *sampling) == 0
    assert extract("tiny_prose", "--text", texts, "--out", out, "--key", "b", *GENERATE) == 0
    record = record_of(out)
    assert record["texts"]["sampling"] == {
        "max_new_tokens": 24,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 3,
        "top_k": 0,
    }
    assert [entry["mode"] for entry in record["models"].values()] == ["generation", "teacher_forced"]
    assert shares_ids(out)
    logged, scored = (rows_of(out / f"{key}.csv.gz") for key in "ab")
    for name in logged[0]:
        if name in ("doc_id", "position", "token_id", "char_start", "char_end"):
            assert [row[name] for row in logged] == [row[name] for row in scored]
        elif not name.startswith("id_") and name != "target_rank":
            np.testing.assert_allclose(column(logged, name), column(scored, name), atol=5e-5, err_msg=name)
    for doc_id, text in texts_of(out).items():
        spans = [(int(r["char_start"]), int(r["char_end"])) for r in logged if r["doc_id"] == doc_id]
        assert "".join(text[start:end] for start, end in spans) == text
        assert 0 < len(spans) <= 24


def test_a_second_model_of_other_tokens_scores_the_answers_alone(extract: Extract, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert extract("tiny_prose", "--text", texts, "--out", out, *GENERATE) == 0
    assert extract("tiny_bytes", "--out", out) == 0
    answers = texts_of(out)
    rows = rows_of(out / "b.csv.gz")
    assert not shares_ids(out)
    for doc_id, answer in answers.items():
        assert sum(row["doc_id"] == doc_id for row in rows) == len(answer.encode())
    ids = [int(row["token_id"]) for row in rows if row["doc_id"] == "short"]
    lead = _lead(tmp_path, EMBEDDED / "tiny_bytes", None, "The cat sat on the mat.")  # type: ignore[arg-type]
    assert len(lead) == 24
    expected = _logsumexp_behind(EMBEDDED / "tiny_bytes", lead, ids)
    np.testing.assert_allclose([float(r["logsumexp"]) for r in rows if r["doc_id"] == "short"], expected, atol=1e-5)


def test_the_seed_decides_what_is_drawn(extract: Extract, texts: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        assert extract("tiny_prose", "--text", texts, "--out", tmp_path / name, *GENERATE, "--seed", seed) == 0
    assert texts_of(tmp_path / "one") == texts_of(tmp_path / "again")
    assert texts_of(tmp_path / "one") != texts_of(tmp_path / "two")


def test_temperature_nought_takes_the_top_token(extract: Extract, texts: Path, tmp_path: Path) -> None:
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "out", *GENERATE, "--temperature", 0) == 0
    assert {row["target_rank"] for row in rows_of(tmp_path / "out" / "a.csv.gz")} == {"1"}


# --- going on ---------------------------------------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "extraction.json"}


@pytest.mark.parametrize("generates", [False, True])
def test_an_interrupted_call_goes_on_to_the_same_bytes(
    extract: Extract, many: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, generates: bool
) -> None:
    arguments = ("--text", many, "--batch-tokens", 300, *(GENERATE if generates else ()), "--name", "same")
    assert extract("tiny_prose", *arguments, "--out", tmp_path / "whole") == 0
    out = tmp_path / "out"
    commit = extract_topk.Journal.commit
    n_commits = 0

    def interrupted(self: Any, pieces: dict[str, bytes], **changes: Any) -> None:
        nonlocal n_commits
        n_commits += 1
        if n_commits == 4:  # between the files and the line that says so
            for name in pieces:
                with (self.folder / name).open("ab") as file:
                    file.write(b"half a chunk")
            raise KeyboardInterrupt
        commit(self, pieces, **changes)

    with monkeypatch.context() as patched:
        patched.setattr(extract_topk.Journal, "commit", interrupted)
        assert extract("tiny_prose", *arguments, "--out", out) == 130
    assert "interrupted. The same command goes on" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [".a.partial"]
    assert extract("tiny_prose", *arguments, "--out", out) == 0
    assert "going on behind" in capsys.readouterr().err
    assert _files(out) == _files(tmp_path / "whole")
    assert len(rows_of(out / "a.csv.gz")) == record_of(out)["models"]["a"]["rows"]


@pytest.mark.parametrize("place", ["rename", "description", "record"])
def test_a_call_killed_while_it_publishes_does_it_again(
    extract: Extract, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "whole", "--name", "same") == 0
    arguments = ("--text", texts, "--out", tmp_path / "out", "--name", "same")
    stopped = {"rename": "model_entry", "description": "with_model", "record": "replace_text"}[place]
    original = getattr(extract_topk, stopped)

    def stop(*given: Any) -> Any:
        if place != "record" or given[0].name == "extraction.json":
            raise KeyboardInterrupt
        return original(*given)

    with monkeypatch.context() as patched:
        patched.setattr(extract_topk, stopped, stop)
        assert extract("tiny_prose", *arguments) == 130
    assert extract("tiny_prose", *arguments) == 0
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_other_settings_start_again(
    extract: Extract, many: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--text", many, "--out", tmp_path / "out", "--batch-tokens", 300)
    with monkeypatch.context() as patched:
        patched.setattr(extract_topk, "publish", _interrupt)
        assert extract("tiny_prose", *arguments, "--k", 5) == 130
    assert extract("tiny_code", *arguments) == 2
    assert "holds an unfinished call for" in capsys.readouterr().err
    assert extract("tiny_prose", *arguments, "--k", 6) == 0
    assert "starting again" in capsys.readouterr().err
    assert "logit_6" in rows_of(tmp_path / "out" / "a.csv.gz")[0]


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_call_given_twice_changes_nothing(extract: Extract, texts: Path, tmp_path: Path, capsys: Any) -> None:
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "out") == 0
    before = _files(tmp_path / "out")
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "out") == 0
    assert "is there already as a" in capsys.readouterr().err
    assert _files(tmp_path / "out") == before


# --- what is refused --------------------------------------------------------------------------------------------------

ARGUMENTS = {
    "": "the following arguments are required: --model. `--help` lists the options.",
    "--model x --k 1 --text t.txt": "`--k` must be at least 2, got 1.",
    "--model x --max-new-tokens 0": "`--max-new-tokens` must be at least 1, got 0.",
    "--model x --temperature -1": "`--temperature` must be a number of at least 0, got -1.0.",
    "--model x --temperature nan": "`--temperature` must be a number of at least 0, got nan.",
    "--model x --top-p 0": "`--top-p` must be above 0 and at most 1, got 0.0.",
    "--model x --name Me": "`--name` must be small letters, digits and hyphens, a letter first, and no name that is "
    "taken, got 'Me'. Choose another.",
    "--model x --name tiny": "`--name` must be small letters, digits and hyphens, a letter first, and no name that is "
    "taken, got 'tiny'. Choose another.",
    "--model x --dtype int8": "argument --dtype: invalid choice: 'int8'",
    "--model x --system=": "`--system` must have text without --generate, got ''. Leave it out.",
    "--model x --system @nowhere": "`--system` must be a file that can be read, got 'nowhere': No such file or "
    "directory.",
    "--model x": "`--text` must be a .txt or .jsonl file in the first call, got nothing. Say --text FILE.",
    "--model x --text nowhere.txt": "`--text` must be a file that can be read, got 'nowhere.txt'",
    "--model x --text empty.txt": "`--text` must hold a document with text, got none in 'empty.txt'.",
    "--model x --text latin.txt": "`--text` must be UTF-8 text, got other bytes at 1 of 'latin.txt'.",
    "--model x --text broken.jsonl": '`--text` must hold {"text": ...} in every line of a .jsonl, got \'{"text": 1}\' '
    "in line 2 of 'broken.jsonl'.",
    "--model x --text twice.jsonl": "`--text` must name a document once, got '7' again in line 2.",
    "--model x --text surrogate.jsonl": "`--text` must be valid Unicode, got a lone surrogate in line 1 of "
    "'surrogate.jsonl'.",
    "--model x --text name.jsonl": "`--text` must name documents in 1 to 200 printable characters, got 'a\\nb' in "
    "line 1 of 'name.jsonl'.",
    "--model x --text good.txt --out good.txt": "`--out` must be a folder, got the file 'good.txt'. Choose another.",
    "--model x --text good.txt --out foreign": "`--out` must be a new folder or one of this script's, got 'foreign' "
    "with submission.yaml and no extraction.json. Choose another.",
    "--model x --text good.txt --out older": "`older/extraction.json` must be what this version of the script wrote",
    "--model empty --text good.txt": "`--model` must have a tokenizer, got for 'empty': ",
    "--model pickled --text good.txt": "`--model` must be a causal language model in safetensors, got for 'pickled': ",
    "--model x --text good.txt --device cuda:77": "`--device` must be one of auto, cpu",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that cannot be used, and one that can."""
    files = {
        "good.txt": b"A text.",
        "empty.txt": b" \n",
        "latin.txt": b"A\xe4",
        "broken.jsonl": b'{"text": "a"}\n{"text": 1}\n',
        "twice.jsonl": b'{"id": 7, "text": "a"}\n{"doc_id": "7", "text": "b"}\n',
        "surrogate.jsonl": b'{"text": "\\ud800"}\n',
        "name.jsonl": b'{"text": "a", "id": "a\\nb"}\n',
        "foreign/submission.yaml": b"schema: 1\n",
        "older/extraction.json": b'{"version": 0}',
        "empty/config.json": b"{}",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    shutil.copytree(EMBEDDED / "tiny_prose", tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", ARGUMENTS)
def test_what_cannot_be_used_is_one_line(here: Path, line: str, capsys: Any, extract: Extract) -> None:
    before = sorted(here.rglob("*"))
    if "cuda" in line:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has one")
    assert extract_topk.main(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [text for text in said.err.splitlines() if not text.startswith("extract_topk: loading")]
    assert len(lines) == 1
    assert lines[0].startswith("extract_topk: " + ARGUMENTS[line])
    assert sorted(here.rglob("*")) == before


def test_a_second_call_that_does_not_fit(
    extract: Extract, texts: Path, many: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    assert extract("tiny_prose", "--text", texts, "--out", out, "--k", 5) == 0
    before = _files(out)
    capsys.readouterr()
    refused = {
        ("tiny_code", "--text", many): "`--text` must be the text of the first call into",
        ("tiny_code", "--system", "Be brief."): "`--system` must be that of the first call, got another.",
        ("tiny_code", "--generate"): "`--generate` must be in the first call into",
        ("tiny_prose", "--k", 9): "`a` is there already in",
        ("tiny_code", "--key", "a"): "`a` is there already in",
    }
    for arguments, message in refused.items():
        assert extract(*arguments, "--out", out) == 2
        assert capsys.readouterr().err.startswith(f"extract_topk: {message}")
    assert _files(out) == before


def test_a_weight_that_is_missing_is_named(extract: Extract, texts: Path, tmp_path: Path, capsys: Any) -> None:
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(EMBEDDED / "tiny_prose", model)
    weights = load_file(model / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert extract(model, "--text", texts, "--out", tmp_path / "out") == 2
    assert "`--model` must have every weight of LlamaForCausalLM, got none for 'model.norm.weight'." in (
        capsys.readouterr().err
    )


def test_out_of_memory_says_what_to_do(
    extract: Extract, texts: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(extract_topk, "score", full)
    assert extract("tiny_prose", "--text", texts, "--out", tmp_path / "out") == 2
    assert "out of memory. Say --batch-tokens 2048 or --dtype bfloat16." in capsys.readouterr().err


def test_numbers_that_are_not_finite_are_refused(extract: Extract, texts: Path, tmp_path: Path, capsys: Any) -> None:
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(EMBEDDED / "tiny_prose", model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("inf")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert extract(model, "--text", texts, "--out", tmp_path / "out") == 2
    assert "`--model` must give finite logits, got NaN or infinity. Try --dtype float32." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
