import numpy as np
import pytest

from brf_exp.capture.windows import Window, bucket, plan_parts, plan_windows


def test_short_sequence_is_one_window() -> None:
    assert plan_windows(9, context_tokens=8, min_context_tokens=2) == [Window(0, 8, 1)]


def test_long_sequence_by_hand() -> None:
    windows = plan_windows(20, context_tokens=8, min_context_tokens=3)
    assert windows == [Window(0, 8, 1), Window(6, 14, 9), Window(12, 19, 15)]


@pytest.mark.parametrize("n_tokens", [0, 1])
def test_nothing_to_score(n_tokens: int) -> None:
    assert plan_windows(n_tokens, context_tokens=8, min_context_tokens=2) == []


def test_every_token_but_the_first_is_scored_once_with_enough_context() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        context = int(rng.integers(2, 40))
        least = int(rng.integers(1, context))
        n_tokens = int(rng.integers(2, 200))
        windows = plan_windows(n_tokens, context_tokens=context, min_context_tokens=least)
        targets = [t for w in windows for t in range(w.first_target, w.stop + 1)]
        assert targets == list(range(1, n_tokens))
        for window in windows:
            assert 0 <= window.start < window.stop <= n_tokens - 1
            assert window.n_tokens <= context
            assert window.first_target - window.start >= min(least, window.first_target)
            assert window.n_targets == window.stop - window.first_target + 1


@pytest.mark.parametrize("least", [0, 8, 9])
def test_impossible_context(least: int) -> None:
    with pytest.raises(ValueError, match=r"min_context_tokens must be in \[1, 8\)"):
        plan_windows(20, context_tokens=8, min_context_tokens=least)


def test_buckets_hold_every_window_within_the_budget() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, 200)
    batches = bucket(lengths, batch_tokens=100)
    assert sorted(np.concatenate(batches)) == list(range(200))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= 100
    heads = [lengths[batch].max() for batch in batches]
    assert heads == sorted(heads, reverse=True)


def test_window_longer_than_the_budget_stands_alone() -> None:
    assert [list(batch) for batch in bucket([3, 200, 3], batch_tokens=10)] == [[1], [0, 2]]


def test_parts_are_whole_documents() -> None:
    assert plan_parts([4, 4, 4, 30, 1, 1], rows_per_part=10) == [range(2), range(2, 3), range(3, 4), range(4, 6)]
    assert plan_parts([], rows_per_part=10) == []
