"""Chunks of whole documents that rules are scored on: from captures, or from a world in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from brf_exp.maths.distribution import GapDistribution
from brf_exp.maths.documents import Offsets, circular_shifts, document_chunks
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.gate import gate_cells
from brf_exp.maths.phases import PhaseTable
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.stages.gap_rows import BATCH_ROWS, GapRows, matched_batches
from brf_exp.storage import schema
from brf_exp.storage.captures import Capture

# About what one position takes while it is aligned and scored, per model and logit kept.
BYTES_PER_LOGIT = 60
LEAST_ROWS = 1024
Draws = tuple[np.random.Generator, np.random.Generator]


class Source(Protocol):
    """Whole documents in chunks; every pass gives the same."""

    @property
    def offsets(self) -> Offsets:
        """Rows of the documents."""
        ...

    def chunks(self) -> Iterator[tuple[slice, FusionRows]]:
        """Documents and their rows, in order."""
        ...


@dataclass(frozen=True)
class WorldSource:
    """Rows that are in memory."""

    rows: FusionRows

    @property
    def offsets(self) -> Offsets:
        """Rows of the documents."""
        return self.rows.offsets

    def chunks(self) -> Iterator[tuple[slice, FusionRows]]:
        """Everything at once."""
        yield slice(0, self.offsets.size - 1), self.rows


@dataclass(frozen=True)
class CaptureSource:
    """Rows of captures, read and aligned chunk by chunk; kept where all of them fit the memory."""

    captures: Sequence[Capture]
    gaps: GapRows
    ranks: np.ndarray
    distributions: Sequence[GapDistribution]
    temperatures: tuple[float, ...]
    memory_mb: int
    seed: int
    table: PhaseTable | None
    n_documents: int | None = None  # the first ones; None: all
    read_twice: bool = True  # rows are kept for the second pass where all of them fit the memory
    _kept: list[tuple[slice, FusionRows]] = field(default_factory=list)

    @property
    def offsets(self) -> Offsets:
        """Rows of the documents."""
        return self.gaps.offsets if self.n_documents is None else self.gaps.offsets[: self.n_documents + 1]

    @property
    def k(self) -> int:
        """Logits per position that every capture has."""
        return min(capture.k for capture in self.captures)

    def leading(self, n_documents: int) -> "CaptureSource":
        """The first documents only."""
        return replace(self, n_documents=n_documents, read_twice=False, _kept=[])

    def truncated(self, k: int) -> "CaptureSource":
        """The same rows as if only the best k logits had been captured."""
        return replace(self, captures=[capture.truncated(k) for capture in self.captures], read_twice=False, _kept=[])

    @property
    def vocabulary_size(self) -> int | None:
        """Outcomes that every model has, where the captures tell and agree."""
        sizes = {capture.vocabulary_size for capture in self.captures}
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def complete(self) -> bool:
        """Whether the captures hold the logits of their whole vocabularies."""
        return all(_holds_vocabulary(capture) for capture in self.captures)

    @property
    def bytes_per_row(self) -> int:
        """About what a position takes while it is scored."""
        return BYTES_PER_LOGIT * sum(capture.k for capture in self.captures) * len(self.temperatures)

    def chunks(self) -> Iterator[tuple[slice, FusionRows]]:
        """Documents of about an eighth of the memory at a time."""
        if self._kept:
            yield from self._kept
            return
        budget = self.memory_mb * 2**20 // 8
        parts = list(document_chunks(self.offsets, max(LEAST_ROWS, budget // self.bytes_per_row)))
        keep = self.read_twice and int(self.offsets[-1]) * self.bytes_per_row <= 4 * budget
        made = []
        for chunk in self._aligned(parts):
            if keep:
                made.append(chunk)
            yield chunk
        self._kept.extend(made)

    def _aligned(self, parts: list[slice]) -> Iterator[tuple[slice, FusionRows]]:
        # One Generator per model and purpose: what they draw does not depend on how documents are cut into chunks.
        draws = [
            (np.random.default_rng([self.seed, 101, model]), np.random.default_rng([self.seed, 102, model]))
            for model in range(len(self.captures))
        ]
        tables = _tables(self.captures, self.temperatures, [self._rows(part) for part in parts])
        for part, table in zip(parts, tables, strict=True):
            yield part, self._fusion_rows(part, table, draws)

    def _rows(self, documents: slice) -> slice:
        return slice(int(self.offsets[documents.start]), int(self.offsets[documents.stop]))

    def _fusion_rows(self, documents: slice, tables: list[pa.Table], draws: list[Draws]) -> FusionRows:
        rows = self._rows(documents)
        offsets = self.offsets[documents.start : documents.stop + 1] - rows.start
        gaps, ranks = self.gaps.gaps[:, rows], self.ranks[:, rows]
        shifted = [circular_shifts(offsets, shifts) for shifts, _ in draws]
        known = {t: _known(self.captures, tables, t, self.complete, self.vocabulary_size) for t in self.temperatures}
        has_entropy = all("entropy" in capture.columns for capture in self.captures)
        entropies = [table.column("entropy").to_numpy().astype(np.float64) for table in tables] if has_entropy else None
        return FusionRows(
            known=known[1.0],
            gaps=gaps,
            shifted_gaps=np.stack([row[order] for row, order in zip(gaps, shifted, strict=True)]),
            ranks=ranks,
            shifted_ranks=np.stack([row[order] for row, order in zip(ranks, shifted, strict=True)]),
            random_phases=np.stack([angles.uniform(0, 2 * np.pi, gaps.shape[1]) for _, angles in draws]),
            offsets=offsets,
            entropies=None if entropies is None else np.stack(entropies),
            cells=gate_cells(gaps, self.distributions),
            table=self.table,
            at_temperatures={t: k for t, k in known.items() if t != 1.0},
        )


def fewer_logits(k: int) -> list[int]:
    """A quarter and a half of k, where that leaves the two logits that every rule needs."""
    return [fewer for fewer in (k // 4, k // 2) if fewer >= 2]


def stored_temperatures(captures: Sequence[Capture]) -> tuple[float, ...]:
    """Temperatures whose normaliser every capture stores, 1 first."""
    shared = set.intersection(*(set(_normalisers(capture)) for capture in captures))
    return (1.0, *sorted(shared - {1.0}))


def _normalisers(capture: Capture) -> dict[float, str]:
    """Column of the logsumexp at each stored temperature; `logsumexp_t2` and `logsumexp_t2.0` are the same one."""
    prefix = "logsumexp_t"
    found = {float(name.removeprefix(prefix)): name for name in capture.columns if name.startswith(prefix)}
    return {**found, 1.0: "logsumexp"}


def _columns(capture: Capture, temperatures: tuple[float, ...]) -> list[str]:
    normalisers = [_normalisers(capture)[t] for t in temperatures]
    others = ["token_id", "target_logit", *(["entropy"] if "entropy" in capture.columns else [])]
    return [*normalisers, *others, *schema.id_columns(capture.k), *schema.logit_columns(capture.k)]


def _tables(
    captures: Sequence[Capture], temperatures: tuple[float, ...], wanted: list[slice]
) -> Iterator[list[pa.Table]]:
    """The rows wanted, consecutive slices, of every capture; batches are cut and joined as needed."""
    columns = [_columns(capture, temperatures) for capture in captures]
    most = max(rows.stop - rows.start for rows in wanted)
    batches = matched_batches(captures, columns, n_rows=min(most, BATCH_ROWS))
    held: list[list[pa.RecordBatch]] = [[] for _ in captures]
    n_held = 0
    for rows in wanted:
        n = rows.stop - rows.start
        while n_held < n:
            found = next(batches)
            n_held += found[0].num_rows
            for pieces, batch in zip(held, found, strict=True):
                pieces.append(batch)
        joined = [pa.Table.from_batches(pieces) for pieces in held]
        yield [table.slice(0, n).combine_chunks() for table in joined]
        held = [table.slice(n).to_batches() for table in joined]
        n_held -= n
    for _ in batches:  # the end of the captures is checked there
        pass


def _holds_vocabulary(capture: Capture) -> bool:
    return capture.vocabulary_size is not None and capture.k >= capture.vocabulary_size


def _known(
    captures: Sequence[Capture],
    tables: list[pa.Table],
    temperature: float,
    complete: bool,
    vocabulary_size: int | None,
) -> KnownTokens:
    """What the top-k rows tell of the models' distributions at a temperature."""
    ids, log_p, targets = [], [], []
    for capture, table in zip(captures, tables, strict=True):
        normaliser = table.column(_normalisers(capture)[temperature]).to_numpy()
        logits = np.column_stack([table.column(name).to_numpy() for name in schema.logit_columns(capture.k)])
        ids.append(np.column_stack([table.column(name).to_numpy() for name in schema.id_columns(capture.k)]))
        log_p.append(logits / temperature - normaliser[:, None])
        targets.append(table.column("target_logit").to_numpy() / temperature - normaliser)
    target_ids = tables[0].column("token_id").to_numpy()
    return known_tokens(
        ids,
        log_p,
        target_ids=target_ids,
        target_log_p=np.stack(targets),
        complete=complete,
        vocabulary_size=vocabulary_size,
    )
