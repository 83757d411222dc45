"""Captures on disk: writing part files, opening a folder, reading columns of it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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


def write_part(path: Path, table: pa.Table, *, row_group_rows: int = ROW_GROUP_ROWS) -> str:
    """Write one part whole or not at all; returns the SHA-256 of its bytes."""
    with open_part(path, table.schema) as file:
        file.write_table(table, row_group_size=row_group_rows)
    return finish_part(path)


def open_part(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A part to be written row group by row group, under a name of its own until `finish_part`."""
    return pq.ParquetWriter(
        _partial(path),
        schema,
        compression="zstd",
        use_dictionary=[n for n in schema.names if n in ("doc_id", "token_id") or n.startswith("id_")],
        use_byte_stream_split=[f.name for f in schema if pa.types.is_floating(f.type)],
        write_statistics=True,
    )


def finish_part(path: Path) -> str:
    """Give a written part its name; returns the SHA-256 of its bytes."""
    _partial(path).replace(path)
    return sha256_of(path)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def read_part(path: Path, names: Sequence[str]) -> pa.Table:
    """The named columns of one part file."""
    return pq.read_table(path, columns=list(names), partitioning=None, use_threads=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Capture:
    """One model's rows on disk: a folder with capture.json and its part files.

    `most_logits`: how many of the logits per row are looked at, the best ones; None: all.
    """

    folder: Path
    manifest: dict[str, Any]
    most_logits: int | None = None

    @cached_property
    def _dataset(self) -> ds.Dataset:
        parts = [str(self.folder / part["name"]) for part in self.manifest["parts"]]
        with self._readable():
            return ds.dataset(parts, format="parquet")

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """InputError where part files are cut off, overwritten, or of other columns."""
        try:
            yield
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            text = str(error).splitlines()[0].rstrip(".")
            raise InputError(f"`{self.folder}` must hold whole part files: {text}. Capture or ingest again.") from error

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns present."""
        names = self._dataset.schema.names
        if self.most_logits is None:
            return tuple(names)
        beyond = {f"{kind}_{place}" for kind in ("id", "logit") for place in range(self.most_logits + 1, len(names))}
        return tuple(name for name in names if name not in beyond)

    @property
    def k(self) -> int:
        """Logits kept per position."""
        return schema.k_of(list(self.columns))

    @property
    def vocabulary_size(self) -> int | None:
        """Outcomes of the model's distribution, where its manifest tells."""
        size = self.manifest["model"].get("vocabulary_size")
        return None if size is None else int(size)

    @property
    def n_rows(self) -> int:
        """Positions."""
        return int(self.manifest["rows"])

    @property
    def model_name(self) -> str:
        """The model's name as its manifest has it."""
        return str(self.manifest["model"]["name"])

    def truncated(self, k: int) -> "Capture":
        """The same rows as if only the best k logits had been kept."""
        return replace(self, most_logits=k)

    def require(self, names: Sequence[str], *, purpose: str) -> None:
        """Raise InputError naming the columns that `purpose` needs and this capture lacks."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InputError(
                f"`{self.model_name}` must have the column(s) {', '.join(missing)} for {purpose}, "
                f"got {', '.join(n for n in self.columns if not n.startswith(('id_', 'logit_')))} and "
                f"{self.k} logits. Dump these columns as well and ingest the capture again."
            )

    def require_whole(self) -> None:
        """Raise InputError where the part files do not hold the rows that the manifest counts; no row is read."""
        with self._readable():
            found = self._dataset.count_rows()
        if found != self.n_rows:
            raise InputError(
                f"`{self.folder}` must hold the {self.n_rows} rows that its {MANIFEST} counts, got {found}. "
                "Capture or ingest again."
            )

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The named numeric columns, each of shape (n_rows,)."""
        with self._readable():
            table = self._dataset.to_table(columns=list(names))
        return {name: table.column(name).to_numpy() for name in names}

    def read_matrix(self, names: Sequence[str]) -> np.ndarray:
        """Columns of one type side by side, shape (n_rows, len(names))."""
        return np.column_stack(list(self.read(names).values()))

    def top_k(self) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and logits, best first, both of shape (n_rows, k)."""
        return self.read_matrix(schema.id_columns(self.k)), self.read_matrix(schema.logit_columns(self.k))

    def iter_batches(self, names: Sequence[str], *, n_rows: int) -> Iterator[pa.RecordBatch]:
        """The named columns in batches of at most `n_rows`, in order; one row group at a time is in memory.

        A dataset scanner would read ahead as long as the consumer is slower, up to a gigabyte whatever it is told.
        """
        for part in self.manifest["parts"]:
            with self._readable():
                yield from self._part_batches(self.folder / part["name"], list(names), n_rows)

    def _part_batches(self, path: Path, names: list[str], n_rows: int) -> Iterator[pa.RecordBatch]:
        expected = {field.name: field.type for field in self._dataset.schema}
        found = {field.name: field.type for field in pq.read_schema(path)}
        if any(found.get(name) != expected[name] for name in names):
            raise pa.ArrowInvalid(f"{path.name} has not the columns of the first part")
        # Names of documents as codes: a string per row would cost more than all numbers together.
        codes = [name for name in names if name == "doc_id"]
        with pq.ParquetFile(path, read_dictionary=codes, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=n_rows, columns=names, use_threads=False)

    @cached_property
    def documents(self) -> DocumentIndex:
        """The documents in row order. Rows of a document are contiguous."""
        index = DocumentCollector(self.folder.name)
        for batch in self.iter_batches(["doc_id"], n_rows=ROW_GROUP_ROWS):
            index.add(*document_starts(batch), batch.num_rows)
        return index.finish()


class DocumentCollector:
    """Builds a DocumentIndex from batches of rows; `name` is what errors call the capture."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._doc_ids: list[str] = []
        self._starts: list[np.ndarray] = []
        self._n_rows = 0

    def add(self, starts: np.ndarray, names: list[str], n_rows: int) -> None:
        """Take a batch in: rows at which the document's name changes (0 among them), and the names there."""
        goes_on = bool(self._doc_ids) and bool(names) and names[0] == self._doc_ids[-1]
        self._doc_ids += names[goes_on:]
        self._starts.append(starts[goes_on:] + self._n_rows)
        self._n_rows += n_rows

    def finish(self) -> DocumentIndex:
        """The index; InputError where the rows of a document do not lie together."""
        if len(set(self._doc_ids)) != len(self._doc_ids):
            raise InputError(f"`{self._name}` must keep the rows of a document together. Sort it by doc_id.")
        starts = np.concatenate([*self._starts, [self._n_rows]]).astype(np.int64)
        return DocumentIndex(tuple(self._doc_ids), starts)


def document_starts(batch: pa.RecordBatch) -> tuple[np.ndarray, list[str]]:
    """Rows of a batch at which the document's name changes, row 0 among them, and the names there."""
    column = batch.column("doc_id")
    codes = column.indices.to_numpy()
    starts = np.flatnonzero(np.append(codes.size > 0, codes[1:] != codes[:-1]))
    return starts, column.dictionary.take(pa.array(codes[starts])).to_pylist()


def lockstep(
    captures: Sequence[Capture], names: Sequence[Sequence[str]], *, n_rows: int
) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """Batches of several captures side by side, with equally many rows each; ends with the shortest capture."""
    streams = [capture.iter_batches(wanted, n_rows=n_rows) for capture, wanted in zip(captures, names, strict=True)]
    held: list[pa.RecordBatch | None] = [None] * len(streams)
    while True:
        for place, stream in enumerate(streams):
            current = held[place]
            while current is None or current.num_rows == 0:
                current = next(stream, None)
                if current is None:
                    return
            held[place] = current
        batches = [batch for batch in held if batch is not None]
        n = min(batch.num_rows for batch in batches)
        yield tuple(batch.slice(0, n) for batch in batches)
        held = [batch.slice(n) for batch in batches]


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
