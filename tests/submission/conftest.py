"""A small sound submission, which each test spoils in one place."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import logsumexp

K = 4
VOCABULARY = 11


class SubmissionFolder:
    """Tables and description in memory until `write`."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.description: dict[str, Any] = {
            "schema": 1,
            "name": "my-pair",
            "submitter": "anyone",
            "models": {key: self.entry(key) for key in "ab"},
        }
        self.rows = pd.DataFrame(
            {
                "doc_id": ["d1"] * 3 + ["d2"] * 4,
                "position": [0, 1, 2, 0, 1, 5, 7],
                "token_id": self.rng.integers(VOCABULARY, size=7),
            }
        )
        self.tables = {key: self.table() for key in "ab"}
        self.texts: str | None = None

    @staticmethod
    def entry(key: str) -> dict[str, Any]:
        """One model's entry."""
        return {
            "name": f"org/model-{key}",
            "revision": "abc123",
            "tokenizer": "letters",
            "vocab_size": VOCABULARY,
            "value_kind": "logit",
            "temperature": 1.0,
            "capture": f"{key}.csv",
        }

    def table(self) -> pd.DataFrame:
        """One model's rows, from random logits over the whole vocabulary."""
        logits = self.rng.normal(scale=3, size=(len(self.rows), VOCABULARY)).astype(np.float32)
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :K]
        table = self.rows.copy()
        table["logsumexp"] = logsumexp(logits.astype(np.float64), axis=1)
        table["target_logit"] = logits[np.arange(len(logits)), table["token_id"]]
        for rank in range(K):
            table[f"id_{rank + 1}"] = ids[:, rank]
        for rank in range(K):
            table[f"logit_{rank + 1}"] = np.take_along_axis(logits, ids, axis=1)[:, rank]
        return table

    def drop(self, *names: str) -> None:
        """Leave columns out of both tables."""
        self.tables = {key: table.drop(columns=list(names)) for key, table in self.tables.items()}

    def set_capture(self, suffix: str) -> None:
        """Write both tables in another format."""
        for key, entry in self.description["models"].items():
            entry["capture"] = key + suffix

    def write(self) -> Path:
        """The folder, written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "submission.yaml").write_text(yaml.safe_dump(self.description, sort_keys=False))
        for key, table in self.tables.items():
            path = self.folder / self.description["models"][key]["capture"]
            if path.suffix == ".parquet":
                table.to_parquet(path, index=False)
            else:
                table.to_csv(path, index=False)
        if self.texts is not None:
            (self.folder / "texts.jsonl").write_text(self.texts)
        return self.folder


@pytest.fixture
def submission(tmp_path: Path) -> SubmissionFolder:
    """A sound submission."""
    return SubmissionFolder(tmp_path / "submitted")
