"""What is kept of logits, against sums and sorts over the whole vocabulary in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.capture import reduce
from brf_exp.capture.reduce import GROUP, join, reduce_logits, top_k

K = 5
LARGE = 2 * K * GROUP + 13  # just enough for groups, and some logits that are in none


def expected_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]


def random_logits(seed: int, n: int, size: int, spread: float = 3.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, spread, (n, size)).astype(np.float32))


@pytest.mark.parametrize("size", [7, LARGE, 5000])
@pytest.mark.parametrize("offset", [0.0, 90.0, -300.0])
def test_against_float64(size: int, offset: float) -> None:
    logits = random_logits(size, 40, size) + offset
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, size, 40))
    found = reduce_logits(logits, targets, k=K, temperatures=(0.5, 2.0)).scores((0.5, 2.0))
    wide = logits.double().numpy()

    def logsumexp(z: np.ndarray) -> np.ndarray:
        top = z.max(axis=1)
        return top + np.log(np.exp(z - top[:, None]).sum(axis=1))

    np.testing.assert_allclose(found.logsumexp, logsumexp(wide), rtol=0, atol=5e-7)
    np.testing.assert_allclose(found.tempered[:, 0], logsumexp(wide / 0.5), rtol=0, atol=5e-7)
    np.testing.assert_allclose(found.tempered[:, 1], logsumexp(wide / 2.0), rtol=0, atol=5e-7)
    p = np.exp(wide - logsumexp(wide)[:, None])
    np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(axis=1), rtol=1e-6, atol=1e-6)
    order = np.argsort(-wide, axis=1, kind="stable")
    np.testing.assert_array_equal(found.ids, order[:, :K])
    np.testing.assert_array_equal(found.logits, np.take_along_axis(logits.numpy(), order, axis=1)[:, :K])
    np.testing.assert_array_equal(found.target_rank, 1 + np.argmax(order == targets.numpy()[:, None], axis=1))
    np.testing.assert_array_equal(found.target_logit, logits.numpy()[np.arange(40), targets.numpy()])


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(K, 3 * LARGE), levels=st.integers(1, 400))
@settings(deadline=None, max_examples=60)
def test_ties_go_to_the_lower_id_everywhere(seed: int, size: int, levels: int) -> None:
    """Whole numbers tie within groups, between them, and at the last place."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, levels, (6, size)).astype(np.float32)
    targets = rng.integers(0, size, 6)
    ids, values = top_k(torch.from_numpy(logits), k=K)
    np.testing.assert_array_equal(ids, expected_top_k(logits, K))
    np.testing.assert_array_equal(values, np.take_along_axis(logits, expected_top_k(logits, K), axis=1))
    found = reduce_logits(torch.from_numpy(logits), torch.from_numpy(targets), k=K).scores(())
    place = np.argmax(np.argsort(-logits, axis=1, kind="stable") == targets[:, None], axis=1)
    np.testing.assert_array_equal(found.target_rank, 1 + place)


def test_the_largest_may_all_lie_in_one_group() -> None:
    logits = torch.zeros(3, LARGE)
    n_groups = LARGE // GROUP
    for row in range(3):
        logits[row, row + n_groups * torch.arange(K)] = torch.arange(K) + 1.0
    ids, _ = top_k(logits, k=K)
    assert ids.tolist() == [[row + n_groups * place for place in reversed(range(K))] for row in range(3)]


def test_the_largest_may_be_in_no_group() -> None:
    logits = random_logits(4, 2, LARGE)
    logits[:, -3:] += 100
    assert set(top_k(logits, k=K)[0][0, :3].tolist()) == {LARGE - 3, LARGE - 2, LARGE - 1}


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = random_logits(5, 50, LARGE), torch.arange(50)
    whole = reduce_logits(logits, targets, k=K, temperatures=(0.7,)).scores((0.7,))
    monkeypatch.setattr(reduce, "CPU_BLOCK_LOGITS", 7 * LARGE)
    parts = [
        reduce_logits(logits[rows], targets[rows], k=K, temperatures=(0.7,)) for rows in (slice(0, 20), slice(20, 50))
    ]
    for name, array in vars(join(parts).scores((0.7,))).items():
        np.testing.assert_array_equal(array, getattr(whole, name), err_msg=name)


def test_logits_of_minus_infinity_have_no_weight() -> None:
    logits = random_logits(6, 8, LARGE)
    targets = logits.argmax(1)
    without = reduce_logits(logits, targets, k=K).scores(())
    padded = torch.cat([logits, torch.full((8, 40), -torch.inf)], 1)
    found = reduce_logits(padded, targets, k=K).scores(())
    np.testing.assert_allclose(found.logsumexp, without.logsumexp, rtol=0, atol=5e-7)
    np.testing.assert_allclose(found.entropy, without.entropy, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found.ids, without.ids)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_shows(wrong: float) -> None:
    logits = random_logits(7, 4, LARGE)
    logits[2, 17] = wrong
    found = reduce_logits(logits, torch.zeros(4, dtype=torch.long), k=K).scores(())
    assert np.isfinite(found.logsumexp).tolist() == [True, True, False, True]
