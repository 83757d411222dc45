"""Slow references: loops and dictionaries, written from the definitions and sharing nothing with the package."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from brf_exp.maths.topk import KnownTokens, known_tokens

Truncate = Callable[[np.ndarray, np.ndarray, tuple[int, int]], KnownTokens]


def _truncate(log_p: np.ndarray, targets: np.ndarray, k: tuple[int, int]) -> KnownTokens:
    """The top-k rows that a dump of full distributions (2, n, V) would hold."""
    rows = np.arange(targets.size)
    order = [np.argsort(-model, axis=1, kind="stable")[:, :size] for model, size in zip(log_p, k, strict=True)]
    ranked = [np.take_along_axis(model, ids, axis=1) for model, ids in zip(log_p, order, strict=True)]
    return known_tokens(
        (order[0], order[1]),
        (ranked[0], ranked[1]),
        target_ids=targets,
        target_log_p=np.stack([model[rows, targets] for model in log_p]),
    )


@pytest.fixture(scope="session")
def truncate() -> Truncate:
    return _truncate


@pytest.fixture(scope="session")
def full() -> tuple[np.ndarray, np.ndarray]:
    """Full distributions (2, 30, 9) as log-probabilities, and realised tokens (30,)."""
    rng = np.random.default_rng(20)
    p = rng.dirichlet(np.full(9, 0.6), size=(2, 30)) + 1e-6
    p /= p.sum(axis=2, keepdims=True)
    return np.log(p), rng.integers(0, 9, 30)


Distribution = dict[int, float]


def _normalised(scores: Distribution) -> Distribution:
    total = math.fsum(scores.values())
    return {token: score / total for token, score in scores.items()}


class SlowRules:
    """Every rule for two models and one position: dictionaries of token -> probability in, the same out."""

    @staticmethod
    def linear(a: Distribution, b: Distribution, weight: float) -> Distribution:
        return _normalised({t: weight * a[t] + (1 - weight) * b[t] for t in a})

    @staticmethod
    def log_linear(a: Distribution, b: Distribution, weight: float) -> Distribution:
        return _normalised({t: a[t] ** weight * b[t] ** (1 - weight) for t in a})

    @staticmethod
    def product(a: Distribution, b: Distribution, exponent: float) -> Distribution:
        return _normalised({t: math.sqrt(a[t]) ** exponent * math.sqrt(b[t]) ** exponent for t in a})

    @staticmethod
    def power_mean(a: Distribution, b: Distribution, order: float, weight: float) -> Distribution:
        if order == 0:
            return SlowRules.log_linear(a, b, weight)
        return _normalised({t: (weight * a[t] ** order + (1 - weight) * b[t] ** order) ** (1 / order) for t in a})

    @staticmethod
    def lin_log(a: Distribution, b: Distribution, mixture: float, weight: float) -> Distribution:
        linear, log_pool = SlowRules.linear(a, b, weight), SlowRules.log_linear(a, b, 0.5)
        return {t: (1 - mixture) * linear[t] + mixture * log_pool[t] for t in a}

    @staticmethod
    def born(a: Distribution, b: Distribution, phase_a: float, phase_b: float, weight: float) -> Distribution:
        def amplitude(p: float, w: float, phase: float) -> complex:
            return math.sqrt(w * p) * complex(math.cos(phase), math.sin(phase))

        return _normalised(
            {t: abs(amplitude(a[t], weight, phase_a) + amplitude(b[t], 1 - weight, phase_b)) ** 2 for t in a}
        )

    @staticmethod
    def vote(a: Distribution, b: Distribution, hit_rate: float) -> Distribution:
        first, second = max(a, key=lambda t: a[t]), max(b, key=lambda t: b[t])
        mean = SlowRules.linear(a, b, 0.5)
        voted = max((first, second), key=lambda t: mean[t])
        rest = 1 - mean[voted]
        return {t: hit_rate if t == voted else (1 - hit_rate) * mean[t] / rest for t in a}


@pytest.fixture(scope="session")
def slow() -> type[SlowRules]:
    return SlowRules
