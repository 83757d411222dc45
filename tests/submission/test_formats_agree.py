"""One real dump, in every form, through ingest and the tests: the same results."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from brf_exp.cli import main
from brf_exp.config import CaptureConfig, CorpusConfig, IngestStageConfig
from brf_exp.models.reference import resolve_spec
from brf_exp.stages.capture import capture
from brf_exp.stages.ingest import run
from brf_exp.storage.captures import open_capture, sha256_of
from docs.examples.submissions.make_examples import MODELS, WRITERS, Dump, dump_of, write_submission

pytest.importorskip("torch")

K = 20
CORPUS = CorpusConfig(max_documents=24, max_document_tokens=30)
QUICK = (
    "proxy=none",
    "evaluation.controls=false",
    "evaluation.n_resamples=199",
    "evaluation.n_repairings=99",
    "evaluation.n_negative_controls=10",
    "progress=false",
)
SAME_LOGITS = ("csv-semicolon", "tsv-zst", "parquet", "parquet-lists", "jsonl-rows")
LOG_PROBABILITIES = tuple(form for form in WRITERS if form.startswith(("openai", "vllm", "llama")))
WHOLE_ROWS = ("npz", "npz-steps", "safetensors")
NAMES = ("pair", "corpus", "tested", "sentence")  # what a result calls the submission, its models and texts


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything of this module is run."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def dumps(runs: Path) -> dict[str, Dump]:
    """Whole rows of logits of the embedded pair; documents named as files of arrays, which have no names, name them."""
    found = {key: dump_of(model, CORPUS, k=K, folder=runs) for key, model in MODELS.items()}
    return {
        key: replace(dump, documents=tuple(replace(d, doc_id=f"seq-{n:05d}") for n, d in enumerate(dump.documents)))
        for key, dump in found.items()
    }


def ingested(form: str, dumps: dict[str, Dump], runs: Path) -> Path:
    """The submission of a dump in a form, imported; found imported the second time."""
    folder = write_submission(runs / "submitted" / form, form, dumps)
    return run(IngestStageConfig(submission=str(folder), runs_dir=str(runs), k=K))


def results(stage: str, name: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> bytes:
    """results.json of a stage on a submission."""
    capsys.readouterr()
    assert main([stage, f"pair={name}", f"runs_dir={runs}", *QUICK]) == 0, capsys.readouterr().err
    return (Path(capsys.readouterr().out.splitlines()[-1]) / "results.json").read_bytes()


def parts(folder: Path) -> list[str]:
    """Hashes of a submission's part files."""
    return [sha256_of(path) for path in sorted(folder.rglob("part-*.parquet"))]


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    """Equal but for names, numbers to 1e-6."""
    assert type(found) is type(expected) or {type(found), type(expected)} <= {int, float}, where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected.keys() - set(NAMES):
            assert_equal(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6), (where, found, expected)
    else:
        assert found == expected, where


@pytest.mark.parametrize("form", SAME_LOGITS)
def test_tables_of_the_same_logits_give_the_same_bytes(form: str, dumps: dict[str, Dump], runs: Path) -> None:
    assert parts(ingested(form, dumps, runs)) == parts(ingested("csv", dumps, runs))


@pytest.mark.parametrize("form", WHOLE_ROWS)
def test_whole_rows_give_the_same_rows_behind_a_prompt(form: str, dumps: dict[str, Dump], runs: Path) -> None:
    for key in MODELS:
        expected, found = (open_capture(ingested(one, dumps, runs) / key) for one in ("csv", form))
        assert found.columns == expected.columns
        names = [name for name in expected.columns if name not in ("doc_id", "position")]
        assert found.documents.doc_ids == expected.documents.doc_ids
        for name, values in found.read(names).items():
            np.testing.assert_array_equal(values, expected.read([name])[name], err_msg=name)


@pytest.mark.parametrize("stage", ["coherence", "discriminate"])
def test_log_probabilities_give_the_results_of_their_logits(
    stage: str, dumps: dict[str, Dump], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the ranks of near-equal scores, which float32 rounding of the one or the other may exchange."""
    found, expected = (
        json.loads(results(stage, ingested(form, dumps, runs).name, runs, capsys)) for form in ("csv-logprobs", "csv")
    )
    ranks = [one.pop("auc", None) for one in (found, expected)]
    assert_equal(found, expected)
    if stage == "discriminate":
        for name, score in ranks[1]["scores"].items():
            assert ranks[0]["scores"][name]["auc"] == pytest.approx(score["auc"], abs=1e-4)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, marks=() if form in ("openai-chat", "safetensors") else pytest.mark.slow)
        for form in LOG_PROBABILITIES + WHOLE_ROWS
    ],
)
@pytest.mark.parametrize("stage", ["coherence", "discriminate"])
def test_every_form_gives_the_same_results(
    stage: str, form: str, dumps: dict[str, Dump], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = ingested("csv" if form in WHOLE_ROWS else "csv-logprobs", dumps, runs)
    pair = json.loads((ingested(form, dumps, runs) / "pair.json").read_text())
    if not pair["stages"][stage]:
        assert (stage, form) == ("discriminate", "llama-cpp-older")
        assert "target_logprob" in pair["stages"]["reason"]
        return
    expected = json.loads(results(stage, table.name, runs, capsys))
    assert expected["n_positions"] > 500
    assert_equal(json.loads(results(stage, f"example-{form}", runs, capsys)), expected)


@pytest.mark.parametrize("stage", ["coherence", "discriminate"])
def test_a_capture_written_as_csv_gives_its_own_results(
    stage: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [capture(resolve_spec(model), CORPUS, CaptureConfig(k=K), runs_dir=runs) for model in MODELS.values()]
    submission = runs / "submitted" / "round-trip"
    submission.mkdir(parents=True, exist_ok=True)
    models = {}
    for key, folder in zip(MODELS, folders, strict=True):
        table = pd.read_parquet(sorted(folder.glob("part-*.parquet")))
        table.to_csv(submission / f"{key}.csv", index=False)
        models[key] = {"name": MODELS[key], "tokenizer": "tiny", "vocab_size": 1024, "capture": f"{key}.csv"}
    (submission / "submission.yaml").write_text(yaml.safe_dump({"schema": 1, "name": "round-trip", "models": models}))
    imported = run(IngestStageConfig(submission=str(submission), runs_dir=str(runs)))
    assert parts(imported) == [sha256_of(path) for folder in folders for path in sorted(folder.glob("part-*.parquet"))]

    capsys.readouterr()
    named = f"captures=[{folders[0]},{folders[1]}]"
    assert main([stage, named, f"runs_dir={runs}", *QUICK]) == 0, capsys.readouterr().err
    own = json.loads((Path(capsys.readouterr().out.splitlines()[-1]) / "results.json").read_bytes())
    found = json.loads(results(stage, "round-trip", runs, capsys))
    assert [name for name in own if own[name] != found[name]] == list(NAMES)
    rest = [json.dumps({name: one[name] for name in one if name not in NAMES}) for one in (own, found)]
    assert rest[0].encode() == rest[1].encode()
