"""Captures on disk: writing part files, opening a folder, reading columns of it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from brf_exp.errors import InputError, MissingInputError
from brf_exp.storage import schema

MANIFEST = "capture.json"
ROW_GROUP_ROWS = 65536


@dataclass(frozen=True)
class DocumentIndex:
    """Where each document's rows lie: `offsets` has one entry more than `doc_ids`."""

    doc_ids: tuple[str, ...]
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Rows of each document, shape (D,)."""
        return np.diff(self.offsets)


def part_name(index: int) -> str:
    """File name of the index-th part."""
    return f"part-{index:05d}.parquet"


def write_part(path: Path, table: pa.Table) -> str:
    """Write one part whole or not at all; returns the SHA-256 of its bytes."""
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    ids = [f.name for f in table.schema if f.name == "doc_id" or f.name == "token_id" or f.name.startswith("id_")]
    partial = path.with_name(path.name + ".partial")
    pq.write_table(
        table,
        partial,
        compression="zstd",
        row_group_size=ROW_GROUP_ROWS,
        use_dictionary=ids,
        use_byte_stream_split=floats,
        write_statistics=True,
    )
    partial.replace(path)
    return sha256_of(path)


def read_part(path: Path, names: Sequence[str]) -> pa.Table:
    """The named columns of one part file."""
    return pq.read_table(path, columns=list(names), partitioning=None, use_threads=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Capture:
    """One model's rows on disk: a folder with capture.json and its part files."""

    folder: Path
    manifest: dict[str, Any]

    @cached_property
    def _dataset(self) -> ds.Dataset:
        parts = [str(self.folder / part["name"]) for part in self.manifest["parts"]]
        return ds.dataset(parts, format="parquet")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns present."""
        return tuple(self._dataset.schema.names)

    @property
    def k(self) -> int:
        """Logits kept per position."""
        return schema.k_of(list(self.columns))

    @property
    def n_rows(self) -> int:
        """Positions."""
        return int(self.manifest["rows"])

    @property
    def model_name(self) -> str:
        """The model's name as its manifest has it."""
        return str(self.manifest["model"]["name"])

    def require(self, names: Sequence[str], *, purpose: str) -> None:
        """Raise InputError naming the columns that `purpose` needs and this capture lacks."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InputError(
                f"`{self.model_name}` must have the column(s) {', '.join(missing)} for {purpose}, "
                f"got {', '.join(n for n in self.columns if not n.startswith(('id_', 'logit_')))} and "
                f"{self.k} logits. Dump these columns as well and ingest the capture again."
            )

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The named numeric columns, each of shape (n_rows,)."""
        table = self._dataset.to_table(columns=list(names))
        return {name: table.column(name).to_numpy() for name in names}

    def read_matrix(self, names: Sequence[str]) -> np.ndarray:
        """Columns of one type side by side, shape (n_rows, len(names))."""
        return np.column_stack(list(self.read(names).values()))

    def top_k(self) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and logits, best first, both of shape (n_rows, k)."""
        return self.read_matrix(schema.id_columns(self.k)), self.read_matrix(schema.logit_columns(self.k))

    def iter_batches(self, names: Sequence[str], *, n_rows: int) -> Iterator[pa.RecordBatch]:
        """The named columns in batches of at most `n_rows`, in order."""
        yield from self._dataset.to_batches(columns=list(names), batch_size=n_rows)

    @cached_property
    def documents(self) -> DocumentIndex:
        """The documents in row order. Rows of a document are contiguous."""
        column = self._dataset.to_table(columns=["doc_id"]).column("doc_id").combine_chunks()
        encoded = column.dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = encoded.indices.to_numpy()
        starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1]) if codes.size else np.empty(0, np.int64)
        names = encoded.dictionary.to_pylist()
        doc_ids = tuple(names[codes[start]] for start in starts)
        if len(set(doc_ids)) != len(doc_ids):
            raise InputError(f"`{self.folder.name}` must keep the rows of a document together. Sort it by doc_id.")
        return DocumentIndex(doc_ids, np.append(starts, codes.size).astype(np.int64))


def open_capture(folder: Path) -> Capture:
    """The capture in a folder; MissingInputError where there is none."""
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise MissingInputError(
            f"`{folder}` must be a capture folder with a {MANIFEST}, got none. Make one with `brf-exp capture`."
        )
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    if manifest.get("schema") != schema.CAPTURE_SCHEMA:
        raise InputError(
            f"`{manifest_path}` must have schema {schema.CAPTURE_SCHEMA}, got {manifest.get('schema')!r}. "
            "Capture again with this version."
        )
    for part in manifest["parts"]:
        if Path(part["name"]).name != part["name"]:
            raise InputError(f"`{manifest_path}` must name parts inside its own folder, got {part['name']!r}.")
        if not (folder / part["name"]).is_file():
            raise MissingInputError(f"`{folder / part['name']}` must exist. Delete the folder and capture again.")
    return Capture(folder, manifest)
