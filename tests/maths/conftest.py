"""A small pair with full distributions, as the rows that rules are scored on."""

import numpy as np
import pytest

from brf_exp.maths.phases import circular_shift
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.tuning import PairRows


def make_rows(seed: int = 0, n_documents: int = 20, length: int = 15, k: int = 6, vocabulary_size: int = 6) -> PairRows:
    rng = np.random.default_rng(seed)
    n = n_documents * length
    log_p = np.log(rng.dirichlet(np.full(vocabulary_size, 0.7), size=(2, n)) + 1e-4)
    log_p -= np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    targets = rng.integers(0, vocabulary_size, n)
    order = np.argsort(-log_p, axis=2, kind="stable")[:, :, :k]
    ranked = np.take_along_axis(log_p, order, axis=2)
    known = known_tokens(
        (order[0], order[1]),
        (ranked[0], ranked[1]),
        target_ids=targets,
        target_log_p=np.take_along_axis(log_p, np.broadcast_to(targets[None, :, None], (2, n, 1)), axis=2)[:, :, 0],
    )
    best = np.sort(log_p, axis=2)[:, :, -2:]
    gaps = best[:, :, 1] - best[:, :, 0]
    offsets = np.arange(0, n + 1, length)
    quantile = rng.uniform(0, 2 * np.pi, size=(2, n))
    return PairRows(
        known=known,
        gaps=gaps,
        shifted_gaps=np.stack([circular_shift(row, offsets, rng) for row in gaps]),
        random_coherence=np.cos(rng.uniform(0, 2 * np.pi, n)),
        offsets=offsets,
        entropies=-(np.exp(log_p) * log_p).sum(axis=2),
        quantile_phases=quantile,
        shifted_quantile_phases=np.stack([circular_shift(row, offsets, rng) for row in quantile]),
    )


@pytest.fixture(scope="session")
def rows() -> PairRows:
    return make_rows()


@pytest.fixture(scope="session")
def truncated_rows() -> PairRows:
    return make_rows(k=3)
