import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.maths import documents

OFFSETS = np.array([0, 3, 4, 9])
VALUES = np.array([1.0, 2.0, 6.0, 5.0, 1.0, 1.0, 1.0, 1.0, 6.0])


def test_sums_means_and_centring() -> None:
    assert documents.lengths_of(OFFSETS).tolist() == [3, 1, 5]
    assert documents.document_sums(VALUES, OFFSETS).tolist() == [9, 5, 10]
    assert documents.document_means(VALUES, OFFSETS).tolist() == [3, 5, 2]
    assert documents.centred(VALUES, OFFSETS).tolist() == [-2, -1, 3, 0, -1, -1, -1, -1, 4]
    assert documents.spread(np.array([7, 8, 9]), OFFSETS).tolist() == [7, 7, 7, 8, 9, 9, 9, 9, 9]


def test_sums_of_several_columns() -> None:
    columns = np.stack([VALUES, -VALUES], axis=1)
    assert documents.document_sums(columns, OFFSETS).tolist() == [[9, -9], [5, -5], [10, -10]]
    assert documents.document_means(columns, OFFSETS).tolist() == [[3, -3], [5, -5], [2, -2]]


def test_offsets_and_positions() -> None:
    assert documents.offsets_from_lengths(np.array([3, 1, 5])).tolist() == OFFSETS.tolist()
    assert documents.positions_within(OFFSETS).tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]
    blocks = documents.cut_into_blocks(103, 20)
    assert blocks[0] == 0 and blocks[-1] == 103
    assert set(np.diff(blocks).tolist()) <= {5, 6} and blocks.size == 21


def test_autocorrelation_by_hand_does_not_cross_documents() -> None:
    # Centred: (-1, 0, 1) and (2, -2): products 0, 0 | -4; squares 1 + 0 + 1 + 4 + 4.
    values, offsets = np.array([1.0, 2, 3, 6, 2]), np.array([0, 3, 5])
    assert documents.autocorrelation([(values, offsets)]) == pytest.approx(-0.4)
    assert documents.autocorrelation([(np.ones(5), offsets)]) == 0.0
    # Documents that come one by one are pooled.
    pieces = [(values[:3], np.array([0, 3])), (values[3:], np.array([0, 2]))]
    assert documents.autocorrelation(iter(pieces)) == pytest.approx(-0.4)


def test_autocorrelation_recovers_ar1() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((50, 400))
    x[:, 0] = rng.normal(size=50)
    for t in range(1, 400):
        x[:, t] = 0.7 * x[:, t - 1] + np.sqrt(1 - 0.49) * rng.normal(size=50)
    assert documents.autocorrelation([(x.ravel(), np.arange(0, 20001, 400))]) == pytest.approx(0.7, abs=0.02)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 80))
def test_chunks_are_whole_documents_in_order_and_of_bounded_size(lengths: list[int], n_rows: int) -> None:
    offsets = documents.offsets_from_lengths(np.array(lengths))
    chunks = list(documents.document_chunks(offsets, n_rows))
    assert [d for chunk in chunks for d in range(chunk.start, chunk.stop)] == list(range(len(lengths)))
    sizes = [int(offsets[chunk.stop] - offsets[chunk.start]) for chunk in chunks]
    for chunk, size in zip(chunks, sizes, strict=True):
        assert size <= n_rows or chunk.stop == chunk.start + 1
    # Greedy: no chunk could have taken the next document as well.
    for chunk, size in zip(chunks[:-1], sizes[:-1], strict=True):
        assert size + lengths[chunk.stop] > n_rows


def test_folds_are_the_stated_hash() -> None:
    ids = [f"doc-{i}" for i in range(400)]
    folds = documents.assign_folds(ids, 5, 3)
    by_hand = [int(hashlib.sha256(f"evaluation:3:{doc_id}".encode()).hexdigest(), 16) % 5 for doc_id in ids]
    assert folds.tolist() == by_hand
    assert np.bincount(folds, minlength=5).min() > 50
    assert documents.assign_folds(ids, 5, 4).tolist() != by_hand
    # A document's fold is its own: it does not depend on which others there are.
    assert documents.assign_folds(ids[::-2], 5, 3).tolist() == by_hand[::-2]
