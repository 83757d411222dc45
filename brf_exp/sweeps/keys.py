"""What makes two jobs the same: everything that determines the result, and nothing else."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import brf_exp
from brf_exp.config import StageConfig
from brf_exp.overrides import LIST_KEYS, PATH_KEYS
from brf_exp.settings import settings_of

_KEY_CHARS = 16
_WRITTEN = frozenset(("out", "report", "runs_dir"))


def job_key(config: StageConfig, *, stage: str, runs_dir: Path) -> str:
    """The hash of everything that determines a job's result: settings, version, and the state of local files named."""
    determines = dataclasses.asdict(config)
    del determines["progress"]
    # A folder of results that is moved stays valid.
    determines["runs_dir"] = os.path.relpath(config.runs_dir, runs_dir)
    return content_hash([stage, brf_exp.__version__, determines, _files(config)])


def _files(config: StageConfig) -> dict[str, Any]:
    """Size and time of every local file that a setting names."""
    found = {}
    for key in sorted((PATH_KEYS | LIST_KEYS) & set(settings_of(type(config)))):
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        if key not in _WRITTEN:
            values = value if isinstance(value, list) else [value]
            found[key] = [_state(Path(text).expanduser()) for text in values if isinstance(text, str)]
    return found


def _state(path: Path) -> Any:
    try:
        members = sorted(path.iterdir()) if path.is_dir() else [path]
        return [[member.name, member.stat().st_size, member.stat().st_mtime_ns] for member in members]
    except OSError:
        return None


def content_hash(value: Any) -> str:
    """A short hash of plain data."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_CHARS]
