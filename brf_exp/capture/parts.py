"""A capture's parts: planned, computed, and trusted only where what lies on the disk is what was written."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from brf_exp.capture.forward import Scores
from brf_exp.capture.tokenise import TokenisedDocument
from brf_exp.capture.windows import plan_parts
from brf_exp.storage.captures import part_name, replacing, sha256_of
from brf_exp.storage.schema import arrow_schema, id_columns, logit_columns, temperature_column


@dataclass(frozen=True)
class PlannedPart:
    """One part before it is computed: which of the capture's documents, and how many rows they give.

    Where computing alone tells (`exact` is false), `rows` is the most it can be, and each document has one at least.
    """

    index: int
    documents: range
    rows: int
    exact: bool = True

    @property
    def name(self) -> str:
        """Its file's name."""
        return part_name(self.index)

    def allows(self, rows: int) -> bool:
        """Whether a file of so many rows can be this part."""
        return rows == self.rows if self.exact else len(self.documents) <= rows <= self.rows


def planned_parts(rows: Sequence[int], *, rows_per_part: int, exact: bool = True) -> list[PlannedPart]:
    """The parts of documents that give so many rows each."""
    return [
        PlannedPart(index, members, sum(rows[members.start : members.stop]), exact)
        for index, members in enumerate(plan_parts(rows, rows_per_part=rows_per_part))
    ]


@dataclass(frozen=True)
class Part:
    """One finished part file as capture.json names it."""

    name: str
    rows: int
    documents: int
    bytes: int
    sha256: str


class RowSource(Protocol):
    """Where a capture's rows come from: the same plan and the same rows in every process that has the same key."""

    @property
    def plan(self) -> Sequence[PlannedPart]:
        """All parts in order, known after `prepare`."""

    def prepare(self, folder: Path) -> None:
        """Write what is known beforehand; other processes may be at it in the same folder."""

    def compute(self, part: PlannedPart, on_tokens: Callable[[int], None]) -> Callable[[], pa.Table]:
        """Compute a part, telling `on_tokens` the positions of each batch; what is returned makes its table.

        The table is made in the thread that writes, while the next part is computed. `on_tokens` raises
        KeyboardInterrupt where someone asked to stop.
        """

    def finish(self, folder: Path, parts: Sequence[Part]) -> None:
        """Write what only all the parts tell; nobody else is at it."""

    def facts(self) -> dict[str, Any]:
        """What capture.json says of the rows beyond the model and the settings, known after `finish`."""


@dataclass(frozen=True)
class Identity:
    """What every trusted part shares: its capture's key and the versions of the packages that computed it."""

    key: str
    made_by: dict[str, str]


def side_file(path: Path) -> Path:
    """Where an unfinished capture keeps what it knows of a finished part."""
    return path.with_suffix(".json")


def write_side_file(folder: Path, part: Part, identity: Identity) -> None:
    """Vouch for a part that is on the disk."""
    with replacing(side_file(folder / part.name)) as partial:
        partial.write_text(json.dumps({**asdict(part), **asdict(identity)}), encoding="utf-8")


def find_part(folder: Path, planned: PlannedPart, identity: Identity) -> tuple[Part | None, str]:
    """A part that is there as planned; else None, and why one that is there cannot be used (empty: none is there)."""
    path = folder / planned.name
    if not side_file(path).exists():
        return None, ""
    try:
        stated = json.loads(side_file(path).read_text(encoding="utf-8"))
        part = Part(**{name: stated.pop(name) for name in Part.__dataclass_fields__})
        allowed = planned.allows(part.rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "its side file is damaged"
    if stated.get("key") != identity.key:
        return None, "it is of another capture"
    if stated != asdict(identity):
        return None, f"it was made by {_versions(stated.get('made_by'))}, not {_versions(identity.made_by)}"
    if part.name != planned.name or part.documents != len(planned.documents) or not allowed:
        return None, "it has other documents"
    return (part, "") if _is_as_written(path, part) else (None, "its bytes are not those that were written")


def _is_as_written(path: Path, part: Part) -> bool:
    try:
        whole = path.stat().st_size == part.bytes and sha256_of(path) == part.sha256
        return whole and pq.read_metadata(path).num_rows == part.rows
    except (OSError, pa.ArrowInvalid):
        return False


def _versions(made_by: Any) -> str:
    if not isinstance(made_by, dict):
        return "unknown packages"
    return ", ".join(f"{name} {version}" for name, version in sorted(made_by.items()))


def part_table(
    documents: Sequence[TokenisedDocument],
    scores: Scores,
    *,
    n_unscored: int | Sequence[int],
    temperatures: Sequence[float] = (),
) -> pa.Table:
    """Rows of the capture format; the first `n_unscored` tokens of each document, or of all alike, have none."""
    k = scores.ids.shape[1]
    firsts = np.broadcast_to(n_unscored, len(documents)).tolist()
    cut = list(zip(documents, firsts, strict=True))
    lengths = [document.n_tokens - first for document, first in cut]
    columns: dict[str, Any] = {
        "doc_id": np.repeat(np.array([document.document.doc_id for document in documents], dtype=object), lengths),
        "position": np.concatenate([np.arange(first, document.n_tokens) for document, first in cut]),
        "token_id": np.concatenate([document.token_ids[first:] for document, first in cut]),
        "char_start": np.concatenate([document.char_start[first:] for document, first in cut]),
        "char_end": np.concatenate([document.char_end[first:] for document, first in cut]),
        "logsumexp": scores.logsumexp,
        "target_logit": scores.target_logit,
        "target_rank": scores.target_rank,
        "entropy": scores.entropy,
        **dict(zip(map(temperature_column, temperatures), scores.tempered.T, strict=True)),
        **dict(zip(id_columns(k), scores.ids.T, strict=True)),
        **dict(zip(logit_columns(k), scores.logits.T, strict=True)),
    }
    schema = arrow_schema(list(columns))
    arrays = [pa.array(np.ascontiguousarray(columns[field.name]), type=field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
