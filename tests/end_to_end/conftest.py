import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.cli import main

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SUBMISSION = SHARED / "submissions" / "textgenrnn-hn"
SMALL = (
    "corpus.max_documents=40",
    "corpus.max_document_tokens=64",
    "evaluation.n_resamples=499",
    "evaluation.n_repairings=199",
    "evaluation.n_negative_controls=50",
)


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own."""

    def run(*arguments: object, timeout: int = 300) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "brf_exp", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def results(command: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., dict[str, Any]]:
    """Run a stage and read the results.json of the folder on its last line."""

    def run(*arguments: object) -> dict[str, Any]:
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.splitlines()[-1])
        assert folder.is_absolute()
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))

    return run


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Settings of a small run."""
    return SMALL


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Run a stage in this process; the folder on its last line. Nothing may be said on stderr."""

    def run(*arguments: object) -> Path:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert (code, said.err) == (0, "")
        return Path(said.out.splitlines()[-1])

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a stage that must refuse its input with exit code 2 and one line; the line."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert said.err.startswith("brf-exp: ")
        assert said.err.count("\n") == 1
        return said.err.removeprefix("brf-exp: ").rstrip("\n")

    return run


@pytest.fixture
def submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """A function that writes and ingests a submission `mine` of the least columns; returns the runs folder.

    Models a, b, ... have the given gaps; `columns` are all models', a file without doc_id is one document.
    """

    def ingest(gaps: Mapping[str, np.ndarray], **columns: np.ndarray) -> Path:
        folder, runs = tmp_path / "submission", tmp_path / "runs"
        folder.mkdir()
        for key, values in gaps.items():
            rows = {**columns, "logit_1": np.asarray(values, np.float32), "logit_2": np.zeros(len(values))}
            rows.setdefault("position", np.arange(len(values)))
            lines = [",".join(rows), *(",".join(map(str, row)) for row in zip(*rows.values(), strict=True))]
            (folder / f"{key}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        model = "{{name: model-{0}, tokenizer: words, vocab_size: 99, value_kind: logit, capture: {0}.csv}}"
        models = "".join(f"  {key}: {model.format(key)}\n" for key in gaps)
        (folder / "submission.yaml").write_text(f"schema: 1\nname: mine\nmodels:\n{models}", encoding="utf-8")
        assert main(["ingest", f"submission={folder}", f"runs_dir={runs}"]) == 0
        capsys.readouterr()
        return runs

    return ingest


@pytest.fixture(scope="session")
def three(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `run` on three embedded models, small; their captures lie in its runs folder."""
    # The planted worlds take half of the time, and the run on two models has them.
    fast = ("evaluation.controls=false", "evaluation.n_resamples=99", f"runs_dir={tmp_path_factory.mktemp('three')}")
    done = command("run", "pair=tiny3", *SMALL[:2], *SMALL[3:], *fast)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def embedded(three: Path) -> dict[str, str]:
    """Folders of the embedded models' captures, by model."""
    return {path.parent.parent.name: str(path.parent) for path in three.parents[1].glob("captures/*/*/capture.json")}


@pytest.fixture(scope="session")
def submission() -> Path:
    if not SUBMISSION.is_dir():
        pytest.skip("the reference submission is not there")
    return SUBMISSION
