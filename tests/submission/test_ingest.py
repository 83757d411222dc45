"""Sound submissions: what is read back is what was dumped, in every format it may come in."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brf_exp.config import IngestStageConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.stages.ingest import run
from brf_exp.storage.captures import Capture, open_capture, sha256_of
from brf_exp.storage.runs import read_json

Submission = Any
REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "submissions" / "textgenrnn-hn"


def ingest(path: Path, runs_dir: Path, *, replace: bool = False) -> Path:
    """The folder of the imported submission."""
    return run(IngestStageConfig(submission=str(path), runs_dir=str(runs_dir), replace=replace))


def captures(folder: Path) -> dict[str, Capture]:
    """The captures of an imported submission."""
    return {key: open_capture(folder / key) for key in read_json(folder / "pair.json")["models"]}


def part_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of all part files."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*.parquet"))}


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_values_read_back_are_the_values_dumped(submission: Submission, tmp_path: Path) -> None:
    folder = ingest(submission.write(), tmp_path / "runs")
    assert folder == (tmp_path / "runs" / "submissions" / "my-pair").resolve()
    for key, capture in captures(folder).items():
        table = submission.tables[key]
        names = [name for name in capture.columns if name != "doc_id"]
        assert set(capture.columns) == set(table.columns)
        for name, values in capture.read(names).items():
            np.testing.assert_array_equal(values, table[name].to_numpy(), err_msg=name)
        assert capture.documents.doc_ids == ("d1", "d2")
        assert capture.documents.offsets.tolist() == [0, 3, 7]


def test_pair_and_capture_manifests(submission: Submission, tmp_path: Path) -> None:
    folder = ingest(submission.write(), tmp_path / "runs")
    pair = read_json(folder / "pair.json")
    assert pair["name"] == "my-pair" and pair["schema"] == 1 and pair["shared_ids"] is True
    assert pair["stages"] == {
        "coherence": True,
        "discriminate": True,
        "reason": None,
        "says": {"coherence": "yes", "discriminate": "yes"},
    }
    assert (pair["aligned"], pair["warnings"]) == (None, [])
    assert pair["models"]["b"] == {
        "name": "org/model-b",
        "revision": "abc123",
        "tokenizer": "letters",
        "vocab_size": 11,
        "value_kind": "logit",
        "temperature": 1.0,
        "log_base": "e",
        "capture": "b",
    }
    a, b = (read_json(folder / key / "capture.json") for key in "ab")
    assert a["tokenizer_fingerprint"] == b["tokenizer_fingerprint"]
    assert a["tokenizer_fingerprint"].startswith("declared:")
    assert (a["k"], a["rows"], a["documents"], a["mode"]) == (4, 7, 2, "submission")
    name = "part-00000.parquet"
    hashed = {"sha256": part_hashes(folder)[f"a/{name}"], "bytes": (folder / "a" / name).stat().st_size}
    assert a["parts"] == [{"name": name, "rows": 7, "documents": 2} | hashed]
    assert read_json(folder / "manifest.json")["key"] == pair["content_sha256"]


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_every_format_gives_the_same_bytes(suffix: str, submission: Submission, tmp_path: Path) -> None:
    expected = part_hashes(ingest(submission.write(), tmp_path / "runs"))
    submission.folder = tmp_path / "other"
    submission.set_capture(suffix)
    assert part_hashes(ingest(submission.write(), tmp_path / "other-runs")) == expected


def test_parts_cut_anywhere_give_the_same_bytes(submission: Submission, tmp_path: Path) -> None:
    expected = part_hashes(ingest(submission.write(), tmp_path / "runs"))
    submission.description["models"]["b"]["capture"] = "b"
    table = submission.tables.pop("b")
    submission.folder = tmp_path / "other"
    folder = submission.write()
    (folder / "b").mkdir()
    for index, (first, last) in enumerate([(0, 2), (2, 3), (3, 7)]):
        table.iloc[first:last].to_parquet(folder / "b" / f"part-{index:02d}.parquet", index=False)
    assert part_hashes(ingest(folder, tmp_path / "other-runs")) == expected


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".ZIP", ".Tar.GZ"])
@pytest.mark.parametrize("inner", ["", "my submission"])
def test_archives_give_the_same_submission(suffix: str, inner: str, submission: Submission, tmp_path: Path) -> None:
    folder = submission.write()
    expected = ingest(folder, tmp_path / "runs")
    archive = tmp_path / f"packed{suffix}"
    if suffix.lower() == ".zip":
        root = tmp_path / "to-pack"
        shutil.copytree(folder, root / inner)
        Path(shutil.make_archive(str(tmp_path / "made"), "zip", root)).rename(archive)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, inner or ".")
    assert part_hashes(ingest(archive, tmp_path / "other-runs")) == part_hashes(expected)
    before = files_of(expected)
    assert ingest(archive, tmp_path / "runs") == expected
    assert files_of(expected) == before


@pytest.mark.parametrize(("base", "nats"), [("e", 1.0), ("10", np.log(10)), ("2", np.log(2))])
@pytest.mark.parametrize("stem", ["logprob", "logit"])
def test_log_probabilities_give_the_same_gaps(
    base: str, nats: float, stem: str, submission: Submission, tmp_path: Path
) -> None:
    logits = captures(ingest(submission.write(), tmp_path / "runs"))
    for key, table in submission.tables.items():
        values = ["target_logit", *[f"logit_{rank}" for rank in range(1, 5)]]
        table[values] = table[values].astype(float).sub(table.pop("logsumexp"), axis=0) / nats
        submission.tables[key] = table.rename(columns={name: name.replace("logit", stem) for name in values})
        submission.description["models"][key] |= {"value_kind": "logprob", "log_base": base}
    submission.folder = tmp_path / "other"
    folder = ingest(submission.write(), tmp_path / "other-runs")
    assert read_json(folder / "pair.json")["stages"]["discriminate"] is True
    for key, capture in captures(folder).items():
        expected, got = (one.top_k()[1].astype(float) for one in (logits[key], capture))
        np.testing.assert_allclose(-np.diff(got, axis=1), -np.diff(expected, axis=1), atol=5e-6)
        columns = capture.read(["logsumexp", "target_logit"])
        assert not columns["logsumexp"].any()
        reference = logits[key].read(["logsumexp", "target_logit"])
        difference = reference["target_logit"] - reference["logsumexp"]
        np.testing.assert_allclose(columns["target_logit"], difference, atol=5e-6)


def test_value_kind_may_be_told_by_the_columns(submission: Submission, tmp_path: Path) -> None:
    for key, table in submission.tables.items():
        del submission.description["models"][key]["value_kind"]
        submission.tables[key] = submission.rows.assign(logprob_1=-0.5, logprob_2=-table.index / 10 - 2.0)
    pair = read_json(ingest(submission.write(), tmp_path / "runs") / "pair.json")
    assert [model["value_kind"] for model in pair["models"].values()] == ["logprob", "logprob"]
    assert pair["stages"]["reason"] == (
        "a.csv lacks target_logprob, id_1 to id_2; b.csv lacks target_logprob, id_1 to id_2"
    )


def divide(submission: Submission, temperature: float) -> None:
    """Dump model b's values at a temperature."""
    submission.description["models"]["b"]["temperature"] = temperature
    table = submission.tables["b"]
    values = ["target_logit", *[f"logit_{rank}" for rank in range(1, 5)]]
    table[values] = table[values].astype(float) / temperature


