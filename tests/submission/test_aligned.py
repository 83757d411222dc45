"""Models with different tokenizers: rows matched by characters, what coherence makes of them, what the rest refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from brf_exp.config import (
    CoherenceStageConfig,
    DiscriminateStageConfig,
    EvaluationConfig,
    IngestStageConfig,
    PairConfig,
    RecaptureConfig,
    RunStageConfig,
    Split,
)
from brf_exp.errors import InputError
from brf_exp.stages import coherence, discriminate
from brf_exp.stages.ingest import run
from brf_exp.stages.pairs import resolve_pair
from brf_exp.storage.captures import open_capture
from brf_exp.storage.runs import read_json

Submission = Any
QUICK = {"n_resamples": 99, "n_repairings": 49, "n_negative_controls": 20, "controls": False}


def tokens(rng: np.random.Generator, length: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of tokens that cover a text of so many characters."""
    cuts = np.cumsum(rng.integers(1, longest + 1, size=length))
    ends = np.append(cuts[cuts < length], length)
    return np.concatenate([[0], ends[:-1]]), ends


def spans_table(submission: Submission, rng: np.random.Generator, longest: int, documents: dict[str, int]) -> Any:
    """Rows of a tokenizer of its own over documents of given lengths."""
    pieces = []
    for name, length in documents.items():
        start, end = tokens(rng, length, longest)
        place = {"doc_id": name, "position": np.arange(start.size), "char_start": start, "char_end": end}
        pieces.append(pd.DataFrame(place))
    submission.rows = pd.concat(pieces, ignore_index=True)
    submission.rows["token_id"] = rng.integers(11, size=len(submission.rows))
    return submission.table()


@pytest.fixture
def mixed(submission: Submission) -> Submission:
    """Two models with different tokenizers over 24 texts."""
    rng = np.random.default_rng(5)
    documents = {f"d{number}": 40 + number for number in range(24)}
    submission.tables = {
        "a": spans_table(submission, rng, 4, documents),
        "b": spans_table(submission, rng, 6, documents),
    }
    submission.description["models"]["b"]["tokenizer"] = "words"
    return submission


def ingest(submission: Submission, tmp_path: Path) -> Path:
    return run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))


def expected_places(submission: Submission) -> set[tuple[str, int]]:
    """(document, character) at which both have a token, the slow way."""
    both = [set(zip(t["doc_id"], t["char_start"], strict=True)) for t in submission.tables.values()]
    return both[0] & both[1]


def test_rows_are_those_that_begin_at_one_character(mixed: Submission, tmp_path: Path) -> None:
    folder = ingest(mixed, tmp_path)
    pair, expected = read_json(folder / "pair.json"), expected_places(mixed)
    assert pair["aligned"]["n_positions"] == len(expected)
    assert pair["aligned"]["captures"] == {"a": "aligned-a", "b": "aligned-b"}
    made = {key: open_capture(folder / f"aligned-{key}") for key in "ab"}
    for key, capture in made.items():
        table = mixed.tables[key]
        assert pair["aligned"]["share"][key] == len(expected) / len(table)
        keep = [place in expected for place in zip(table["doc_id"], table["char_start"], strict=True)]
        read = capture.read(["char_start", "logit_1", "logit_2", "logsumexp"])
        for name, values in read.items():
            np.testing.assert_array_equal(values, table.loc[keep, name].to_numpy(values.dtype))
        assert "token_id" not in capture.columns and capture.n_rows == len(expected)
    positions = [capture.read(["position"])["position"] for capture in made.values()]
    np.testing.assert_array_equal(*positions)
    assert made["a"].documents.doc_ids == made["b"].documents.doc_ids


