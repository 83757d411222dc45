"""What the excess cosine, its nulls and the pairings may not depend on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.maths.coherence import coherence, shift_null
from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.documents import offsets_from_lengths
from brf_exp.maths.pairing import (
    MatchedPairing,
    derangements,
    kappas_at,
    length_blocks,
    pair_table,
    pairing_at,
    true_pairing,
)
from brf_exp.maths.phases import circular_shift

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.lists(st.integers(1, 30), min_size=2, max_size=30)
LONG_ENOUGH = LENGTHS.filter(lambda lengths: max(lengths) > 4)
FEW = settings(deadline=None, max_examples=40)


def _phasors(seed: int, lengths: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = np.exp(1j * rng.gamma(2.0, 0.7, size=(2, sum(lengths))))
    return z[0], z[1], offsets_from_lengths(np.array(lengths))


def _assert_same_test(first: MatchedPairing, second: MatchedPairing) -> None:
    """Up to single precision, which the covariances are worked out in."""
    found, expected = shift_null(first), shift_null(second)
    assert found.df == expected.df
    np.testing.assert_allclose(found.statistic, expected.statistic, rtol=1e-4, atol=1e-9)


@FEW
@given(SEEDS, LONG_ENOUGH, st.floats(-7, 7), st.floats(-7, 7))
def test_rotations(seed: int, lengths: list[int], turn: float, other: float) -> None:
    """A common rotation changes nothing; separate ones turn the complex excess and leave its null alone."""
    z1, z2, offsets = _phasors(seed, lengths)
    plain = true_pairing(z1, z2, offsets)
    common = true_pairing(z1 * np.exp(1j * turn), z2 * np.exp(1j * turn), offsets)
    np.testing.assert_allclose(common.excess, plain.excess, atol=1e-9)
    turned = true_pairing(z1 * np.exp(1j * turn), z2 * np.exp(1j * other), offsets)
    np.testing.assert_allclose(turned.excess, plain.excess * np.exp(1j * (turn - other)), atol=1e-9)
    assert abs(turned.independent_length - plain.independent_length) < 1e-12
    _assert_same_test(turned, plain)


@FEW
@given(SEEDS, LONG_ENOUGH)
def test_models_can_be_swapped(seed: int, lengths: list[int]) -> None:
    z1, z2, offsets = _phasors(seed, lengths)
    forward, backward = (true_pairing(*pair, offsets) for pair in ((z1, z2), (z2, z1)))
    np.testing.assert_allclose(forward.excess, np.conj(backward.excess), atol=1e-10)
    _assert_same_test(forward, backward)


@FEW
@given(SEEDS, LONG_ENOUGH, st.randoms(use_true_random=False))
def test_documents_can_come_in_any_order(seed: int, lengths: list[int], shuffle) -> None:
    z1, z2, offsets = _phasors(seed, lengths)
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    rows = np.concatenate([np.arange(offsets[d], offsets[d + 1]) for d in order])
    plain = true_pairing(z1, z2, offsets)
    moved = true_pairing(z1[rows], z2[rows], offsets_from_lengths(np.array(lengths)[order]))
    np.testing.assert_allclose(moved.excess, plain.excess[order], atol=1e-12)
    _assert_same_test(moved, plain)


@FEW
@given(SEEDS, LONG_ENOUGH, st.integers(0, 29))
def test_shifting_both_models_alike_changes_nothing(seed: int, lengths: list[int], by: int) -> None:
    z1, z2, offsets = _phasors(seed, lengths)
    rows = np.concatenate([np.roll(np.arange(a, b), by) for a, b in zip(offsets[:-1], offsets[1:], strict=True)])
    plain, turned = true_pairing(z1, z2, offsets), true_pairing(z1[rows], z2[rows], offsets)
    np.testing.assert_allclose(turned.excess, plain.excess, atol=1e-12)
    _assert_same_test(turned, plain)


@FEW
@given(SEEDS, LENGTHS)
def test_derangements(seed: int, lengths: list[int]) -> None:
    """No document keeps its partner, partners are a permutation within blocks, and look-ups are the pairs' terms."""
    z1, z2, offsets = _phasors(seed, lengths)
    table = pair_table(z1, z2, offsets)
    columns = derangements(table.blocks, 20, np.random.default_rng(seed))
    assert columns.dtype == np.int8
    block_of = np.empty(len(lengths), dtype=int)
    for index, block in enumerate(table.blocks):
        assert block.size >= min(8, len(lengths))
        block_of[block] = index
    documents = np.arange(len(lengths))
    for row, kappa in zip(columns, kappas_at(table, columns), strict=True):
        partners = table.partners[documents, row]
        assert (partners != documents).all()
        assert sorted(partners.tolist()) == documents.tolist()
        assert (block_of[partners] == block_of).all()
        total, positions = 0.0, 0
        for d, e in enumerate(partners):
            n = min(lengths[d], lengths[e])
            first, second = z1[offsets[d] : offsets[d] + n], z2[offsets[e] : offsets[e] + n]
            total += ((first - first.mean()) * np.conj(second - second.mean())).sum().real
            positions += n
        np.testing.assert_allclose(kappa, total / positions, atol=1e-10)
        np.testing.assert_allclose(pairing_at(table, row).kappa, kappa, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(3, 7))
