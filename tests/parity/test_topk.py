"""Alignment of top-k rows against dictionaries."""

import math

import numpy as np
import pytest


@pytest.mark.parametrize("k", [(1, 1), (3, 3), (5, 2), (2, 7), (9, 9)])
def test_known_tokens_against_dictionaries(full, truncate, k) -> None:
    log_p, targets = full
    known = truncate(log_p, targets, k)
    for n, y in enumerate(targets.tolist()):
        full_rows = [dict(enumerate(np.exp(model[n]).tolist())) for model in log_p]
        top = [sorted(row, key=lambda t, row=row: -row[t])[:size] for row, size in zip(full_rows, k, strict=True)]
        shared = {t for t in top[0] if t in top[1]} | {y}
        found = {int(t): known.shared[:, n, i] for i, t in enumerate(known.shared_ids[n]) if t >= 0}
        assert set(found) == shared
        assert np.isneginf(known.shared[:, n, known.shared_ids[n] < 0]).all()
        for model in (0, 1):
            row = full_rows[model]
            for token in shared:
                assert math.exp(found[token][model]) == pytest.approx(row[token], rel=1e-12)
            own = sorted(row[t] for t in top[model] if t not in shared)
            kept = known.own[model][n]
            np.testing.assert_allclose(np.sort(np.exp(kept[np.isfinite(kept)])), own, rtol=1e-12)
            rest = math.fsum(row[t] for t in row if t not in shared)
            assert known.remainder[model, n] == pytest.approx(rest, abs=1e-12)
            unlisted = [row[t] for t in row if t not in shared and t not in top[model]]
            assert known.unlisted[model, n] == pytest.approx(math.fsum(unlisted), abs=1e-12)
            assert math.exp(known.cap[model, n]) >= max(unlisted, default=0) - 1e-12
            assert known.argmax_ids[model, n] == top[model][0]
            assert known.max_log_p[model, n] == pytest.approx(math.log(row[top[model][0]]))
            assert known.target[model, n] == pytest.approx(math.log(row[y]))
        overlap = math.fsum(math.sqrt(full_rows[0][t] * full_rows[1][t]) for t in full_rows[0])
        lower = math.fsum(math.sqrt(full_rows[0][t] * full_rows[1][t]) for t in shared)
        assert known.overlap[0, n] == pytest.approx(lower, abs=1e-12)
        assert lower - 1e-12 <= overlap <= known.overlap[1, n] + 1e-12


def test_overlap_is_tighter_than_cauchy_schwarz(full, truncate) -> None:
    known = truncate(*full, (3, 3))
    plain = np.minimum(1, known.overlap[0] + np.sqrt(known.remainder.prod(axis=0)))
    assert (known.overlap[1] <= plain + 1e-12).all()
    assert (known.overlap[1] - known.overlap[0]).mean() < 0.9 * (plain - known.overlap[0]).mean()


def test_ids_far_apart_do_not_collide() -> None:
    from brf_exp.maths.topk import known_tokens

    ids = (np.array([[7, 200_000], [0, 1]]), np.array([[200_000, 3], [1, 200_001]]))
    log_p = (np.log([[0.6, 0.3], [0.5, 0.4]]), np.log([[0.5, 0.2], [0.7, 0.1]]))
    target = np.array([[0.1, 0.4], [0.1, 0.7]])
    known = known_tokens(ids, log_p, target_ids=np.array([5, 1]), target_log_p=np.log(target))
    assert known.shared_ids.tolist() == [[5, -1, 200_000], [1, -1, -1]]
    np.testing.assert_allclose(np.exp(known.shared[:, 0]), [[0.1, 0, 0.3], [0.1, 0, 0.5]])
    np.testing.assert_allclose(known.remainder, [[0.6, 0.6], [0.4, 0.3]])
