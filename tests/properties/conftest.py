"""Random sets of distributions, easy and awkward, and the top-k rows that a dump of them would hold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from brf_exp.maths.topk import KnownTokens, known_tokens

KINDS = ("dirichlet", "peaked", "tied", "equal", "tiny_tails")


@dataclass(frozen=True)
class Dump:
    """Full distributions (M, n, V) as log-probabilities, realised tokens, and the same cut to top-k rows."""

    log_p: np.ndarray
    targets: np.ndarray
    known: KnownTokens

    def at_target(self, p: np.ndarray) -> np.ndarray:
        """Entries (n,) of p (n, V) at the realised tokens."""
        return np.take_along_axis(p, self.targets[:, None], axis=1)[:, 0]


def _logits(kind: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    if kind == "peaked":
        return rng.normal(0, 8, shape)
    if kind == "tied":
        return np.round(rng.normal(0, 2, shape) * 2) / 2
    if kind == "equal":
        return np.broadcast_to(rng.normal(0, 2, shape[1:]), shape).copy()
    if kind == "tiny_tails":
        logits = rng.normal(0, 1, shape)
        logits[:, :, shape[2] // 2 :] -= 18
        return logits
    return np.log(rng.dirichlet(np.full(shape[2], 0.4), size=shape[:2]) + 1e-12)


def _dump(
    seed: int, kind: str, vocabulary_size: int, k: tuple[int, ...], n: int = 25, n_outcomes: int | None = None
) -> Dump:
    """`n_outcomes`: what the dump says of the vocabulary's size, where that is more than the tokens drawn."""
    rng = np.random.default_rng(seed)
    logits = _logits(kind, rng, (len(k), n, vocabulary_size))
    log_p = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    # Half of the realised tokens drawn from the models, half from anywhere.
    likely = (np.exp(log_p[0]).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    anywhere = rng.integers(0, vocabulary_size, n)
    targets = np.where(rng.random(n) < 0.5, np.minimum(likely, vocabulary_size - 1), anywhere)
    order = [np.argsort(-row, axis=1, kind="stable")[:, :size] for row, size in zip(log_p, k, strict=True)]
    ranked = [np.take_along_axis(row, ids, axis=1) for row, ids in zip(log_p, order, strict=True)]
    exact = np.stack([row[np.arange(n), targets] for row in log_p])
    complete = min(k) == vocabulary_size
    known = known_tokens(
        order,
        ranked,
        target_ids=targets,
        target_log_p=exact,
        complete=complete,
        vocabulary_size=n_outcomes or vocabulary_size,
    )
    return Dump(log_p, targets, known)


@pytest.fixture(scope="session")
def dump() -> Callable[..., Dump]:
    return _dump