def test_temperature_with_the_logsumexp_is_multiplied_back(submission: Submission, tmp_path: Path) -> None:
    expected = submission.tables["b"].copy()
    divide(submission, 0.7)
    folder = ingest(submission.write(), tmp_path / "runs")
    capture = captures(folder)["b"]
    np.testing.assert_allclose(capture.top_k()[1], expected.filter(like="logit_").iloc[:, -4:], rtol=1e-6)
    np.testing.assert_allclose(capture.read(["target_logit"])["target_logit"], expected["target_logit"], rtol=1e-6)
    assert read_json(folder / "pair.json")["stages"]["discriminate"] is True


def test_temperature_without_the_logsumexp_allows_coherence_only(submission: Submission, tmp_path: Path) -> None:
    divide(submission, 2.0)
    submission.tables["b"] = submission.tables["b"].drop(columns="logsumexp")
    folder = ingest(submission.write(), tmp_path / "runs")
    assert read_json(folder / "pair.json")["stages"] == {
        "coherence": True,
        "discriminate": False,
        "reason": "b.csv has values at temperature 2 and no logsumexp at temperature 1",
        "says": {
            "coherence": "yes",
            "discriminate": "no: b.csv has values at temperature 2 and no logsumexp at temperature 1",
        },
    }
    assert not {"logsumexp", "target_logit"} & set(captures(folder)["b"].columns)


