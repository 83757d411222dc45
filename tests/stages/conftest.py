"""Small captures with rows of one's choice, and settings under which the Phase Coherence Test is fast."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from brf_exp.config import CoherenceStageConfig
from brf_exp.storage.parts import PartWriter
from brf_exp.storage.runs import write_json
from brf_exp.storage.schema import arrow_schema

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
