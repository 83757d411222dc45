import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brf_exp.config import CaptureConfig, CaptureStageConfig, CorpusConfig, ModelConfig, RecipeConfig
from brf_exp.corpora.document import fingerprint, read_texts
from brf_exp.corpora.load import load_documents
from brf_exp.errors import ConfigError, InputError
from brf_exp.stages import capture as stage
from brf_exp.storage.captures import Capture, open_capture, sha256_of

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = CaptureConfig(k=5, batch_tokens=256, min_context_tokens=8, rows_per_part=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from brf_exp.models.tiny import make_model, make_tokenizer

    recipe = RecipeConfig(
        byte_level=True, hidden_size=16, intermediate_size=24, n_layers=2, n_heads=2, context_tokens=32
    )
    folder = tmp_path_factory.mktemp("models") / "random_tiny"
    tokenizer = make_tokenizer([], byte_level=True)
    make_model(recipe, vocabulary_size=len(tokenizer) + 63, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusConfig:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rng = random.Random(0)
    words = "the of and model phase naïve logit 😀 coherent token".split()
    lines = [{"id": f"doc-{n}", "text": " ".join(rng.choices(words, k=5 + n))} for n in range(40)]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return CorpusConfig(name="file", path=str(path), id_column="id")


def capture(folder: Path, corpus: CorpusConfig, runs_dir: Path, **changes: object) -> Path:
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    return stage.capture(ModelConfig("hf", id=str(folder)), corpus, settings, runs_dir=runs_dir)


@pytest.fixture(scope="module")
def whole(folder: Path, corpus: CorpusConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture that nothing interrupted."""
    return capture(folder, corpus, tmp_path_factory.mktemp("runs"))


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_folder_and_rows(whole: Path, corpus: CorpusConfig) -> None:
    opened = open_capture(whole)
    texts = {d.doc_id: d.text for d in load_documents(corpus)}
    assert whole.parent.name == "random_tiny"
    assert not list(whole.parent.glob("*.partial"))
    assert sorted(path.suffix for path in whole.iterdir()).count(".json") == 1
    assert opened.documents.doc_ids == tuple(texts)
    assert opened.documents.lengths.tolist() == [len(text.encode()) for text in texts.values()]
    assert read_texts(whole / "texts.jsonl") == texts
    assert opened.k == 5 and opened.n_rows == sum(opened.documents.lengths)
    assert opened.read(["position"])["position"][0] == 0


def test_characters_of_every_token(whole: Path) -> None:
    opened, texts = open_capture(whole), read_texts(whole / "texts.jsonl")
    spans = opened.read(["char_start", "char_end", "token_id"])
    index = opened.documents
    for number, doc_id in enumerate(index.doc_ids):
        rows = slice(index.offsets[number], index.offsets[number + 1])
        raw = [
            texts[doc_id][s:e].encode() for s, e in zip(spans["char_start"][rows], spans["char_end"][rows], strict=True)
        ]
        assert {len(piece) for piece in raw} <= {1, 2, 4}  # one byte per token, one whole character behind it
        assert all(
            len(texts[doc_id][s:e]) == 1
            for s, e in zip(spans["char_start"][rows], spans["char_end"][rows], strict=True)
        )


def test_manifest(whole: Path, folder: Path, corpus: CorpusConfig) -> None:
    manifest = open_capture(whole).manifest
    assert manifest["schema"] == 1
    assert manifest["key"].startswith(whole.name)
    assert manifest["model"]["name"] == "random_tiny"
    assert manifest["model"]["weights_sha256"] == sha256_of(folder / "model.safetensors")
    assert manifest["model"]["vocabulary_size"] == 257
    assert manifest["model"]["padded_vocabulary_size"] == 320
    assert manifest["model"]["n_excluded_ids"] == 63
    assert manifest["corpus"]["fingerprint"] == fingerprint(load_documents(corpus))
    assert manifest["corpus"]["texts_sha256"] == sha256_of(whole / "texts.jsonl")
    assert manifest["dtype"] == {"forward": "float32", "head": "float32", "kept": "float32"}
    assert (manifest["condition"], manifest["mode"], manifest["temperatures"]) == ("none", "teacher_forced", [1.0])
    assert (manifest["beginning_id"], manifest["first_position"]) == (256, 0)
    assert manifest["rows"] == sum(part["rows"] for part in manifest["parts"])
    assert manifest["documents"] == sum(part["documents"] for part in manifest["parts"]) == 40
    assert len(manifest["parts"]) > 10
    for part in manifest["parts"]:
        assert part["sha256"] == sha256_of(whole / part["name"])
    assert {"torch", "transformers", "numpy", "python", "brf-exp"} <= set(manifest["packages"])
    assert {"started", "finished", "device", "git_commit", "git_dirty", "seed"} <= set(manifest["environment"])


def test_padded_ids_never_appear(whole: Path) -> None:
    ids, _ = open_capture(whole).top_k()
    assert ids.max() <= 256


def test_same_bytes_again(whole: Path, folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    again = capture(folder, corpus, tmp_path)
    assert again.name == whole.name
    assert parts_of(again) == parts_of(whole)
    first, second = (open_capture(path).manifest for path in (whole, again))
    assert {k: v for k, v in first.items() if k != "environment"} == {
        k: v for k, v in second.items() if k != "environment"
    }


def test_never_captured_twice(whole: Path, folder: Path, corpus: CorpusConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("captured again")

    monkeypatch.setattr(stage, "load_model", fail)
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert capture(folder, corpus, whole.parents[2]) == whole
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_finding_a_capture_needs_no_torch(whole: Path, folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from brf_exp.config import CaptureConfig, CorpusConfig, ModelConfig
from brf_exp.stages.capture import capture
settings = CaptureConfig(k=5, batch_tokens=256, min_context_tokens=8, rows_per_part=200)
corpus = CorpusConfig(name="file", path=sys.argv[2], id_column="id")
print(capture(ModelConfig("hf", id=sys.argv[1]), corpus, settings, runs_dir=Path(sys.argv[3])))
print(sorted({"torch", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(corpus.path), str(whole.parents[2])],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, loaded = done.stdout.splitlines()
    assert found == str(whole)
    assert "transformers" not in loaded


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 6},
        {"batch_tokens": 128},
        {"context_tokens": 16},
        {"min_context_tokens": 9},
        {"rows_per_part": 100},
        {"dtype": "float64"},
    ],
)
def test_every_setting_changes_the_key(
    changes: dict[str, object], whole: Path, folder: Path, corpus: CorpusConfig
) -> None:
    request = stage.Request(
        stage.fetch(stage.resolve(ModelConfig("hf", id=str(folder)))),
        stage.identify(stage.fetch(stage.resolve(ModelConfig("hf", id=str(folder))))),
        load_documents(corpus),
        corpus,
        SETTINGS,
        "none",
    )
    key = stage.runs.content_key(request.determines())
    assert key.startswith(whole.name)
    assert stage.runs.content_key(replace(request, settings=replace(SETTINGS, **changes)).determines()) != key  # type: ignore[arg-type]


def test_cut_corpus(folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    opened = open_capture(capture(folder, replace(corpus, max_tokens=500, max_document_tokens=60), tmp_path))
    assert opened.n_rows == 500
    assert opened.documents.lengths.max() == 60
    texts = read_texts(opened.folder / "texts.jsonl")
    ends = opened.read(["char_end"])["char_end"][opened.documents.offsets[1:] - 1]
    assert [len(text) for text in texts.values()] == ends.tolist()


def test_model_without_a_beginning_token(folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if k not in ("bos_token", "eos_token")})
    )
    opened = open_capture(capture(bare, replace(corpus, max_documents=3), tmp_path / "runs"))
    assert (opened.manifest["beginning_id"], opened.manifest["first_position"]) == (None, 1)
    texts = read_texts(opened.folder / "texts.jsonl")
    assert opened.documents.lengths.tolist() == [len(text.encode()) - 1 for text in texts.values()]
    assert opened.read(["position"])["position"][0] == 1


# Imports once, then forks: `kills` children one after the other, each killed at a random moment behind its goal of
# finished parts; or `together` children at the same time, waited for.
CHILDREN = """
import os, random, signal, sys, time
from pathlib import Path
import torch, transformers
from brf_exp.config import CaptureConfig, CorpusConfig, ModelConfig
from brf_exp.stages.capture import capture

model, texts, runs_dir, mode, n_parts = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])
settings = CaptureConfig(k=5, batch_tokens=256, min_context_tokens=8, rows_per_part=200)
corpus = CorpusConfig(name="file", path=texts, id_column="id")

def child():
    pid = os.fork()
    if pid == 0:
        folder = capture(ModelConfig("hf", id=model), corpus, settings, runs_dir=runs_dir)
        os.write(1, f"{folder}\\n".encode())  # one write: two children's lines must not mix
        os._exit(0)
    return pid

def n_finished():
    return len(list(runs_dir.glob("captures/*/*.partial/part-*.json")))

if mode == "together":
    for pid in [child(), child()]:
        assert os.waitpid(pid, 0)[1] == 0
else:
    for n_kill in range(int(mode)):
        pid, goal, deadline = child(), 1 + n_kill * n_parts // 4, time.monotonic() + 100
        while n_finished() < goal:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(random.random() * 0.05)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    print(n_finished())
"""


def children(folder: Path, corpus: CorpusConfig, runs_dir: Path, mode: str, n_parts: int = 0) -> list[str]:
    """What the children printed."""
    command = [sys.executable, "-c", CHILDREN, str(folder), str(corpus.path), str(runs_dir), mode, str(n_parts)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def test_killed_three_times_gives_the_same_bytes(
    whole: Path, folder: Path, corpus: CorpusConfig, tmp_path: Path
) -> None:
    n_parts = len(parts_of(whole))
    (n_finished,) = children(folder, corpus, tmp_path, "3", n_parts)
    assert 0 < int(n_finished) < n_parts
    finished = capture(folder, corpus, tmp_path)
    assert parts_of(finished) == parts_of(whole)
    assert sorted(p.name for p in finished.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert not list(finished.parent.glob("*.partial"))


def test_interrupted_parts_are_not_computed_again(
    folder: Path, corpus: CorpusConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brf_exp.capture import filling

    written: list[str] = []
    write_part = filling.write_part

    def stop_at_the_fifth(path: Path, table: object) -> str:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(path.name)
        return write_part(path, table)  # type: ignore[arg-type]

    monkeypatch.setattr(filling, "write_part", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        capture(folder, corpus, tmp_path)
    again: list[str] = []

    def note(path: Path, table: object) -> str:
        again.append(path.name)
        return write_part(path, table)  # type: ignore[arg-type]

    monkeypatch.setattr(filling, "write_part", note)
    finished = capture(folder, corpus, tmp_path)
    assert parts_of(finished) == parts_of(whole)
    assert sorted(written + again) == sorted(parts_of(whole))
    assert len(written) == 5


def test_two_processes_capture_once(folder: Path, corpus: CorpusConfig, whole: Path, tmp_path: Path) -> None:
    first, second = children(folder, corpus, tmp_path, "together")
    assert first == second
    assert parts_of(Path(first)) == parts_of(whole)


def test_run_takes_the_stage_config(whole: Path, folder: Path, corpus: CorpusConfig) -> None:
    config = CaptureStageConfig(
        runs_dir=str(whole.parents[2]), model=ModelConfig("hf", id=str(folder)), corpus=corpus, capture=SETTINGS
    )
    assert stage.run(config) == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 1}, r"`capture\.k` must be at least 2, got 1\."),
        ({"k": 258}, r"`capture\.k` must be at most 257, the vocabulary of random_tiny, got 258\."),
        ({"min_context_tokens": 32}, r"`capture\.min_context_tokens` must be below 32, the context of random_tiny "),
        ({"min_context_tokens": 0}, r"`capture\.min_context_tokens` must be at least 1, got 0\."),
        ({"context_tokens": 8}, r"`capture\.min_context_tokens` must be below 8, the context of random_tiny within "),
        ({"rows_per_part": 0}, r"`capture\.rows_per_part` must be at least 1, got 0\."),
        ({"device": "tpu"}, r"`capture\.device` must be one of cpu.* on this machine, got 'tpu'\."),
    ],
)
def test_settings_that_cannot_be(
    changes: dict[str, object], message: str, folder: Path, corpus: CorpusConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        capture(folder, corpus, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["max_tokens", "max_document_tokens"])
def test_limits_that_cannot_be(name: str, folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^`corpus\.{name}` must be at least 1, got 0\.$"):
        capture(folder, replace(corpus, **{name: 0}), tmp_path)  # type: ignore[arg-type]


def test_unknown_condition(folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`condition` must be one of none, got 'axiomatic'\.$"):
        stage.capture(ModelConfig("hf", id=str(folder)), corpus, SETTINGS, condition="axiomatic", runs_dir=tmp_path)


def test_logits_that_are_not_numbers_leave_nothing(
    folder: Path, corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model = stage.load_model

    def broken(*args: object, **kwargs: object) -> object:
        loaded = load_model(*args, **kwargs)  # type: ignore[arg-type]
        next(iter(loaded.model.parameters())).data[ord("t")] = float("nan")
        return loaded

    monkeypatch.setattr(stage, "load_model", broken)
    with pytest.raises(InputError, match="must give finite logits"):
        capture(folder, corpus, tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


def test_quick_reading(whole: Path) -> None:
    opened: Capture = open_capture(whole)
    gaps = -np.diff(opened.read_matrix(["logit_1", "logit_2"]), axis=1)
    assert gaps.shape == (opened.n_rows, 1)
    assert (gaps >= 0).all()


def test_temperatures_are_kept_beside(whole: Path, folder: Path, corpus: CorpusConfig, tmp_path: Path) -> None:
    """In any order asked for, the logsumexp of the same logits divided by each."""
    made = open_capture(capture(folder, corpus, tmp_path, temperatures=[1.5, 0.7], k=257))
    names = ["logsumexp", "logsumexp_t0.7", "logsumexp_t1.5"]
    found = made.read(names)
    _, logits = made.top_k()
    for name, temperature in zip(names, (1.0, 0.7, 1.5), strict=True):
        expected = np.log(np.exp(logits.astype(np.float64) / temperature).sum(axis=1))
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6)
    assert made.manifest["temperatures"] == [1.0, 0.7, 1.5]
    np.testing.assert_array_equal(found["logsumexp"], open_capture(whole).read(["logsumexp"])["logsumexp"])
    other_order = capture(folder, corpus, tmp_path, temperatures=[0.7, 1.5], k=257)
    assert other_order == made.folder
