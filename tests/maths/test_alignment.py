"""Alignment by characters, against a loop over every twelfth of every character."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.maths.alignment import Spans, align

TICKS = 12  # of a character: up to four tokens share one here


def spans(*documents: list[tuple[int, int]]) -> Spans:
    flat = np.array([span for document in documents for span in document], dtype=np.int32).reshape(-1, 2)
    return Spans(flat[:, 0], flat[:, 1], np.concatenate([[0], np.cumsum([len(d) for d in documents])]))


def owned_ticks(document: list[tuple[int, int]]) -> list[list[int]]:
    """Ticks of each token; those that touch a character divide it among themselves."""
    owned: list[list[int]] = [[] for _ in document]
    for character in range(max((end for _, end in document), default=0)):
        touching = [n for n, (start, end) in enumerate(document) if start <= character < end]
        for rank, token in enumerate(touching):
            each = TICKS // len(touching)
            owned[token] += [character * TICKS + rank * each + tick for tick in range(each)]
    return owned


def brute_force(target: list[tuple[int, int]], source: list[tuple[int, int]], surprisal: np.ndarray) -> np.ndarray:
    """Rows of (surprisal, index of the covering source token) for each target token of one document."""
    density: dict[int, float] = {}
    owner: dict[int, int] = {}
    for token, ticks in enumerate(owned_ticks(source)):
        for tick in ticks:
            density[tick], owner[tick] = surprisal[token] / len(ticks), token
    behind = max(density, default=-1) + 1
    rows = []
    for (start, end), ticks in zip(target, owned_ticks(target), strict=True):
        first = ticks[0] if ticks else start * TICKS
        known = first in owner and (not ticks or ticks[-1] < behind) and end >= start
        total = sum(density.get(tick, 0.0) for tick in ticks) if known else np.nan
        rows.append((total, owner.get(first, np.nan)))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


@st.composite
def tokens(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Spans in reading order with holes, empty spans and characters that up to four tokens share."""
    spans: list[tuple[int, int]] = []
    at = 0
    for kind, length in draw(st.lists(st.tuples(st.sampled_from("wwwshe"), st.integers(1, 4)), max_size=12)):
        if kind == "w":
            spans.append((at, at + length))
        if kind == "s":  # the first of them may begin before the shared character
            spans.append((at, at + length))
            spans += [(at + length - 1, at + length)] * draw(st.sampled_from([0, 1, 2, 3]))
        if kind == "e":
            spans.append((at, at))
        at += 0 if kind == "e" else length
    return spans


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(tokens(), tokens()), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_every_document_is_as_by_loop(documents: list[tuple], seed: int) -> None:
    source = spans(*(s for _, s in documents))
    surprisal = np.random.default_rng(seed).exponential(2.0, source.start.size)
    place = np.concatenate([np.arange(len(s)) for _, s in documents]).astype(np.float64)
    found = align(spans(*(t for t, _ in documents)), source, surprisal=surprisal, predictions={"place": place})
    expected = np.concatenate(
        [brute_force(t, s, surprisal[source.offsets[d] : source.offsets[d + 1]]) for d, (t, s) in enumerate(documents)]
    )
    np.testing.assert_allclose(found["surprisal"], expected[:, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found["place"], expected[:, 1])


def test_by_hand() -> None:
    target = spans([(0, 2), (2, 7), (7, 7), (7, 10), (10, 11)])
    source = spans([(0, 4), (4, 8), (8, 10)])
    entropy = np.array([0.5, 1.5, 2.5])
    found = align(target, source, surprisal=np.array([4.0, 8.0, 1.0]), predictions={"entropy": entropy})
    np.testing.assert_allclose(found["surprisal"], [2.0, 2.0 + 6.0, 0.0, 2.0 + 1.0, np.nan])
    np.testing.assert_array_equal(found["entropy"], [0.5, 0.5, 1.5, 1.5, np.nan])


def test_a_token_that_only_begins_inside_has_predictions_and_no_surprisal() -> None:
    found = align(
        spans([(0, 3), (3, 9)]), spans([(0, 4)]), surprisal=np.array([4.0]), predictions={"gap": np.array([7.0])}
    )
    np.testing.assert_array_equal(found["surprisal"], [3.0, np.nan])
    np.testing.assert_array_equal(found["gap"], [7.0, 7.0])


def test_the_bytes_of_a_character_share_it() -> None:
    # Two bytes of one character against a token that ends inside it and one that starts there.
    found = align(
        spans([(0, 1), (1, 2), (1, 2)]),
        spans([(0, 2), (1, 2)]),
        surprisal=np.array([3.0, 1.0]),
        predictions={"place": np.array([0.0, 1.0])},
    )
    np.testing.assert_allclose(found["surprisal"], [2.0, 1.0, 1.0])
    np.testing.assert_array_equal(found["place"], [0.0, 0.0, 1.0])


def test_a_document_without_source_tokens_is_missing() -> None:
    target, source = spans([(0, 2)], [(0, 2)], [(0, 2)]), spans([(0, 2)], [], [(0, 4)])
    found = align(target, source, surprisal=np.array([1.0, 6.0]), predictions={"gap": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(found["surprisal"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(found["gap"], [1.0, np.nan, 2.0])
    nothing = align(target, spans([], [], []), surprisal=np.empty(0), predictions={"gap": np.empty(0)})
    assert np.isnan(nothing["surprisal"]).all() and np.isnan(nothing["gap"]).all()


def test_spans_that_make_no_sense_are_missing_and_disturb_no_neighbour() -> None:
    good = [(0, 1), (1, 4), (4, 6)]
    strange = [(4, 6), (0, 3), (-1, 2), (3, 2), (0, 0), (2, 2)]
    source = [(0, 2), (2, 6)]
    surprisal = np.array([2.0, 8.0] * 3)
    found = align(
        spans(good, strange, good), spans(source, source, source), surprisal=surprisal, predictions={"s": surprisal}
    )
    alone = align(spans(good), spans(source), surprisal=surprisal[:2], predictions={"s": surprisal[:2]})
    for name in ("surprisal", "s"):
        np.testing.assert_allclose(found[name][:3], alone[name])
        np.testing.assert_allclose(found[name][-3:], alone[name])
    np.testing.assert_allclose(found["surprisal"][3:9], [4.0, 4.0, np.nan, np.nan, 0.0, 0.0])
    np.testing.assert_array_equal(found["s"][3:9], [8.0, 2.0, np.nan, np.nan, 2.0, 8.0])


def test_many_documents_lose_no_precision() -> None:
    rng = np.random.default_rng(5)
    cuts = [np.unique(np.concatenate([[0, 400], rng.integers(1, 400, 90)])) for _ in range(2000)]
    document = [list(zip(c[:-1].tolist(), c[1:].tolist(), strict=True)) for c in cuts]
    made = spans(*document)
    surprisal = rng.exponential(2.0, made.start.size)
    found = align(made, made, surprisal=surprisal, predictions={"s": surprisal})
    np.testing.assert_allclose(found["surprisal"], surprisal, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(found["s"], surprisal)


@pytest.mark.parametrize("source", [[(2, 4), (0, 2)], [(0, 4), (0, 4)], [(0, 4), (1, 3)]])
def test_source_tokens_must_be_in_reading_order(source: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="in reading order"):
        align(spans([(0, 1)]), spans(source), surprisal=np.ones(2), predictions={})


def test_the_number_of_documents_must_be_equal() -> None:
    with pytest.raises(ValueError, match="as many documents, got 2, 1"):
        align(spans([(0, 1)], [(0, 1)]), spans([(0, 1)]), surprisal=np.ones(1), predictions={})