def test_derangements_reach_every_cycle(seed: int, n_documents: int) -> None:
    """A shuffled block shifted by one is one cycle through all of its documents, each of them equally likely."""
    blocks = length_blocks(np.full(n_documents, 5))
    columns = derangements(blocks, 600, np.random.default_rng(seed))
    documents = np.arange(n_documents)
    for row in columns[:20]:
        at, visited = 0, []
        for _ in documents:
            visited.append(at)
            at = (at + int(row[at])) % n_documents
        assert at == 0 and sorted(visited) == documents.tolist()
    # The partner of a document is any other one: 600 draws, p = 1 / (n - 1), within five standard errors.
    p = 1 / (n_documents - 1)
    for of_document in columns.T:
        counts = np.bincount(of_document, minlength=n_documents)[1:]
        assert np.abs(counts / 600 - p).max() < 5 * np.sqrt(p * (1 - p) / 600) + 1e-9


@FEW
@given(SEEDS, LENGTHS)
def test_circular_shift_turns_each_document(seed: int, lengths: list[int]) -> None:
    offsets = offsets_from_lengths(np.array(lengths))
    values = np.arange(offsets[-1], dtype=float)
    shifted = circular_shift(values, offsets, np.random.default_rng(seed))
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        by = int(np.flatnonzero(shifted[start:stop] == values[start])[0])
        np.testing.assert_array_equal(shifted[start:stop], np.roll(values[start:stop], by))


@FEW
@given(SEEDS, st.integers(2, 200), st.integers(1, 6))
def test_ranks_break_ties_by_each_models_own_generator(seed: int, n: int, n_levels: int) -> None:
    gaps = np.random.default_rng(seed).integers(0, n_levels, n).astype(float)
    distribution = gap_distribution([gaps])
    first, second = (distribution.uniform_ranks(gaps, np.random.default_rng([seed, model])) for model in (0, 1))
    for ranks in (first, second):
        assert ((ranks > 0) & (ranks < 1)).all()
        assert (np.diff(gaps[np.argsort(ranks)]) >= 0).all()
    assert (first != second).all()
    if n > 60 and n_levels == 1:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.6


@settings(deadline=None, max_examples=15)
@given(SEEDS)
def test_result_is_recentred_and_bounded(seed: int) -> None:
    z1, z2, offsets = _phasors(seed, [12] * 12)
    found, _ = coherence(
        z1, z2, offsets, n_repairings=49, confidence_level=0.95, n_resamples=99, rng=np.random.default_rng(seed)
    )
    assert found.excess == found.excess_raw - found.repairing.mean
    assert found.interval[0] < found.excess < found.interval[1]
    assert found.possible == 1 - found.resultant_length_independent
    np.testing.assert_allclose(np.array(found.share_interval) * found.possible, found.interval)
    assert 1 / 50 <= found.repairing.pvalue <= 1
    assert found.pvalue == max(found.shift.pvalue, found.repairing.pvalue)
