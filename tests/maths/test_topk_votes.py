import numpy as np
import pytest

from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.topk_votes import VoteCounter, Votes, vote_losses, votes


def _ballot(agree: list[bool], hit: list[bool]) -> Votes:
    nothing = np.zeros(len(agree))
    return Votes(np.array(agree), np.array(hit), (nothing, nothing))


def _known(ids: list[list[int]], p: list[list[float]], target: int, target_p: list[float]) -> KnownTokens:
    return known_tokens(
        [np.array([row]) for row in ids],
        [np.log([row]) for row in p],
        target_ids=np.array([target]),
        target_log_p=np.log(np.array(target_p)[:, None]),
    )


def test_rates_by_hand() -> None:
    counter = VoteCounter(np.array([0, 1]))
    counter.add(_ballot([True, True, False], [True, False, True]), np.array([0, 3]), slice(0, 1))
    counter.add(_ballot([True, True, False], [True, True, False]), np.array([0, 3]), slice(1, 2))
    # (split, agreed): fold 0 sees fold 1, 0 of 1 and 2 of 2; fold 1 sees fold 0, 1 of 1 and 1 of 2.
    rates = counter.rates()
    assert rates == {0: (0.5 / 2, 2.5 / 3), 1: (1.5 / 2, 1.5 / 3)}


def test_rates_of_votes_never_seen_are_a_half() -> None:
    counter = VoteCounter(np.array([0, 1]))
    counter.add(_ballot([True, False], [True, True]), np.array([0, 1, 2]), slice(0, 2))
    assert counter.rates() == {0: (1.5 / 2, 0.5), 1: (0.5, 1.5 / 2)}


@pytest.mark.parametrize("n_documents", [1, 2, 4])
def test_chunks_make_no_difference(n_documents: int) -> None:
    rng = np.random.default_rng(1)
    folds = np.array([2, 0, 1, 0, 2, 1, 0])
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 9, folds.size))])
    agree, hit = rng.random((2, offsets[-1])) < 0.6
    counter = VoteCounter(folds)
    for first in range(0, folds.size, n_documents):
        last = min(first + n_documents, folds.size)
        mine = slice(offsets[first], offsets[last])
        chunk = _ballot(agree[mine].tolist(), hit[mine].tolist())
        counter.add(chunk, offsets[first : last + 1] - offsets[first], slice(first, last))
    fold_of_row = np.repeat(folds, np.diff(offsets))
    for fold, (split, agreed) in counter.rates().items():
        for value, rate in ((False, split), (True, agreed)):
            kept = (fold_of_row != fold) & (agree == value)
            assert rate == (hit[kept].sum() + 0.5) / (kept.sum() + 1)


def test_plurality_of_three() -> None:
    """Two votes for token 0 outweigh any certainty of the third; a hit costs the hit rate."""
    ids, p = [[0, 1], [0, 1], [1, 0]], [[0.5, 0.3], [0.4, 0.35], [0.98, 0.01]]
    ballot = votes(_known(ids, p, 0, [0.5, 0.4, 0.01]))
    assert ballot.agree.tolist() == [False] and ballot.hit.tolist() == [True]
    missed = _known(ids, p, 1, [0.3, 0.35, 0.98])
    ballot = votes(missed)
    assert ballot.hit.tolist() == [False]
    np.testing.assert_allclose(np.array(ballot.pool)[:, 0], 0.91 / 3)
    losses = vote_losses(missed, ballot, hit_rate=np.array([0.6]))
    np.testing.assert_allclose(losses.bounds[:, 0], -np.log(0.4 * (1.63 / 3) / (1 - 0.91 / 3)))


def test_a_tie_of_three_goes_to_the_largest_mean() -> None:
    ids, p = [[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[0.5, 0.3, 0.1], [0.6, 0.3, 0.05], [0.4, 0.3, 0.2]]
    # Means: token 0 .85 / 3, token 1 1.1 / 3, token 2 .8 / 3.
    ballot = votes(_known(ids, p, 1, [0.3, 0.6, 0.2]))
    assert ballot.agree.tolist() == [False] and ballot.hit.tolist() == [True]
    np.testing.assert_allclose(np.array(ballot.pool)[:, 0], 1.1 / 3)


def test_three_that_agree() -> None:
    ballot = votes(_known([[4, 1], [4, 2], [4, 3]], [[0.5, 0.3], [0.4, 0.3], [0.6, 0.2]], 4, [0.5, 0.4, 0.6]))
    assert ballot.agree.tolist() == [True] and ballot.hit.tolist() == [True]


def test_a_voted_token_that_a_third_model_lists_alone_leaves_an_interval() -> None:
    """Token 0 wins by two votes; model 3 does not list it, and can give it no more than is left: .1."""
    known = _known([[0, 1], [0, 1], [2, 1]], [[0.5, 0.3], [0.4, 0.35], [0.6, 0.3]], 1, [0.3, 0.35, 0.3])
    lower, upper = np.array(votes(known).pool)[:, 0]
    assert lower == pytest.approx(0.9 / 3)
    assert 1.0 / 3 <= upper <= 1.5 / 3
    ends = vote_losses(known, votes(known), hit_rate=np.array([0.5])).bounds[:, 0]
    exact = [-np.log(0.5 * (0.95 / 3) / (1 - pool)) for pool in (0.9 / 3, 1.0 / 3)]
    assert ends[0] <= min(exact) + 1e-12 and ends[1] >= max(exact) - 1e-12
