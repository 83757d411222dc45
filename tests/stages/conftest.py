"""Small captures with rows of one's choice, and settings under which the Phase Coherence Test is fast."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.config import CaptureConfig, CoherenceStageConfig, CorpusConfig, ModelConfig, RecipeConfig
from brf_exp.storage.parts import PartWriter
from brf_exp.storage.runs import read_json, write_json
from brf_exp.storage.schema import arrow_schema

ROOT = Path(__file__).resolve().parents[2]
PASSED = {"planted": {"verdict": "supported"}, "twin": {"verdict": "falsified"}}


@pytest.fixture
def write_capture(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a capture with the given gaps under tmp_path; returns its folder."""

    def write(
        name: str,
        gaps: np.ndarray,
        lengths: Sequence[int],
        *,
        folder: str | None = None,
        doc_ids: Sequence[str] | None = None,
        rows_per_part: int = 65536,
        model: dict[str, Any] | None = None,
        counted_rows: int | None = None,
        **columns: np.ndarray,
    ) -> str:
        place, lengths = tmp_path / (folder or name), np.asarray(lengths)
        place.mkdir(parents=True)
        names = doc_ids or [f"d{number}" for number in range(lengths.size)]
        rows = {
            "doc_id": np.repeat(names, lengths),
            "position": np.concatenate([np.arange(0), *(np.arange(n) for n in lengths)]),
            "logit_1": np.asarray(gaps, dtype=np.float32),
            "logit_2": np.zeros(int(lengths.sum()), dtype=np.float32),
            **columns,
        }
        schema = arrow_schema(list(rows))
        batch = pa.RecordBatch.from_pydict({f.name: pa.array(rows[f.name], f.type) for f in schema}, schema=schema)
        writer = PartWriter(place, rows_per_part=rows_per_part)
        writer.add(batch, np.isin(np.arange(batch.num_rows), np.cumsum([0, *lengths])))
        manifest = {
            "schema": 1,
            "model": {"name": name, **(model or {})},
            "corpus": {"name": "file", "path": "/somewhere/proverbs.txt"},
            "rows": batch.num_rows if counted_rows is None else counted_rows,
            "documents": lengths.size,
            "parts": writer.finish(),
        }
        write_json(place / "capture.json", manifest)
        return str(place)

    return write


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., CoherenceStageConfig]:
    """A function that makes settings of stage `coherence` for capture folders; dotted keys as name__name."""

    def make(*captures: str, **more: Any) -> CoherenceStageConfig:
        config = CoherenceStageConfig(runs_dir=str(tmp_path / "runs"), captures=list(captures), progress=False)
        config.evaluation.n_resamples = config.evaluation.n_repairings = 99
        config.evaluation.n_negative_controls = 20
        for key, value in more.items():
            node: Any = config
            *path, last = key.split("__")
            for name in path:
                node = getattr(node, name)
            assert hasattr(node, last), key
            setattr(node, last, value)
        return config

    return make


@pytest.fixture
def controls_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted worlds, which take seconds and have tests of their own, count as passed."""
    monkeypatch.setattr("brf_exp.stages.coherence.planted_controls", lambda data, config: PASSED)


@pytest.fixture
def without_columns() -> Callable[..., None]:
    """A function that drops columns from a capture on the disk, as if it had been written without them."""

    def drop(folder: Path, *names: str) -> None:
        manifest = read_json(folder / "capture.json")
        for part in manifest["parts"]:
            path = folder / part["name"]
            pq.write_table(pq.read_table(path, partitioning=None).drop_columns(list(names)), path)
            part["bytes"] = path.stat().st_size
        write_json(folder / "capture.json", manifest)

    return drop


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random byte-level model that runs in no time."""
    from brf_exp.models.tiny import make_model, make_tokenizer

    recipe = RecipeConfig(
        byte_level=True, hidden_size=16, intermediate_size=24, n_layers=1, n_heads=2, context_tokens=32
    )
    folder = tmp_path_factory.mktemp("models") / "random_tiny"
    tokenizer = make_tokenizer([], byte_level=True)
    make_model(recipe, vocabulary_size=len(tokenizer), seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def few_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of 24 documents of unequal length, about 1200 bytes."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    texts = ["a few words of text no. " * (1 + n % 3) for n in range(24)]
    lines = [json.dumps({"id": f"doc-{n}", "text": text}) for n, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def capture_here(random_model: Path, few_words: Path) -> Callable[..., Path]:
    """Captures that model on those texts in this process."""
    from brf_exp.models.load import threads
    from brf_exp.stages.capture import capture

    def make(runs_dir: Path, **changes: Any) -> Path:
        settings = CaptureConfig(
            **{"k": 3, "batch_tokens": 64, "min_context_tokens": 4, "rows_per_part": 150} | changes
        )
        corpus = CorpusConfig(name="file", path=str(few_words), id_column="id")
        with threads(2):  # as many as the programs of `capturing` have: the last bits depend on it
            return capture(ModelConfig("hf", id=str(random_model)), corpus, settings, runs_dir=runs_dir)

    return make


@pytest.fixture(scope="session")
def capture_command(random_model: Path, few_words: Path) -> Callable[..., list[str]]:
    """The command line of a Python program that has `capture(runs_dir, **settings)`, with its arguments."""

    def command(program: str, *arguments: object) -> list[str]:
        return [sys.executable, "-c", CAPTURING + program, str(random_model), str(few_words), *map(str, arguments)]

    return command


@pytest.fixture(scope="session")
def capturing(capture_command: Callable[..., list[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs such a program."""

    def run(program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = capture_command(program, *arguments)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=check, timeout=240)

    return run


CAPTURING = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import torch, transformers
from brf_exp.config import CaptureConfig, CorpusConfig, ModelConfig
from brf_exp.stages import capture as stage
model, texts, *arguments = sys.argv[1:]
torch.set_num_threads(2)

def capture(runs_dir, **settings):
    corpus = CorpusConfig(name="file", path=texts, id_column="id")
    settings = CaptureConfig(**{"k": 3, "batch_tokens": 64, "min_context_tokens": 4, "rows_per_part": 150} | settings)
    return stage.capture(ModelConfig("hf", id=model), corpus, settings, runs_dir=Path(runs_dir))

def warmed():
    # Whatever a capture imports: its children do not have to. They cannot use threads that were begun here.
    torch.set_num_threads(1)
    from brf_exp.models.load import load_model
    stage.load_documents(CorpusConfig(name="file", path=texts, id_column="id"))
    load_model(stage.resolve(ModelConfig("hf", id=model)), "float32", "cpu")

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\\n".encode())
            os._exit(7)
        os._exit(0)
    return pid

def tell(line):
    os.write(1, f"{line}\\n".encode())  # one write: lines of several children must not mix

def content(folder):
    found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    for name in [name for name in found if name.endswith("capture.json")]:
        found[name] = {key: value for key, value in json.loads(found[name]).items() if key != "environment"}
    return found
"""