def test_log_probabilities_at_a_temperature_have_no_known_logsumexp(submission: Submission, tmp_path: Path) -> None:
    for key in submission.tables:
        submission.description["models"][key] |= {"value_kind": "logprob", "temperature": 2.0}
        values = {"target_logprob": -4.0, "logprob_1": -1.0, "logprob_2": -2.5}
        submission.tables[key] = submission.rows.assign(**values)
    folder = ingest(submission.write(), tmp_path / "runs")
    capture = captures(folder)["a"]
    assert capture.columns == ("doc_id", "position", "token_id", "logit_1", "logit_2")
    np.testing.assert_array_equal(capture.read_matrix(["logit_1", "logit_2"]), [[-2.0, -5.0]] * 7)
    assert "no logsumexp at temperature 1" in read_json(folder / "pair.json")["stages"]["reason"]


def test_the_smallest_csv(submission: Submission, tmp_path: Path) -> None:
    submission.tables = {
        key: pd.DataFrame({"position": [0, 1, 2, 0, 3, 3], "logit_1": 2.5, "logit_2": [1.0, 0.5, 2.5, -1, 0, 0]})
        for key in "ab"
    }
    folder = ingest(submission.write(), tmp_path / "runs")
    capture = captures(folder)["a"]
    assert capture.columns == ("doc_id", "position", "logit_1", "logit_2")
    assert capture.documents.doc_ids == ("doc-00000", "doc-00001", "doc-00002")
    assert capture.documents.offsets.tolist() == [0, 3, 5, 6]
    stages = read_json(folder / "pair.json")["stages"]
    assert (stages["coherence"], stages["discriminate"]) == (True, False)


