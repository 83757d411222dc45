"""AUCs by document: what they do not depend on, what is undefined, and what is refused."""

import re

import numpy as np
import pytest

from brf_exp.maths.auc import WithinDocumentAuc, auc, auc_differences, obuchowski, placement_values, within_document_auc
from brf_exp.maths.documents import offsets_from_lengths
from brf_exp.maths.resampling import holm
from brf_exp.maths.undefined import UndefinedStatisticError


def _world(seed: int = 0, lengths: tuple[int, ...] = (5, 9, 7, 12, 6, 8, 10, 7, 9, 11)) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    offsets = offsets_from_lengths(np.array(lengths))
    labels = rng.random(offsets[-1]) < 0.4
    scores = np.round(rng.standard_normal((offsets[-1], 4)) + labels[:, None] * np.array([1.0, 0.6, 0.2, -0.5]), 1)
    return scores, labels, offsets


def _within(scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray, seed: int = 0) -> WithinDocumentAuc:
    rng = np.random.default_rng(seed)
    return within_document_auc(scores, labels, offsets, confidence_level=0.95, n_resamples=199, rng=rng)


def test_by_hand() -> None:
    """Positives 2, 3, 5 and negatives 1, 3: one tie and one pair the wrong way round."""
    scores, labels = np.array([2, 3, 5, 1, 3]), np.array([True, True, True, False, False])
    assert placement_values(scores, labels) == pytest.approx([0.5, 0.75, 1.0, 1.0, 0.5])
    assert auc(scores, labels) == 0.75


def test_direction_is_fixed() -> None:
    scores, labels, offsets = _world()
    low = auc(scores[:, 3], labels)
    assert low < 0.45
    assert auc(-scores[:, 3], labels) == pytest.approx(1 - low, abs=1e-14)
    assert auc(scores[:, 3], ~labels) == pytest.approx(1 - low, abs=1e-14)
    assert obuchowski(scores, labels, offsets).aucs[3] == low
    assert _within(-scores[:, 3], labels, offsets).value == pytest.approx(
        1 - _within(scores[:, 3], labels, offsets).value
    )


def test_only_the_order_of_scores_counts() -> None:
    scores, labels, offsets = _world()
    found = obuchowski(scores, labels, offsets)
    np.testing.assert_array_equal(obuchowski(np.exp(5 * scores), labels, offsets).roots, found.roots)
    assert _within(np.exp(5 * scores[:, 0]), labels, offsets) == _within(scores[:, 0], labels, offsets)


def test_infinite_scores_are_the_lowest_and_highest() -> None:
    scores, labels, offsets = _world()
    clipped = np.clip(scores, -1, 1)
    infinite = np.where(clipped == -1, -np.inf, np.where(clipped == 1, np.inf, clipped))
    assert np.isinf(infinite).sum() > 20
    np.testing.assert_array_equal(
        obuchowski(infinite, labels, offsets).roots, obuchowski(clipped, labels, offsets).roots
    )
    assert _within(infinite[:, 0], labels, offsets) == _within(clipped[:, 0], labels, offsets)


def test_order_of_documents_and_of_rows_within_does_not_count() -> None:
    scores, labels, offsets = _world()
    rng = np.random.default_rng(1)
    documents = [rng.permutation(np.arange(offsets[d], offsets[d + 1])) for d in rng.permutation(offsets.size - 1)]
    rows = np.concatenate(documents)
    moved = offsets_from_lengths(np.array([document.size for document in documents]))
    found, again = obuchowski(scores, labels, offsets), obuchowski(scores[rows], labels[rows], moved)
    np.testing.assert_allclose(again.aucs, found.aucs, rtol=1e-14)
    np.testing.assert_allclose(again.covariance, found.covariance, rtol=1e-12)
    before, after = _within(scores[:, 0], labels, offsets), _within(scores[rows, 0], labels[rows], moved)
    assert (after.value, after.standard_error) == pytest.approx((before.value, before.standard_error), rel=1e-12)