def test_coherence_uses_the_matched_rows_and_says_so(
    mixed: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ingest(mixed, tmp_path)
    n = len(expected_places(mixed))
    assert f"coherence: yes, on {n} positions aligned by characters (" in capsys.readouterr().out
    config = CoherenceStageConfig(
        runs_dir=str(tmp_path / "runs"),
        pair=PairConfig(name="my-pair", submission=str(folder)),
        proxy="none",
        evaluation=EvaluationConfig(**QUICK),
        progress=False,
    )
    results = read_json(coherence.run(config) / "results.json")
    assert results["n_positions"] == n and results["n_documents"] == 24
    assert results["aligned_positions"] == {
        "by": "char_start",
        "n_positions": n,
        "share": read_json(folder / "pair.json")["aligned"]["share"],
    }


@pytest.mark.parametrize("kind", [DiscriminateStageConfig, RunStageConfig])
def test_what_needs_shared_ids_refuses(kind: type[Any], mixed: Submission, tmp_path: Path) -> None:
    folder = ingest(mixed, tmp_path)
    pair = PairConfig(name="my-pair", submission=str(folder))
    with pytest.raises(InputError) as caught:
        resolve_pair(kind(runs_dir=str(tmp_path / "runs"), pair=pair))
    assert str(caught.value).startswith(
        "`my-pair` must have models with one tokenizer to compare their predictions, got different ones (the "
        "tokenizers differ, so token ids mean different tokens). "
    )
    assert str(caught.value).endswith("`brf-exp coherence pair=my-pair` works.")
    says = read_json(folder / "pair.json")["stages"]["says"]
    assert says["discriminate"] == "no: the tokenizers differ, so token ids mean different tokens"


def test_without_spans_nothing_can_be_matched(mixed: Submission, tmp_path: Path) -> None:
    mixed.drop("char_start", "char_end")
    folder = ingest(mixed, tmp_path)
    stages = read_json(folder / "pair.json")["stages"]
    assert (stages["coherence"], stages["discriminate"]) == (False, False)
    assert stages["says"]["coherence"] == (
        "no: without char_start and char_end the rows of different tokenizers cannot be aligned"
    )
    pair = PairConfig(name="my-pair", submission=str(folder))
    with pytest.raises(InputError, match="or rows that can be aligned by characters, got neither"):
        resolve_pair(CoherenceStageConfig(runs_dir=str(tmp_path / "runs"), pair=pair))


def test_models_of_one_tokenizer_among_others_are_tested_alone(mixed: Submission, tmp_path: Path) -> None:
    mixed.description["models"]["c"] = mixed.entry("c")
    mixed.tables["c"] = mixed.tables["a"].assign(logit_1=lambda t: t["logit_1"] + 1e-3)
    mixed.drop("logsumexp", "target_logit")
    folder = ingest(mixed, tmp_path)
    pair = PairConfig(name="my-pair", submission=str(folder))
    inputs = resolve_pair(CoherenceStageConfig(runs_dir=str(tmp_path / "runs"), pair=pair))
    assert [capture.n_rows for capture in inputs.captures] == [len(expected_places(mixed))] * 3
    with pytest.raises(InputError, match="must have the tokenizer of org/model-a, got another one"):
        resolve_pair(CoherenceStageConfig(runs_dir=str(tmp_path / "runs"), pair=pair, proxy="b"))


def test_bytes_of_one_character_and_empty_tokens_count_once(submission: Submission, tmp_path: Path) -> None:
    # a has two tokens for the first character; b has an empty token at the second.
    spans = {"a": ([0, 0, 1, 2], [1, 1, 2, 3]), "b": ([0, 1, 1, 2], [1, 1, 2, 3])}
    for key, (start, end) in spans.items():
        submission.tables[key] = (
            submission.table().iloc[:4].assign(doc_id="d", position=range(4), char_start=start, char_end=end)
        )
    submission.description["models"]["b"]["tokenizer"] = "words"
    folder = ingest(submission, tmp_path)
    for key, rows in (("a", [0, 2, 3]), ("b", [0, 1, 3])):
        got = open_capture(folder / f"aligned-{key}").read(["logit_1"])["logit_1"]
        np.testing.assert_array_equal(got, submission.tables[key]["logit_1"].to_numpy(np.float32)[rows])


def test_little_overlap_gives_a_warning(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, start in (("a", [0, 2, 4, 6]), ("b", [0, 3, 5, 7])):
        submission.tables[key] = (
            submission.table()
            .iloc[:4]
            .assign(doc_id="d", position=range(4), char_start=start, char_end=np.array(start) + 1)
        )
    submission.description["models"]["b"]["tokenizer"] = "words"
    folder = ingest(submission, tmp_path)
    assert read_json(folder / "pair.json")["aligned"]["n_positions"] == 1
    assert "must be aligned with the other models at half of its positions, got 25.0% by" in capsys.readouterr().err


def test_bytes_beside_words_are_well_aligned(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one model's tokens most begin where none of the other's does, and all of the other's are matched."""
    start = np.concatenate([np.arange(0, 40, 5)] * 3)
    words = pd.DataFrame({"doc_id": np.repeat(["x", "y", "z"], 8), "position": np.tile(np.arange(8), 3)})
    one = pd.DataFrame({"doc_id": np.repeat(["x", "y", "z"], 40), "position": np.tile(np.arange(40), 3)})
    for key, places, first, width in (("a", words, start, 5), ("b", one, one["position"].to_numpy(), 1)):
        submission.rows = places.assign(token_id=submission.rng.integers(11, size=len(places)))
        submission.tables[key] = submission.table().assign(char_start=first, char_end=first + width)
    submission.description["models"]["b"]["tokenizer"] = "bytes"
    pair = read_json(ingest(submission, tmp_path) / "pair.json")
    assert pair["aligned"]["share"] == {"a": 1.0, "b": 0.2}
    assert pair["warnings"] == [] and capsys.readouterr().err == ""


def test_few_documents_in_common_give_a_warning(
    mixed: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed.tables["b"] = mixed.tables["b"][mixed.tables["b"]["doc_id"].isin([f"d{number}" for number in range(11)])]
    ingest(mixed, tmp_path)
    told = [line for line in capsys.readouterr().err.splitlines() if "documents" in line]
    assert told == [
        "brf-exp: warning: `a.csv` must have half of its documents in common with the other models, got 11 of 24. "
        "Dump the same documents with all models."
    ]


def test_no_overlap_leaves_nothing_to_test(submission: Submission, tmp_path: Path) -> None:
    submission.tables["a"] = submission.tables["a"].assign(char_start=0, char_end=1)
    submission.tables["b"] = submission.tables["b"].assign(char_start=5, char_end=6)
    submission.description["models"]["b"]["tokenizer"] = "words"
    pair = read_json(ingest(submission, tmp_path) / "pair.json")
    assert pair["aligned"] is None and pair["stages"]["coherence"] is False
    assert "no token of one model begins at" in pair["stages"]["reason"]


def test_documents_in_another_order_are_refused(mixed: Submission, tmp_path: Path) -> None:
    mixed.tables["b"] = mixed.tables["b"].sort_values("doc_id", ascending=False, kind="stable")
    with pytest.raises(InputError, match="`b.csv` must have its documents in the order of a.csv. Sort both alike."):
        ingest(mixed, tmp_path)


def byte_table(rng: np.random.Generator, rows: pd.DataFrame) -> pd.DataFrame:
    """Complete rows over 256 bytes and the end."""
    z = rng.normal(scale=3, size=(len(rows), 257)).astype(np.float32)
    ids = np.argsort(-z, axis=1, kind="stable")
    target = z[np.arange(len(z)), rows["token_id"]]
    names = [f"{stem}_{rank + 1}" for stem in ("id", "logit") for rank in range(257)]
    listed = pd.DataFrame(np.hstack([ids, np.take_along_axis(z, ids, axis=1)]), columns=names)
    ints = dict.fromkeys(names[:257], int)
    table = rows.assign(logsumexp=logsumexp(z.astype(float), axis=1), target_logit=target)
    return pd.concat([table, listed.astype(ints)], axis=1)


def test_complete_byte_level_dumps_serve_both_tests(submission: Submission, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    place = {"doc_id": np.repeat([f"d{n}" for n in range(22)], 8), "position": np.tile(np.arange(8), 22)}
    rows = pd.DataFrame(place | {"token_id": rng.integers(257, size=176)})
    submission.tables = {key: byte_table(rng, rows) for key in "ab"}
    for key in "ab":
        submission.description["models"][key] |= {"tokenizer": "bytes", "vocab_size": 257}
    submission.set_capture(".parquet")
    folder = ingest(submission, tmp_path)
    assert read_json(folder / "pair.json")["stages"]["says"] == {"coherence": "yes", "discriminate": "yes"}
    settings: dict[str, Any] = {
        "runs_dir": str(tmp_path / "runs"),
        "pair": PairConfig(name="my-pair", submission=str(folder)),
        "proxy": "none",
        "progress": False,
    }
    made = coherence.run(CoherenceStageConfig(evaluation=EvaluationConfig(**QUICK), **settings))
    assert read_json(made / "results.json")["n_positions"] == 176
    untuned = EvaluationConfig(split=Split.NONE, tune=False, **QUICK)
    made = discriminate.run(
        DiscriminateStageConfig(evaluation=untuned, recapture=RecaptureConfig(enabled=False), **settings)
    )
    rules = read_json(made / "results.json")["rules"]
    exact = np.mean(submission.tables["a"]["logsumexp"] - submission.tables["a"]["target_logit"])
    np.testing.assert_allclose(rules["model_a"]["log_loss_nats"], [exact, exact], atol=1e-6)
    low, high = rules["brf"]["log_loss_nats"]
    assert high - low < 1e-6  # nothing is cut off


def test_a_complete_dump_must_sum_to_its_logsumexp(submission: Submission, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    submission.rows["token_id"] = 3
    submission.tables = {key: byte_table(rng, submission.rows) for key in "ab"}
    submission.tables["b"].loc[2, "logsumexp"] += 0.01
    for key in "ab":
        submission.description["models"][key] |= {"tokenizer": "bytes", "vocab_size": 257}
    with pytest.raises(InputError, match="`b.csv row 3 column logsumexp` must be at most .*257 tokens"):
        ingest(submission, tmp_path)


def test_a_dump_without_logsumexp_has_bounds_only(submission: Submission, tmp_path: Path) -> None:
    submission.drop("logsumexp")
    pair = read_json(ingest(submission, tmp_path) / "pair.json")
    lacks = "a.csv lacks logsumexp; b.csv lacks logsumexp"
    assert pair["stages"] == {
        "coherence": True,
        "discriminate": False,
        "reason": lacks,
        "says": {"coherence": "yes", "discriminate": f"bounds only, no verdict: {lacks}"},
    }
