"""The built wheel: it brings its YAML options, embedded models and command."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = ("__pycache__", ".git", ".venv", "runs", "*_cache", "*.partial")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the source tree, without fetching anything."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    source = tmp_path_factory.mktemp("source") / "brf_exp"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*SKIPPED))
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files in a folder of their own, as an installer lays them out."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _command(installed: Path, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`brf-exp` from the installed files; the source tree is not on the path."""
    entry = "import sys; from brf_exp.cli import entry_point; sys.exit(entry_point())"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-c", entry, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment
    )


def _shipped(pattern: str, *, below: Path) -> set[str]:
    return {str(path.relative_to(below)) for path in below.rglob(pattern)}


def test_every_option_is_in_the_wheel(installed: Path) -> None:
    expected = _shipped("*.yaml", below=ROOT / "conf")
    assert "run.yaml" in expected
    assert _shipped("*.yaml", below=installed / "brf_exp" / "conf") == expected


def test_every_file_of_the_package_is_in_the_wheel(installed: Path) -> None:
    kept = {
        str(path.relative_to(ROOT / "brf_exp"))
        for path in (ROOT / "brf_exp").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    there = _shipped("*", below=installed / "brf_exp")
    assert kept - there == set()


def test_the_wheel_has_the_command_and_the_licence(installed: Path) -> None:
    [entry_points] = installed.glob("*.dist-info/entry_points.txt")
    assert "brf-exp = brf_exp.cli:entry_point" in entry_points.read_text()
    assert list(installed.glob("*.dist-info/licenses/LICENSE"))


def test_the_installed_command_runs_from_its_own_files(installed: Path, tmp_path: Path) -> None:
    where = "import brf_exp.paths; print(brf_exp.paths.conf_dir())"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", where], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout.strip() == str(installed / "brf_exp" / "conf")
    assert _command(installed, tmp_path, "--version").stdout.startswith("brf-exp ")
    assert "pair=tiny" in _command(installed, tmp_path, "run", "--help").stdout


def test_the_installed_command_composes(installed: Path, tmp_path: Path) -> None:
    done = _command(installed, tmp_path, "run", "--cfg", "job", "phase=tanh")
    assert done.returncode == 0, done.stderr
    assert "a: tiny_prose" in done.stdout
    assert "name: tanh" in done.stdout