def test_documents_are_numbered_across_batches(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [3, 1, 40, 2, 25, 25, 1, 3]
    position = np.concatenate([np.arange(length) for length in lengths])
    submission.tables = {
        key: pd.DataFrame({"position": position, "logit_1": 1.0, "logit_2": -np.arange(100.0)}) for key in "ab"
    }
    monkeypatch.setattr("brf_exp.submission.tables.BLOCK_BYTES", 64)
    capture = captures(ingest(submission.write(), tmp_path / "runs"))["b"]
    assert capture.documents.lengths.tolist() == lengths
    assert capture.documents.doc_ids == tuple(f"doc-{number:05d}" for number in range(8))
    np.testing.assert_array_equal(capture.read(["position"])["position"], position)


def test_rows_are_counted_across_batches(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brf_exp.submission.tables.BLOCK_BYTES", 64)
    lines = [f"{position},2.0,1.0" for position in range(100)]
    folder = submission.write()
    for fault, expected in ((("90,x,1.0"), "row 91 column logit_1"), ("90,1.0", "row 91"), ("5,2,1", None)):
        lines[90] = fault
        (folder / "a.csv").write_text("position,logit_1,logit_2\n" + "\n".join(lines))
        (folder / "b.csv").write_text("position,logit_1,logit_2\n" + "\n".join(lines))
        if expected is None:
            assert captures(ingest(folder, tmp_path / "runs"))["a"].documents.lengths.tolist() == [90, 10]
        else:
            with pytest.raises(InputError, match=f"^`a.csv {expected}` must be "):
                ingest(folder, tmp_path / "runs")


def test_a_byte_order_mark_blanks_and_line_ends_do_not_matter(submission: Submission, tmp_path: Path) -> None:
    expected = part_hashes(ingest(submission.write(), tmp_path / "runs"))
    for key in "ab":
        path = submission.folder / f"{key}.csv"
        text = path.read_text().replace(",", " , ", 1).replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert part_hashes(ingest(submission.folder, tmp_path / "other-runs")) == expected


def test_unknown_columns_give_one_warning(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = part_hashes(ingest(submission.write(), tmp_path / "runs"))
    submission.tables["a"].insert(0, "", range(7))
    submission.tables["b"].insert(3, "note", "x")
    capsys.readouterr()
    folder = ingest(submission.write(), tmp_path / "other-runs")
    what = "must have columns of the format, got others"
    assert capsys.readouterr().err.splitlines() == [
        f"brf-exp: warning: `a.csv` {what}: (unnamed). They are ignored.",
        f"brf-exp: warning: `b.csv` {what}: note. They are ignored.",
    ]
    assert part_hashes(folder) == expected


def test_the_same_content_again_returns_the_folder(submission: Submission, tmp_path: Path) -> None:
    folder = ingest(submission.write(), tmp_path / "runs")
    before = files_of(folder)
    os.utime(submission.folder / "a.csv", (1, 1))
    assert ingest(submission.folder, tmp_path / "runs") == folder
    submission.set_capture(".csv.gz")
    assert ingest(submission.write(), tmp_path / "runs") == folder
    assert files_of(folder) == before


def test_other_content_needs_replace(submission: Submission, tmp_path: Path) -> None:
    folder = ingest(submission.write(), tmp_path / "runs")
    before = files_of(folder)
    for table in submission.tables.values():
        table.loc[0, "logsumexp"] += 0.001
    submission.write()
    with pytest.raises(InputError, match=r"`name` must be one that no other submission has .*`replace=true`"):
        ingest(submission.folder, tmp_path / "runs")
    assert files_of(folder) == before
    assert ingest(submission.folder, tmp_path / "runs", replace=True) == folder
    assert captures(folder)["a"].read(["logsumexp"])["logsumexp"][0] == submission.tables["a"].loc[0, "logsumexp"]


def test_a_failing_replacement_keeps_what_was_there(submission: Submission, tmp_path: Path) -> None:
    folder = ingest(submission.write(), tmp_path / "runs")
    before = files_of(tmp_path / "runs")
    submission.tables["b"].loc[6, "position"] = 0
    with pytest.raises(InputError, match="b.csv row 7 column position"):
        ingest(submission.write(), tmp_path / "runs", replace=True)
    assert files_of(tmp_path / "runs") == before
    assert captures(folder)["b"].n_rows == 7


def test_other_declarations_are_other_content(submission: Submission, tmp_path: Path) -> None:
    ingest(submission.write(), tmp_path / "runs")
    submission.description["models"]["a"]["revision"] = "another"
    with pytest.raises(InputError, match="replace=true"):
        ingest(submission.write(), tmp_path / "runs")


def test_texts_are_kept(submission: Submission, tmp_path: Path) -> None:
    submission.texts = '{"doc_id": "d2", "text": "\\u00e9"}\n\n{"text": "x", "doc_id": "d1"}\n'
    folder = ingest(submission.write(), tmp_path / "runs")
    assert (folder / "texts.jsonl").read_text() == submission.texts


@pytest.mark.parametrize("spans", [True, False])
def test_different_tokenizers(spans: bool, submission: Submission, tmp_path: Path) -> None:
    submission.description["models"]["b"]["tokenizer"] = "words"
    submission.tables["b"] = submission.tables["b"].iloc[:5]
    if spans:
        for key, table in submission.tables.items():
            submission.tables[key] = table.assign(char_start=table["position"], char_end=table["position"] + 1)
    pair = read_json(ingest(submission.write(), tmp_path / "runs") / "pair.json")
    assert pair["shared_ids"] is False
    assert (pair["stages"]["coherence"], pair["stages"]["discriminate"]) == (spans, False)
    assert pair["stages"]["reason"].startswith("the tokenizers differ, so token ids mean different tokens")


def test_three_models(submission: Submission, tmp_path: Path) -> None:
    submission.description["models"]["c"] = submission.entry("c")
    submission.tables["c"] = submission.table()
    folder = ingest(submission.write(), tmp_path / "runs")
    assert list(captures(folder)) == ["a", "b", "c"]
    assert read_json(folder / "pair.json")["shared_ids"] is True


def test_runs_dir_is_a_folder(submission: Submission, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="^`runs_dir` must be a folder that can be written to, got "):
        ingest(submission.write(), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_the_import_needs_no_torch() -> None:
    code = "import sys, brf_exp.stages.ingest; print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_a_real_submission(tmp_path: Path) -> None:
    start = time.perf_counter()
    folder = ingest(REAL, tmp_path / "runs")
    assert time.perf_counter() - start < 30
    both = captures(folder)
    source = pd.read_csv(REAL / "a.csv.gz")
    for name, values in both["a"].read([n for n in both["a"].columns if n != "doc_id"]).items():
        np.testing.assert_array_equal(values, source[name].to_numpy(values.dtype), err_msg=name)
    assert both["a"].documents.doc_ids == tuple(source["doc_id"].unique())

    expected = json.loads((REAL / "expected.json").read_text())
    phases = [2 * np.arctan(-np.diff(one.top_k()[1][:, :2].astype(float))[:, 0]) for one in both.values()]
    direction = np.exp(1j * (phases[0] - phases[1])).mean()
    np.testing.assert_allclose(abs(direction), expected["Rbar"], atol=1e-6)
    np.testing.assert_allclose(np.angle(direction), expected["mean_direction"], atol=1e-6)
    for key, one in both.items():
        columns = one.read(["logsumexp", "target_logit"])
        loss = float(np.mean(columns["logsumexp"] - columns["target_logit"]))
        np.testing.assert_allclose(loss, expected[f"nll_{key}"], atol=1e-6)
