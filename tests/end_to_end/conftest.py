import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SUBMISSION = SHARED / "submissions" / "textgenrnn-hn"


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
def submission() -> Path:
    if not SUBMISSION.is_dir():
        pytest.skip("the reference submission is not there")
    return SUBMISSION
