"""A capture's part files: each written whole, kept where an interrupted run left it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from brf_exp.capture.forward import Scores, score
from brf_exp.capture.tokenise import TokenisedDocument
from brf_exp.capture.windows import plan_parts
from brf_exp.config import CaptureConfig
from brf_exp.models.load import LoadedModel
from brf_exp.storage.captures import part_name, sha256_of, write_part
from brf_exp.storage.schema import FIXED_COLUMNS, arrow_schema, id_columns, logit_columns


@dataclass(frozen=True)
class Part:
    """One finished part file as capture.json names it."""

    name: str
    rows: int
    documents: int
    sha256: str


def write_parts(
    folder: Path,
    loaded: LoadedModel,
    documents: Sequence[TokenisedDocument],
    settings: CaptureConfig,
    *,
    made_by: dict[str, str],
    on_tokens: Callable[[int], None],
) -> list[Part]:
    """Write every part that `folder` does not have yet; returns all of them in order.

    A part is taken as it stands when its side file names the same rows, hash and `made_by` (the versions of the
    packages that computed it). `on_tokens` is told the positions done, those of parts taken over included.
    """
    n_unscored = 0 if loaded.beginning_id is not None else 1
    rows = [document.n_tokens - n_unscored for document in documents]
    parts = []
    for index, members in enumerate(plan_parts(rows, rows_per_part=settings.rows_per_part)):
        n_rows = sum(rows[i] for i in members)
        planned = {"rows": n_rows, "documents": len(members), "made_by": made_by}
        path = folder / part_name(index)
        digest = _finished(path, planned)
        if digest is None:
            table = _score_part(loaded, [documents[i] for i in members], settings, on_tokens)
            digest = write_part(path, table)
            _write_side_file(path, {**planned, "sha256": digest})
        else:
            on_tokens(n_rows)
        parts.append(Part(path.name, n_rows, len(members), digest))
    return parts


def remove_side_files(folder: Path) -> None:
    """Drop what only an unfinished capture needs."""
    for path in folder.glob("part-*.json*"):
        path.unlink()


def _side_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _finished(path: Path, planned: dict[str, Any]) -> str | None:
    """SHA-256 of a part that is already there as planned; None where it must be written."""
    try:
        stated = json.loads(_side_file(path).read_text(encoding="utf-8"))
        found = sha256_of(path)
    except (OSError, ValueError):
        return None
    return found if stated == {**planned, "sha256": found} else None


def _write_side_file(path: Path, content: dict[str, Any]) -> None:
    side = _side_file(path)
    partial = side.with_name(side.name + ".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(side)


def _score_part(
    loaded: LoadedModel,
    documents: Sequence[TokenisedDocument],
    settings: CaptureConfig,
    on_tokens: Callable[[int], None],
) -> pa.Table:
    beginning = [] if loaded.beginning_id is None else [loaded.beginning_id]
    scores = score(
        loaded,
        [np.concatenate([np.array(beginning, np.int32), document.token_ids]) for document in documents],
        k=settings.k,
        batch_tokens=settings.batch_tokens,
        min_context_tokens=settings.min_context_tokens,
        on_tokens=on_tokens,
    )
    return part_table(documents, scores, n_unscored=1 - len(beginning))


def part_table(documents: Sequence[TokenisedDocument], scores: Scores, *, n_unscored: int) -> pa.Table:
    """Rows of the capture format; the first `n_unscored` tokens of each document have none."""
    k = scores.ids.shape[1]
    lengths = [document.n_tokens - n_unscored for document in documents]
    columns: dict[str, Any] = {
        "doc_id": np.repeat(np.array([document.document.doc_id for document in documents], dtype=object), lengths),
        "position": np.concatenate([np.arange(n_unscored, document.n_tokens) for document in documents]),
        "token_id": np.concatenate([document.token_ids[n_unscored:] for document in documents]),
        "char_start": np.concatenate([document.char_start[n_unscored:] for document in documents]),
        "char_end": np.concatenate([document.char_end[n_unscored:] for document in documents]),
        "logsumexp": scores.logsumexp,
        "target_logit": scores.target_logit,
        "target_rank": scores.target_rank,
        "entropy": scores.entropy,
        **dict(zip(id_columns(k), scores.ids.T, strict=True)),
        **dict(zip(logit_columns(k), scores.logits.T, strict=True)),
    }
    schema = arrow_schema([column.name for column in FIXED_COLUMNS] + id_columns(k) + logit_columns(k))
    arrays = [pa.array(np.ascontiguousarray(columns[field.name]), type=field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
