"""What the scripts do where Slurm is not to be had."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs for a PATH of its own, in which this is no root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "chmod", "dirname", "hostname", "mkdir", "realpath"):
        (folder / name).symlink_to(shutil.which(name) or name)
    _program(folder / "id", "echo 1000")
    return folder


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("environment", "with_slurm"), [({}, False), ({"CI": "true"}, True)])
def test_a_plain_user_is_told_that_slurm_is_left_out(
    environment: dict[str, str], with_slurm: bool, tools: Path, tmp_path: Path
) -> None:
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    shutil.copy(ROOT / ".ci" / "run", script)
    _program(tools / "make", 'echo "made $1"')
    done = subprocess.run(
        [script], env={"PATH": str(tools), **environment}, capture_output=True, text=True, check=True, timeout=30
    )
    assert ("made slurm" in done.stdout) == with_slurm
    assert ("Skipped: the tests on Slurm need root." in done.stdout) != with_slurm
    assert done.stdout.splitlines()[0] == "made test"
    assert done.stdout.splitlines()[-1] == "made check"


def test_every_missing_daemon_is_named(tools: Path, tmp_path: Path) -> None:
    script = tmp_path / "start"
    line = "PATH=$PATH:/usr/sbin:/sbin\n"
    text = (ROOT / "scripts" / "slurm" / "start").read_text()
    assert line in text
    script.write_text(text.replace(line, ""))  # a Slurm that this machine has is not looked for
    _program(tools / "slurmctld", "exit 1")
    done = subprocess.run(
        ["bash", script, tmp_path / "slurm"], env={"PATH": str(tools)}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert done.stderr == "slurm: slurmd munged is missing. Install slurm-wlm and munge.\n"
