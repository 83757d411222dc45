"""The embedded proxy at another tokenizer's tokens: what it says there, and where it says nothing."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from brf_exp.config import (
    AnalysisStageConfig,
    CaptureConfig,
    CoherenceStageConfig,
    CorpusConfig,
    DiscriminateStageConfig,
    ModelConfig,
)
from brf_exp.corpora.document import read_texts
from brf_exp.corpora.load import load_documents
from brf_exp.stages import alignment
from brf_exp.stages.alignment import AlignedProxy
from brf_exp.stages.capture import capture
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.storage.captures import Capture, open_capture
from brf_exp.storage.runs import read_json, write_json

REAL_MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "models"
COLUMNS = ("gap", "surprisal", "top_surprisal", "entropy")
ODD_TEXTS = {
    "2024-01-01 10:00:00": "A naïve café: 😀😀 costs 5 € — “quoted” 中文 text.\n" * 4,
    "2024-01-02 10:00:00": "First line.\u2028Second line.\tTabs,  two blanks and a trailing one. " * 5,
}

STORIES = (
    "Once upon a time there was a little girl named Lily. She had a red ball and liked to play in the park.",
    'Tom saw a big dog. The dog was sad because it lost its bone. Tom said, "I can help you!" They looked and looked.',
    'One day, a bird wanted to fly high in the sky. Her mom said, "Be careful, little bird." The bird was very happy.',
    "Ben and Mia went to the zoo with their dad. They saw a lion, a bear and a funny monkey that ate a banana.",
    "The sun was hot. Sam had a cup of milk, but he was not thirsty. He gave the milk to the cat and smiled.",
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prose and code of the standard library, and two texts with characters of several bytes; ids like dates."""
    stdlib = load_documents(CorpusConfig(name="stdlib", max_documents=10))
    found = ODD_TEXTS | {document.doc_id: document.text[:3000] for document in stdlib}
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text(
        "".join(json.dumps({"doc_id": key, "text": text}) + "\n" for key, text in found.items()), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def captured(name: str, texts: Path, runs_dir: Path, *, max_document_tokens: int | None = 200, **more: Any) -> Path:
    model = ModelConfig(name=name) if name.startswith("tiny_") else ModelConfig(name="hf", id=name)
    corpus = CorpusConfig(name="file", path=str(texts), id_column="doc_id", max_document_tokens=max_document_tokens)
    return capture(model, corpus, CaptureConfig(k=4, **more), runs_dir=runs_dir)


def resolved(runs_dir: Path, *folders: Path, **more: Any) -> PairInputs:
    config = CoherenceStageConfig(runs_dir=str(runs_dir), captures=list(map(str, folders)), progress=False, **more)
    return resolve_pair(config)


def columns_of(aligned: AlignedProxy, first: Capture) -> dict[str, np.ndarray]:
    """All of the first capture's rows, its documents in three chunks."""
    index, spans = first.documents, first.read(["char_start", "char_end"])
    found = []
    for documents in np.array_split(np.arange(len(index.doc_ids)), 3):
        offsets = index.offsets[documents[0] : documents[-1] + 2]
        rows = slice(offsets[0], offsets[-1])
        found.append(
            aligned.columns_for(
                index.doc_ids[documents[0] : documents[-1] + 1],
                spans["char_start"][rows],
                spans["char_end"][rows],
                offsets - offsets[0],
            )
        )
    return {name: np.concatenate([each[name] for each in found]) for name in COLUMNS}


def direct_columns(capture: Capture) -> dict[str, np.ndarray]:
    rows = {name: v.astype(np.float64) for name, v in capture.read(["logsumexp", "target_logit", "entropy"]).items()}
    top = {name: v.astype(np.float64) for name, v in capture.read(["logit_1", "logit_2"]).items()}
    return {
        "gap": top["logit_1"] - top["logit_2"],
        "surprisal": rows["logsumexp"] - rows["target_logit"],
        "top_surprisal": rows["logsumexp"] - top["logit_1"],
        "entropy": rows["entropy"],
    }


def test_with_the_same_tokens_it_is_the_model_itself(texts: Path, runs_dir: Path) -> None:
    inputs = resolved(runs_dir, *(captured(name, texts, runs_dir) for name in ("tiny_prose", "tiny_code")))
    assert inputs.proxy is None
    assert inputs.aligned is not None
    assert inputs.aligned.model_name == "tiny_mixed"
    first, direct = inputs.captures[0], open_capture(captured("tiny_mixed", texts, runs_dir))
    np.testing.assert_array_equal(first.read(["token_id"])["token_id"], direct.read(["token_id"])["token_id"])
    found, expected = columns_of(inputs.aligned, first), direct_columns(direct)
    for name in ("gap", "top_surprisal", "entropy"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    # A document cut inside a character: the proxy reads all bytes of it, and those present share its surprisal.
    n_more = inputs.aligned.capture.documents.lengths - first.documents.lengths
    ends = np.repeat(first.documents.offsets[1:], first.documents.lengths)
    spans = first.read(["char_end"])["char_end"]
    is_cut = (np.repeat(n_more, first.documents.lengths) > 0) & (spans == spans[ends - 1])
    assert 0 < is_cut.mean() < 0.01
    np.testing.assert_allclose(found["surprisal"][~is_cut], expected["surprisal"][~is_cut], rtol=0, atol=1e-9)
    assert inputs.aligned.share_aligned == 1.0


def test_bytes_of_a_document_sum_to_the_proxys_total(texts: Path, runs_dir: Path) -> None:
    first_folder = captured("tiny_bytes", texts, runs_dir, max_document_tokens=400)
    inputs = resolved(runs_dir, first_folder, first_folder)
    assert inputs.identical == (("tiny_bytes", "tiny_bytes"),)
    assert inputs.aligned is not None
    first, proxy = inputs.captures[0], inputs.aligned.capture
    found = columns_of(inputs.aligned, first)
    sums = np.add.reduceat(found["surprisal"], first.documents.offsets[:-1])
    totals = np.add.reduceat(direct_columns(proxy)["surprisal"], proxy.documents.offsets[:-1])
    np.testing.assert_allclose(sums, totals, rtol=1e-9)
    # The bytes of one token share the prediction made at its start.
    assert np.unique(found["gap"]).size <= proxy.n_rows
    assert inputs.aligned.share_aligned == 1.0


@pytest.mark.parametrize("model", ["babyllama105", "stories260k"])
def test_real_models_with_tokenizers_of_their_own(model: str, tmp_path: Path) -> None:
    if not (REAL_MODELS / model).is_dir():
        pytest.skip("the real models are not there")
    path = tmp_path / "stories.jsonl"
    lines = [json.dumps({"doc_id": f"story {n}", "text": text}) + "\n" for n, text in enumerate(STORIES)]
    path.write_text("".join(lines), encoding="utf-8")
    folder = captured(str(REAL_MODELS / model), path, tmp_path)
    inputs = resolved(tmp_path, folder, folder)
    assert inputs.aligned is not None
    first = inputs.captures[0]
    found = columns_of(inputs.aligned, first)
    finite = {name: np.isfinite(found[name]).mean() for name in COLUMNS}
    assert min(finite.values()) > 0.95
    assert inputs.aligned.share_aligned == pytest.approx(finite["gap"])
    # Words that are hard for one model are hard for the other; their neighbours are not.
    word = words_of(first)
    own, aligned = (np.bincount(word, values) for values in (direct_columns(first)["surprisal"], found["surprisal"]))
    assert spearmanr(own, aligned).statistic > 0.4
    assert max(spearmanr(own, np.roll(aligned, lag)).statistic for lag in (-2, -1, 1, 2)) < 0.2


def words_of(capture: Capture) -> np.ndarray:
    """Which word of the stories each token begins in; a word begins with the blank before it."""
    begins = [np.cumsum(np.array(list(text)) == " ") + 1000 * n for n, text in enumerate(STORIES)]
    document = np.repeat(np.arange(len(STORIES)), capture.documents.lengths)
    start = capture.read(["char_start"])["char_start"]
    return np.unique([begins[d][c] for d, c in zip(document, start, strict=True)], return_inverse=True)[1]


def test_texts_are_cut_where_the_tokens_end_and_written_once(texts: Path, runs_dir: Path, tmp_path: Path) -> None:
    inputs = resolved(tmp_path, *(captured(n, texts, runs_dir) for n in ("tiny_prose", "tiny_code")))
    assert inputs.aligned is not None
    first = inputs.captures[0]
    (path,) = tmp_path.glob("aligned/*/texts.jsonl")
    written, whole = read_texts(path), read_texts(first.folder / "texts.jsonl")
    ends = np.maximum.reduceat(first.read(["char_end"])["char_end"], first.documents.offsets[:-1])
    assert [text for text in written.values()] == [
        whole[doc_id][:end] for doc_id, end in zip(first.documents.doc_ids, ends, strict=True)
    ]
    changed = path.stat().st_mtime_ns
    again = resolved(tmp_path, *(c.folder for c in inputs.captures))
    assert path.stat().st_mtime_ns == changed
    assert again.identity() == inputs.identity()


def test_the_same_rows_elsewhere_have_the_same_identity(texts: Path, runs_dir: Path, tmp_path: Path) -> None:
    folders = [captured(name, texts, runs_dir) for name in ("tiny_prose", "tiny_code")]
    here, there = resolved(runs_dir, *folders), resolved(tmp_path, *folders)
    assert here.identity() == there.identity()
    without = resolved(runs_dir, *folders, proxy="none")
    assert without.aligned is None
    assert without.identity() != here.identity()


def test_part_files_are_read_across_their_boundaries(texts: Path, runs_dir: Path, tmp_path: Path) -> None:
    whole = read_texts(texts)
    path = tmp_path / "texts.jsonl"
    lines = [{"doc_id": f"{n:06d} {key}", "text": text} for n, (key, text) in enumerate(whole.items())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    made = open_capture(captured("tiny_mixed", path, tmp_path, rows_per_part=300))
    assert len(made.manifest["parts"]) > 4
    aligned = AlignedProxy("tiny_mixed", made, share_aligned=1.0)
    direct = direct_columns(made)
    spans = made.read(["char_start", "char_end"])
    index = made.documents
    for chosen in ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [9, 0, 4], [11], [3, 2]):
        rows = np.concatenate([np.arange(index.offsets[d], index.offsets[d + 1]) for d in chosen])
        found = aligned.columns_for(
            [list(whole)[d] for d in chosen],
            spans["char_start"][rows],
            spans["char_end"][rows],
            np.concatenate([[0], np.cumsum(index.lengths[chosen])]),
        )
        for name in COLUMNS:
            np.testing.assert_allclose(found[name], direct[name][rows], rtol=0, atol=1e-9)


def test_documents_that_the_proxy_does_not_have_are_missing(texts: Path, runs_dir: Path) -> None:
    inputs = resolved(runs_dir, *(captured(name, texts, runs_dir) for name in ("tiny_prose", "tiny_code")))
    assert inputs.aligned is not None
    spans = np.array([0, 2]), np.array([2, 4])
    found = inputs.aligned.columns_for(["nowhere"], *spans, np.array([0, 2]))
    assert all(np.isnan(found[name]).all() and found[name].size == 2 for name in COLUMNS)
    known = inputs.captures[0].documents.doc_ids[3]
    found = inputs.aligned.columns_for(["nowhere", known], *spans, np.array([0, 1, 2]))
    np.testing.assert_array_equal(np.isnan(found["gap"]), [True, False])


def moved(folder: Path, target: Path, texts: dict[str, str] | None, **model: Any) -> Path:
    """A copy of a capture with other texts beside it, or none."""
    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name != "texts.jsonl":
            (target / path.name).write_bytes(path.read_bytes())
    manifest = read_json(target / "capture.json")
    manifest["model"] |= model
    write_json(target / "capture.json", manifest)
    if texts is not None:
        lines = [json.dumps({"doc_id": key, "text": text}) + "\n" for key, text in texts.items()]
        (target / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    return target


def test_blank_and_lost_texts_leave_gaps(texts: Path, runs_dir: Path, tmp_path: Path) -> None:
    folders = [captured(name, texts, runs_dir) for name in ("tiny_prose", "tiny_code")]
    kept = read_texts(folders[0] / "texts.jsonl")
    ids = list(kept)
    del kept[ids[2]]
    kept[ids[4]] = " " * len(kept[ids[4]])
    kept[ids[5]] = kept[ids[5]][:50] + "\ud800" + kept[ids[5]][51:]
    first = moved(folders[0], tmp_path / "a" / "x", kept)
    inputs = resolved(tmp_path / "runs", first, folders[1])
    assert inputs.aligned is not None
    found = columns_of(inputs.aligned, inputs.captures[0])["gap"]
    index = inputs.captures[0].documents
    n_missing = np.add.reduceat(np.isnan(found), index.offsets[:-1])
    assert np.flatnonzero(n_missing).tolist() == [index.doc_ids.index(ids[2]), index.doc_ids.index(ids[4])]
    assert inputs.aligned.share_aligned == pytest.approx(np.isfinite(found).mean())
    assert 0.5 < inputs.aligned.share_aligned < 1


def test_where_there_is_no_aligned_proxy(texts: Path, runs_dir: Path, tmp_path: Path) -> None:
    prose, code, mixed = (captured(name, texts, runs_dir) for name in ("tiny_prose", "tiny_code", "tiny_mixed"))
    runs = tmp_path / "runs"
    no_texts = moved(prose, tmp_path / "a" / "x", None)
    blank = moved(prose, tmp_path / "b" / "x", dict.fromkeys(read_texts(prose / "texts.jsonl"), " "))
    renamed = moved(mixed, tmp_path / "c" / "x", read_texts(mixed / "texts.jsonl"), name="mine")
    for folders, more in (
        ((prose, code), {"proxy": str(mixed)}),
        ((prose, code), {"proxy": "none"}),
        ((prose, code, mixed), {}),
        ((no_texts, code), {}),
        ((blank, code), {}),
        ((prose, mixed), {}),
        ((renamed, prose), {}),
    ):
        assert resolved(runs, *folders, **more).aligned is None
    config: AnalysisStageConfig = DiscriminateStageConfig(runs_dir=str(runs), captures=[str(prose), str(code)])
    assert resolve_pair(config).aligned is None
    assert not list(runs.glob("captures/*"))


def test_without_character_spans_there_is_none(
    texts: Path, runs_dir: Path, tmp_path: Path, without_columns: Callable[..., None]
) -> None:
    prose = captured("tiny_prose", texts, runs_dir)
    bare = moved(prose, tmp_path / "a" / "x", read_texts(prose / "texts.jsonl"))
    without_columns(bare, "char_end")
    assert resolved(tmp_path / "runs", bare, bare).aligned is None


def test_without_torch_there_is_none(
    texts: Path, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [captured(name, texts, runs_dir) for name in ("tiny_prose", "tiny_code")]
    found = importlib.util.find_spec
    monkeypatch.setattr(alignment.importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    assert resolved(tmp_path, *folders).aligned is None
    assert not list(tmp_path.iterdir())
