"""A disk that is full for real: a small file system in memory."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

Submission = Any
N_ROWS, N_COLUMNS = 6000, 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "brf-exp-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def incompressible(submission: Submission) -> Path:
    """A submission that takes about 1.9 MB as a CSV of few digits and more as Parquet."""
    values = -np.sort(-submission.rng.normal(size=(N_ROWS, N_COLUMNS)), axis=1).round(3)
    names = [f"logit_{rank + 1}" for rank in range(N_COLUMNS)]
    for key in "ab":
        submission.tables[key] = pd.DataFrame(values, columns=names).assign(position=np.arange(N_ROWS))
        submission.description["models"][key]["vocab_size"] = 500
    folder: Path = submission.write()
    return folder


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_full_disk_is_one_line_and_leaves_nothing(below: str, submission: Submission, small_disk: Path) -> None:
    (small_disk / "kept").write_bytes(bytes(900_000))
    before = sorted(small_disk.rglob("*"))
    words = ["ingest", f"submission={incompressible(submission)}", f"runs_dir={small_disk / below}"]
    code = (
        "import shutil, sys; from brf_exp.cli import main\n"
        "usage = shutil.disk_usage('/'); shutil.disk_usage = lambda path: usage._replace(free=2**40)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "must have room for this submission, got a full disk. Free some." in done.stderr
    assert sorted(small_disk.rglob("*")) == before


def test_too_little_room_is_told_before_anything_is_written(submission: Submission, small_disk: Path) -> None:
    (small_disk / "kept").write_bytes(bytes(1_900_000))
    before = sorted(small_disk.rglob("*"))
    words = ["ingest", f"submission={incompressible(submission)}", f"runs_dir={small_disk}"]
    done = subprocess.run([sys.executable, "-m", "brf_exp", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("brf-exp: `runs_dir` must have about ") and done.stderr.count("\n") == 1
    assert sorted(small_disk.rglob("*")) == before
