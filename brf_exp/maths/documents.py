"""Documents as offsets into rows: document d has the rows offsets[d] .. offsets[d + 1] - 1."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

Offsets: TypeAlias = np.ndarray
CHUNK_ROWS = 2**18


def lengths_of(offsets: Offsets) -> np.ndarray:
    """Rows of each document, shape (D,)."""
    return np.diff(offsets)


def document_sums(values: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Sum over each document's rows; values (n, ...) -> (D, ...). Documents must not be empty."""
    return np.add.reduceat(values, offsets[:-1], axis=0)


def document_means(values: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Mean over each document's rows; values (n, ...) -> (D, ...)."""
    lengths = lengths_of(offsets)
    return document_sums(values, offsets) / lengths.reshape(-1, *[1] * (values.ndim - 1))


def spread(per_document: np.ndarray, offsets: Offsets) -> np.ndarray:
    """One value per document, repeated on each of its rows."""
    return np.repeat(per_document, lengths_of(offsets), axis=0)


def centred(values: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Values less their document's mean."""
    return values - spread(document_means(values, offsets), offsets)


def positions_within(offsets: Offsets) -> np.ndarray:
    """0, 1, 2, ... within each document."""
    return np.arange(offsets[-1]) - spread(offsets[:-1], offsets)


def offsets_from_lengths(lengths: np.ndarray) -> Offsets:
    """Offsets of documents with the given lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def cut_into_blocks(n_rows: int, n_blocks: int) -> Offsets:
    """Pseudo-documents: one long document cut into nearly equal blocks."""
    return np.linspace(0, n_rows, n_blocks + 1).round().astype(np.int64)


def autocorrelation(chunks: Iterable[tuple[np.ndarray, Offsets]]) -> float:
    """Lag-one autocorrelation within documents, pooled, of document-centred values given as (values, offsets)."""
    product, square = 0.0, 0.0
    for values, offsets in chunks:
        e = centred(values, offsets)
        inside = np.ones(e.size, dtype=bool)
        inside[offsets[:-1]] = False
        rows = np.flatnonzero(inside)
        product += float((e[rows] * e[rows - 1]).sum())
        square += float((e * e).sum())
    return product / square if square > 0 else 0.0


def assign_folds(doc_ids: Sequence[str], n_folds: int, seed: int) -> np.ndarray:
    """Fold of each document: SHA-256 of 'evaluation:<seed>:<doc_id>', as a number, modulo the number of folds."""
    digests = [hashlib.sha256(f"evaluation:{seed}:{doc_id}".encode()).hexdigest() for doc_id in doc_ids]
    return np.array([int(digest, 16) % n_folds for digest in digests], dtype=np.int64)


def document_chunks(offsets: Offsets, n_rows: int = CHUNK_ROWS) -> Iterator[slice]:
    """Consecutive documents, as slices, of about `n_rows` rows together and at least one document."""
    first, last = 0, offsets.size - 1
    while first < last:
        stop = max(int(np.searchsorted(offsets, offsets[first] + n_rows, side="right")) - 1, first + 1)
        yield slice(first, stop)
        first = stop


def circular_shifts(offsets: Offsets, rng: np.random.Generator) -> np.ndarray:
    """Row numbers (n,) that turn every document round by a uniform shift, 0 included."""
    lengths = lengths_of(offsets)
    shifts = (rng.random(lengths.size) * lengths).astype(np.int64)
    starts = np.repeat(offsets[:-1], lengths)
    within = np.arange(int(offsets[-1])) - starts
    return starts + np.mod(within - np.repeat(shifts, lengths), np.repeat(lengths, lengths))
