"""The extraction script as strangers run it: a copy of the file in a process, and from its output to a test."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brf_exp.models.reference import EMBEDDED
from brf_exp.paths import PACKAGE

pytest.importorskip("torch")
SCRIPT = PACKAGE / "standalone" / "extract_topk.py"
# These models are so small that threads only wait for each other.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
FAST = ("evaluation.n_resamples=199", "evaluation.n_repairings=99", "evaluation.n_negative_controls=20")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A copy of the script, run by an interpreter that sees nothing of the project's folder."""
    copy = tmp_path / "copied" / "extract_topk.py"
    copy.parent.mkdir()
    copy.write_bytes(SCRIPT.read_bytes())
    return [sys.executable, "-I", str(copy)]


def _run(command: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [*command, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env=ONE_THREAD)


def _brf_exp(*arguments: object) -> Path:
    done = _run([sys.executable, "-m", "brf_exp"], *arguments)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_from_a_text_to_both_tests(command: list[str], many: Path, tmp_path: Path) -> None:
    """Two models, then what the first one's last lines say to do, down to results."""
    out, runs = tmp_path / "my-pair", tmp_path / "runs"
    first = _run(command, "--model", EMBEDDED / "tiny_prose", "--text", many, "--out", out, "--k", 20)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == f"  python {command[-1]} --model SECOND/MODEL --out {out}"
    second = _run(command, "--model", EMBEDDED / "tiny_code", "--out", out, "--k", 20)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == f"  brf-exp ingest submission={out}"
    packed = _run([sys.executable, "-m", "zipfile"], "-c", tmp_path / "my-pair.zip", out)
    assert packed.returncode == 0
    folder = _brf_exp("ingest", f"submission={tmp_path / 'my-pair.zip'}", f"runs_dir={runs}")
    assert json.loads((folder / "pair.json").read_text())["stages"]["discriminate"] is True
    for stage in ("coherence", "discriminate"):
        made = _brf_exp(stage, "pair=my-pair", f"runs_dir={runs}", "evaluation.controls=false", *FAST)
        results = json.loads((made / "results.json").read_text())
        assert results["n_documents"] == 40
        assert results["verdict"] in ("supported", "falsified", "inconclusive")


def test_tokens_of_two_kinds_are_compared_by_characters(command: list[str], many: Path, tmp_path: Path) -> None:
    out, runs = tmp_path / "my-pair", tmp_path / "runs"
    for model in ("tiny_prose", "tiny_bytes"):
        done = _run(command, "--model", EMBEDDED / model, "--text", many, "--out", out)
        assert done.returncode == 0, done.stderr
    folder = _brf_exp("ingest", f"submission={out}", f"runs_dir={runs}")
    record = json.loads((folder / "pair.json").read_text())
    assert record["stages"]["coherence"] is True
    assert record["shared_ids"] is False


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bytes(command: list[str], tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"text": f"Story {n}. " + "Once upon a time there was a ball. " * (n % 7 + 3)}) for n in range(120)
    ]
    texts.write_text("\n".join(lines))
    arguments = ["--model", EMBEDDED / "tiny_prose", "--text", texts, "--batch-tokens", 200, "--name", "same"]
    assert _run(command, *arguments, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "out"
    journal = out / ".a.partial" / "journal.jsonl"
    line = [*command, *map(str, arguments), "--out", str(out)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ONE_THREAD)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.is_file() and journal.read_text().count("\n") > 5):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "submission.yaml").exists()
    done = _run(command, *arguments, "--out", out)
    assert done.returncode == 0
    assert "going on behind" in done.stderr
    for name in ("a.csv.gz", "texts.jsonl", "submission.yaml"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (out / ".a.partial").exists()


@pytest.mark.slow
def test_in_an_environment_of_its_own(tmp_path: Path, many: Path) -> None:
    """torch and transformers and nothing else, as the inline metadata ask for."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "torch==2.13.0", "transformers"], check=True)
    for model in ("tiny_prose", "tiny_code"):
        done = _run([str(python), str(SCRIPT)], "--model", EMBEDDED / model, "--text", many, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    generated = _run(
        [str(python), str(SCRIPT)], "--model", EMBEDDED / "tiny_prose", "--text", many, "--out", tmp_path / "answers",
        "--generate", "--max-new-tokens", 16,
    )  # fmt: skip
    assert generated.returncode == 0, generated.stderr
    _brf_exp("ingest", f"submission={tmp_path / 'out'}", f"runs_dir={tmp_path / 'runs'}")
