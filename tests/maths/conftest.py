"""Small sets of models with full distributions, as the rows that rules are scored on."""

from collections.abc import Callable

import numpy as np
import pytest

from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.documents import circular_shifts
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.gate import gate_cells
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.tuning import Folds

N_DOCUMENTS, LENGTH = 20, 15
FOLDS = Folds(np.arange(N_DOCUMENTS) % 5, dict.fromkeys(range(5), 1.0))


def cut(log_p: np.ndarray, targets: np.ndarray, k: int, temperature: float = 1.0) -> KnownTokens:
    """Top-k rows of full distributions (M, n, V) at a temperature."""
    log_p = log_p / temperature
    log_p = log_p - np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    order = np.argsort(-log_p, axis=2, kind="stable")[:, :, :k]
    exact = np.take_along_axis(log_p, np.broadcast_to(targets[None, :, None], (len(log_p), targets.size, 1)), axis=2)
    return known_tokens(
        list(order),
        list(np.take_along_axis(log_p, order, axis=2)),
        target_ids=targets,
        target_log_p=exact[:, :, 0],
        complete=k == log_p.shape[2],
    )


def make_rows(
    seed: int = 0, *, k: int = 6, vocabulary_size: int = 6, n_models: int = 2, temperatures: tuple[float, ...] = ()
) -> FusionRows:
    rng = np.random.default_rng(seed)
    n = N_DOCUMENTS * LENGTH
    log_p = np.log(rng.dirichlet(np.full(vocabulary_size, 0.7), size=(n_models, n)) + 1e-4)
    log_p -= np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    targets = rng.integers(0, vocabulary_size, n)
    best = np.sort(log_p, axis=2)[:, :, -2:]
    gaps = best[:, :, 1] - best[:, :, 0]
    offsets = np.arange(0, n + 1, LENGTH)
    ranks = rng.uniform(0, 1, size=(n_models, n))
    turned = [circular_shifts(offsets, rng) for _ in range(n_models)]
    return FusionRows(
        known=cut(log_p, targets, k),
        gaps=gaps,
        shifted_gaps=np.stack([row[order] for row, order in zip(gaps, turned, strict=True)]),
        ranks=ranks,
        shifted_ranks=np.stack([row[order] for row, order in zip(ranks, turned, strict=True)]),
        random_phases=rng.uniform(0, 2 * np.pi, (n_models, n)),
        offsets=offsets,
        entropies=-(np.exp(log_p) * log_p).sum(axis=2),
        cells=gate_cells(gaps, [gap_distribution([row]) for row in gaps]),
        at_temperatures={t: cut(log_p, targets, k, t) for t in temperatures},
    )


@pytest.fixture(scope="session")
def rows() -> FusionRows:
    return make_rows()


@pytest.fixture(scope="session")
def truncated_rows() -> FusionRows:
    return make_rows(k=3)


@pytest.fixture(scope="session")
def three_models() -> FusionRows:
    return make_rows(n_models=3, k=4)


@pytest.fixture(scope="session")
def tempered_rows() -> FusionRows:
    """Also known at temperatures 0.5 and 2."""
    return make_rows(k=4, temperatures=(0.5, 2.0))


@pytest.fixture(scope="session")
def folds() -> Folds:
    return FOLDS


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., FusionRows]:
    """A function that makes rows of other models, sizes or seeds."""
    return make_rows
