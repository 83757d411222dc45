from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.interference import interference_information
from brf_exp.maths.topk import known_tokens

P = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])


def _known(p: np.ndarray, k: int):
    order = np.argsort(-p, axis=1)[:, None, :k]
    ranked = np.take_along_axis(np.log(p)[:, None], order, axis=2)
    return known_tokens(list(order), list(ranked), target_ids=np.array([1]), target_log_p=np.log(p[:, 1:2]))


def test_by_hand() -> None:
    c, pool = -0.8, np.array([0.3, 0.3, 0.4])
    q = pool - 0.8 * np.sqrt(P[0] * P[1])
    q /= q.sum()
    found = interference_information(_known(P, 3), np.array([c]))
    np.testing.assert_allclose(found[:, 0], (q * np.log(q / pool)).sum(), atol=1e-6)


def test_nothing_where_nothing_interferes(rows: FusionRows) -> None:
    np.testing.assert_allclose(interference_information(rows.known, np.zeros(rows.n)), 0, atol=1e-12)
    # Equal models: every c leaves them as they are.
    same = interference_information(_known(np.stack([P[0], P[0]]), 3), np.array([0.9]))
    np.testing.assert_allclose(same, 0, atol=1e-6)


@pytest.mark.parametrize("coherence", [-0.9, -0.4, 0.7])
def test_a_tail_leaves_an_interval(rows_of: Callable[..., FusionRows], coherence: float) -> None:
    c = np.full(300, coherence)
    exact = interference_information(rows_of(k=6).known, c)
    widths = []
    for k in (1, 3, 5):
        lower, upper = interference_information(rows_of(k=k).known, c)
        assert (lower <= exact[0] + 1e-9).all() and (upper >= exact[1] - 1e-9).all()
        widths.append((upper - lower).mean())
    assert widths[0] > widths[1] > widths[2] > 0
    assert np.ptp(exact, axis=0).max() < 1e-6


def test_the_largest_value_may_lie_inside_the_overlaps_interval(rows_of: Callable[..., FusionRows]) -> None:
    """Near antiphase s / Z - ln Z is not monotone: no overlap within the interval gives more than the upper end."""
    known = rows_of(k=6).known
    c = np.full(known.n, -0.98)
    wide = np.stack([np.full(known.n, 0.0), np.ones(known.n)])[None]
    _, upper = interference_information(replace(known, overlaps=wide), c)
    inside = [interference_information(replace(known, overlaps=np.full_like(wide, b)), c)[1] for b in (0.5, 0.7, 0.9)]
    assert (upper >= np.max(inside, axis=0) - 1e-12).all()
    ends = [interference_information(replace(known, overlaps=np.full_like(wide, b)), c)[1] for b in (0.0, 1.0)]
    assert (upper > np.max(ends, axis=0) + 1e-3).any()
