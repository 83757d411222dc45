"""Run folders: content keys, strict JSON, folders that are whole or absent, manifests, locks."""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import brf_exp
from brf_exp.errors import InputError, MissingInputError
from brf_exp.storage.locks import flock
from brf_exp.storage.space import FULL

RESULTS = "results.json"
MANIFEST = "manifest.json"
CONFIG = "config.yaml"
PACKAGES = (
    "astropy",
    "datasets",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


def jsonable(value: Any, path: str = "$") -> Any:
    """Plain JSON types from dataclasses, numpy values and paths; NaN and infinity raise ValueError by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): jsonable(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [jsonable(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"not a finite number at {path}: {value}")
    return value


def to_json(value: Any) -> str:
    """Indented JSON text with a newline at its end; strict."""
    return json.dumps(jsonable(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON."""
    path.write_text(to_json(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_config(path: Path, config: Any) -> None:
    """A stage's settings as YAML, less where they were used and how that looked."""
    settings = {name: value for name, value in jsonable(config).items() if name not in ("runs_dir", "progress")}
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")


def content_key(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of everything that determines an artefact."""
    text = json.dumps(jsonable(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def slug(name: str) -> str:
    """A name as one safe folder name."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return safe[:80] or "unnamed"


def stage_folder(runs_dir: Path, stage: str, name: str, key: str) -> Path:
    """runs/<stage>/<name>-<hash8>."""
    return runs_dir / stage / f"{slug(name)}-{key[:8]}"


@contextlib.contextmanager
def building(final: Path) -> Iterator[Path]:
    """A fresh `.partial` sibling to fill; renamed to `final` when the block ends without an error."""
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)


def lock_path(final: Path) -> Path:
    """The lock file of a folder to be made: hidden, so that listings show results only."""
    return final.with_name(f".{final.name}.lock")


@contextlib.contextmanager
def locked(final: Path) -> Iterator[None]:
    """Hold the lock of a folder to be made; waits for another process, and is released by death."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        message = f"`runs_dir` must be a folder to write to, got {error.strerror}: {final.parent}. Choose another."
        raise InputError(message) from error
    with lock_path(final).open("w") as file:
        flock(file, fcntl.LOCK_EX, lock_path(final))
        yield


def load_results(folder: Path, *, made_by: str) -> dict[str, Any]:
    """results.json of a stage folder; MissingInputError names the command that makes it."""
    path = folder / RESULTS
    if not path.is_file():
        raise MissingInputError(f"`{path}` must exist. Make it with `{made_by}`.")
    return read_json(path)


def manifest(*, stage: str, key: str, determines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What made an artefact; times, device and commit stand apart in `environment`."""
    return {
        "schema": 1,
        "stage": stage,
        "key": key,
        "determines": determines,
        **more,
        "packages": package_versions(),
        "environment": environment(),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages whose numbers these are."""
    found = {"brf-exp": brf_exp.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def environment() -> dict[str, Any]:
    """Where and when: outside every key and comparison."""
    commit, dirty = _git_state()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "platform": platform.platform(),
        "n_cpus": os.cpu_count(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the source tree the package runs from; None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        status = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(status.strip())