def test_covariance_is_without_negative_variances() -> None:
    """Few documents hold positives, so that the three corrections differ."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        scores, labels, offsets = rng.standard_normal((60, 5)), np.zeros(60, dtype=bool), np.arange(0, 61, 6)
        labels[rng.choice(12, 5, replace=False)] = True
        labels[[0, 6]] = True
        covariance = obuchowski(scores, labels, offsets).covariance
        np.testing.assert_array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > -1e-15


def test_constant_score() -> None:
    scores, labels, offsets = _world()
    scores[:, 1] = 0.3
    found = obuchowski(scores, labels, offsets)
    assert auc(scores[:, 1], labels) == found.aucs[1] == 0.5
    assert found.standard_errors[1] == 0.0
    assert found.interval(1, confidence_level=0.95) is None
    assert found.interval(0, confidence_level=0.95) is not None
    against_constant = auc_differences(found, confidence_level=0.95)[0]
    assert against_constant.standard_error == pytest.approx(found.standard_errors[0])
    assert against_constant.pvalue is not None
    # One of the documents has a single class.
    n_pairs = _within(scores[:, 0], labels, offsets).n_pairs
    assert _within(scores[:, 1], labels, offsets) == WithinDocumentAuc(0.5, 0.0, None, None, None, 9, 1, n_pairs)


def test_perfect_score() -> None:
    scores, labels, offsets = _world()
    scores[:, 0], scores[:, 1] = labels, 0.0
    found = obuchowski(scores, labels, offsets)
    assert found.aucs[0] == 1.0
    assert found.interval(0, confidence_level=0.95) is None
    against_constant = auc_differences(found, confidence_level=0.95)[0]
    assert (against_constant.difference, against_constant.standard_error) == (0.5, 0.0)
    assert against_constant.interval is against_constant.statistic is against_constant.pvalue is None


def test_scores_that_rank_alike_leave_the_family() -> None:
    scores, labels, offsets = _world()
    scores[:, 2] = 7 * scores[:, 0] ** 3
    made = auc_differences(obuchowski(scores, labels, offsets), confidence_level=0.95)
    assert [d.reference for d in made] == [1, 2, 3]
    assert (made[1].difference, made[1].standard_error) == (0.0, 0.0)
    assert made[1].interval is made[1].statistic is made[1].pvalue is made[1].pvalue_adjusted is None
    plain = np.array([made[0].pvalue, made[2].pvalue])
    assert [made[0].pvalue_adjusted, made[2].pvalue_adjusted] == pytest.approx(holm(plain).tolist())


def test_differences_are_candidate_minus_reference() -> None:
    scores, labels, offsets = _world()
    found = obuchowski(scores, labels, offsets)
    made = auc_differences(found, candidate=2, confidence_level=0.9)
    assert [d.reference for d in made] == [0, 1, 3]
    for d in made:
        assert d.difference == pytest.approx(found.aucs[2] - found.aucs[d.reference], abs=1e-15)
        assert d.df == 9
        assert d.interval[0] + d.interval[1] == pytest.approx(2 * d.difference)
        # The interval holds 0 where the p-value is above 1 - 0.9.
        assert (d.pvalue > 0.1) == (d.interval[0] < 0 < d.interval[1])
    back = auc_differences(found, candidate=0, confidence_level=0.9)[1]
    assert (back.difference, back.pvalue) == pytest.approx((-made[0].difference, made[0].pvalue))


def test_one_score_has_no_differences() -> None:
    scores, labels, offsets = _world()
    assert auc_differences(obuchowski(scores[:, :1], labels, offsets), confidence_level=0.95) == []


def test_interval_is_not_clipped() -> None:
    scores, labels, offsets = _world()
    nearly = labels.astype(float)
    nearly[np.flatnonzero(~labels)[0]] = 2.0
    found = obuchowski(nearly[:, None], labels, offsets)
    low, high = found.interval(0, confidence_level=0.95)
    assert low < found.aucs[0] < 1 < high


def test_within_documents_drops_and_counts_one_class() -> None:
    """Ranks perfectly within documents, but the document of low scores has most of the positives."""
    scores = np.array([1.0, 2, 3, 4, 11, 12, 13, 14, 15, 16, 17, 18, 99])
    labels = np.array([False, True, True, True, False, False, False, True, False, True, False, True, False])
    offsets = np.array([0, 4, 8, 12, 13])
    found = _within(scores, labels, offsets)
    # 3 of 3 pairs, 3 of 3, and 3 of 4.
    assert found.value == pytest.approx(9 / 10)
    assert (found.n_documents, found.n_dropped, found.n_pairs) == (3, 1, 10)
    assert auc(scores, labels) < 0.5


def test_pairs_beyond_the_range_of_integers() -> None:
    """The variance divides by the square of the number of pairs, 25e18 here."""
    labels = np.tile(np.repeat([True, False], 50_000), 2)
    scores = np.where(labels, 1.0, 0.0)
    scores[0] = -1.0
    found = _within(scores, labels, np.array([0, 100_000, 200_000]))
    assert found.n_pairs == 5_000_000_000
    # One document has the AUC 1, the other 1 - 1 / 50000.
    assert found.value == pytest.approx(1 - 1e-5, abs=1e-12)
    assert found.standard_error == pytest.approx(1e-5, rel=1e-6)


def test_seeds() -> None:
    scores, labels, offsets = _world(lengths=(3, 3, 4, 40, 5, 3, 60, 4))
    first, again, other = (_within(scores[:, 0], labels, offsets, seed) for seed in (1, 1, 2))
    assert first.method == "bootstrap_t"
    assert first == again
    assert first.interval != other.interval


def _refused(reason: str, message: str, function, *arguments, **settings) -> None:
    with pytest.raises(UndefinedStatisticError, match=f"^{re.escape(message)}$") as caught:
        function(*arguments, **settings)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("label", "counts"), [(True, "76 positive and 0 negative"), (False, "0 positive and 76 negative")]
)
def test_one_class_is_refused(label: bool, counts: str) -> None:
    scores, labels, offsets = _world(lengths=(40, 36))
    labels[:] = label
    message = f"an AUC needs rows of both classes, got {counts}"
    _refused("one class", message, auc, scores[:, 0], labels)
    _refused("one class", message, obuchowski, scores, labels, offsets)
    _refused("one class", message, _within, scores[:, 0], labels, offsets)


def test_no_rows_are_refused() -> None:
    message = "an AUC needs rows of both classes, got 0 positive and 0 negative"
    _refused("one class", message, auc, np.zeros(0), np.zeros(0, dtype=bool))


def test_too_few_documents_are_refused() -> None:
    scores, labels, offsets = _world(lengths=(40, 36))
    message = "at least 2 documents with positive and 2 with negative rows are needed, got "
    _refused("documents", message + "1 and 1", obuchowski, scores, labels, np.array([0, 76]))
    labels[40:] = False
    _refused("documents", message + "1 and 2", obuchowski, scores, labels, offsets)
    message = "at least 2 documents with both classes are needed, got 1"
    _refused("documents", message, _within, scores[:, 0], labels, offsets)


def test_malformed_rows_are_refused() -> None:
    scores, labels, offsets = _world(lengths=(40, 36))
    with pytest.raises(ValueError, match=r"^`labels` must be a row of booleans, got int64 of shape \(76,\)\. "):
        auc(scores[:, 0], labels.astype(np.int64))
    with pytest.raises(ValueError, match=r"^`scores` must have the shape \(76,\), got \(76, 4\)\. "):
        auc(scores, labels)
    with pytest.raises(ValueError, match=r"^`scores` must have the shape \(76,\), got \(75,\)\. "):
        _within(scores[:75, 0], labels, offsets)
    with pytest.raises(ValueError, match=r"^`scores` must have the shape \(76, number of scores\), got \(76, 0\)\. "):
        obuchowski(scores[:, :0], labels, offsets)
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"^`scores` must be numbers, got 1 NaN\. "):
        obuchowski(scores, labels, offsets)


@pytest.mark.parametrize("offsets", [[1, 40, 76], [0, 40, 75], [0, 40, 40, 76], [0, 50, 40, 76]])
def test_malformed_offsets_are_refused(offsets: list[int]) -> None:
    scores, labels, _ = _world(lengths=(40, 36))
    with pytest.raises(ValueError, match="^`offsets` must rise from 0 to 76 without empty documents, got "):
        obuchowski(scores, labels, np.array(offsets))
    with pytest.raises(ValueError, match="^`offsets` must rise from 0 to 76 without empty documents, got "):
        _within(scores[:, 0], labels, np.array(offsets))


@pytest.mark.parametrize("candidate", [-1, 4])
def test_unknown_candidate_is_refused(candidate: int) -> None:
    found = obuchowski(*_world())
    with pytest.raises(ValueError, match=rf"^`candidate` must be from 0 to 3, got {candidate}\. "):
        auc_differences(found, candidate=candidate, confidence_level=0.95)
