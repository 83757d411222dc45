"""Captures on disk: writing part files, opening a folder, reading columns of it."""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from brf_exp.errors import BrfError, InputError, MissingInputError
from brf_exp.storage import schema

MANIFEST = "capture.json"
ROW_GROUP_ROWS = 65536
AGAIN = "The same capture command makes it again; a submission is ingested again with replace=true."
_PARTIAL = ".partial"


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
    try:
        with open_part(path, table.schema) as file:
            file.write_table(table, row_group_size=row_group_rows)
        return finish_part(path)
    except BaseException:
        _partial(path).unlink(missing_ok=True)
        raise


def open_part(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A part to be written row group by row group, under a name of its own until `finish_part`."""
    return pq.ParquetWriter(
        _partial(path),
        schema,
        compression="zstd",
        use_dictionary=["doc_id"] if "doc_id" in schema.names else False,
        # Also of token ids: of a large vocabulary that is smaller than a dictionary, and written twice as fast.
        use_byte_stream_split=[f.name for f in schema if pa.types.is_primitive(f.type)],
        write_statistics=True,
        write_page_checksum=True,
    )


def finish_part(path: Path) -> str:
    """Give a written part its name; returns the SHA-256 of its bytes, which are on the disk by then."""
    partial = _partial(path)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    partial.replace(path)
    return digest


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file under that nobody else uses; it becomes `path` when the block ends without an error."""
    partial = _partial(path)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def leftovers(folder: Path, name: str = "*") -> list[Path]:
    """Half-written files of `name` in a folder, whoever left them."""
    return sorted(folder.glob(f".{name}.*{_PARTIAL}"))


def _partial(path: Path) -> Path:
    """Hidden, and with the process in its name: two processes never write to one file."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}{_PARTIAL}")


def read_part(path: Path, names: Sequence[str]) -> pa.Table:
    """The named columns of one part file."""
    return pq.read_table(
        path, columns=list(names), partitioning=None, use_threads=False, page_checksum_verification=True
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _n_rows_of(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _plain(type_: pa.DataType) -> pa.DataType:
    """A type without the codes that a reader was asked for."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


@dataclass(frozen=True)
class Capture:
    """One model's rows on disk: a folder with capture.json and its part files.

    `most_logits`: how many of the logits per row are looked at, the best ones; None: all.
    """

    folder: Path
    manifest: dict[str, Any]
    most_logits: int | None = None

    @property
    def _paths(self) -> list[Path]:
        return [self.folder / part["name"] for part in self.manifest["parts"]]

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """InputError where part files are cut off, overwritten, or of other columns."""
        try:
            yield
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            text = str(error).splitlines()[0].rstrip(".")
            raise InputError(
                f"`{self.folder}` must hold whole part files: {text}. Delete the damaged part. {AGAIN}"
            ) from error

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        """Type of every column of the first part, which stands for all."""
        with self._readable():
            return {field.name: field.type for path in self._paths[:1] for field in pq.read_schema(path)}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns present."""
        names = list(self._types)
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
        # Footers one by one: a dataset would keep a quarter of a megabyte of each.
        with self._readable(), ThreadPoolExecutor() as pool:
            found = sum(pool.map(_n_rows_of, self._paths))
        if found != self.n_rows:
            raise InputError(
                f"`{self.folder}` must hold the {self.n_rows} rows that its {MANIFEST} counts, got {found}. "
                "Capture or ingest again."
            )

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The named numeric columns, each of shape (n_rows,)."""
        with self._readable(), ThreadPoolExecutor() as pool:
            table = pa.concat_tables(pool.map(lambda path: self._part_table(path, list(names)), self._paths))
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
        for path in self._paths:
            with self._readable(), self._open(path, list(names)) as file:
                yield from file.iter_batches(batch_size=n_rows, columns=list(names), use_threads=False)

    def _part_table(self, path: Path, names: list[str]) -> pa.Table:
        with self._open(path, names) as file:
            return file.read(columns=names, use_threads=False)

    def _open(self, path: Path, names: list[str]) -> pq.ParquetFile:
        """A part to read the named columns from, which must be of the first part's types."""
        # Names of documents as codes: a string per row would cost more than all numbers together.
        codes = [name for name in names if name == "doc_id"]
        file = pq.ParquetFile(path, read_dictionary=codes, pre_buffer=False, page_checksum_verification=True)
        found = {field.name: _plain(field.type) for field in file.schema_arrow}
        if any(found.get(name) != self._types[name] for name in names):
            file.close()
            raise pa.ArrowInvalid(f"{path.name} has not the columns of the first part")
        return file

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
    damage = first_damage(folder, manifest)
    if damage:
        raise damage
    return Capture(folder, manifest)


def first_damage(folder: Path, manifest: dict[str, Any]) -> BrfError | None:
    """What is wrong with the first part file that is missing or not as long as its manifest says; nothing is read.

    Bytes that changed within a file are noticed when their pages are read, which carry checksums.
    """
    for part in manifest["parts"]:
        path = folder / part["name"]
        if Path(part["name"]).name != part["name"]:
            return InputError(f"`{folder / MANIFEST}` must name parts inside its own folder, got {part['name']!r}.")
        try:
            n_bytes = path.stat().st_size
        except OSError:
            return MissingInputError(f"`{path}` must exist. {AGAIN}")
        if n_bytes != part.get("bytes", n_bytes):
            return InputError(f"`{path}` must have {part['bytes']} bytes, got {n_bytes}. {AGAIN}")
    return None
