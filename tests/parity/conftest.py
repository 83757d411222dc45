"""Slow references: loops and dictionaries, written from the definitions and sharing nothing with the package."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from brf_exp.maths.topk import KnownTokens, known_tokens

Full = tuple[np.ndarray, np.ndarray]
Truncate = Callable[[np.ndarray, np.ndarray, Sequence[int]], KnownTokens]


def _truncate(log_p: np.ndarray, targets: np.ndarray, k: Sequence[int]) -> KnownTokens:
    """The top-k rows that a dump of full distributions (M, n, V) would hold."""
    rows = np.arange(targets.size)
    order = [np.argsort(-model, axis=1, kind="stable")[:, :size] for model, size in zip(log_p, k, strict=True)]
    ranked = [np.take_along_axis(model, ids, axis=1) for model, ids in zip(log_p, order, strict=True)]
    exact = np.stack([model[rows, targets] for model in log_p])
    complete = min(k) == log_p.shape[2]
    return known_tokens(order, ranked, target_ids=targets, target_log_p=exact, complete=complete)


@pytest.fixture(scope="session")
def truncate() -> Truncate:
    return _truncate


def _full(n_models: int, temperature: float = 1.0) -> Full:
    """Full distributions (M, 30, 9) as log-probabilities, and realised tokens (30,)."""
    rng = np.random.default_rng(20)
    p = rng.dirichlet(np.full(9, 0.6), size=(n_models, 30)) + 1e-6
    p = p ** (1 / temperature)
    p /= p.sum(axis=2, keepdims=True)
    return np.log(p), rng.integers(0, 9, 30)


@pytest.fixture(scope="session")
def full_of() -> Callable[..., Full]:
    return _full


@pytest.fixture(scope="session")
def full() -> Full:
    return _full(2)


Distribution = dict[int, float]
Models = Sequence[Distribution]


def _normalised(scores: Distribution) -> Distribution:
    total = math.fsum(scores.values())
    return {token: score / total for token, score in scores.items()}


class SlowRules:
    """Every rule for one position: a dictionary of token -> probability per model in, one out.

    `weights` are all models'; phases are a number per model, or a dictionary of token -> phase per model.
    """

    @staticmethod
    def linear(models: Models, weights: Sequence[float]) -> Distribution:
        return _normalised({t: sum(w * p[t] for w, p in zip(weights, models, strict=True)) for t in models[0]})

    @staticmethod
    def log_linear(models: Models, weights: Sequence[float]) -> Distribution:
        return _normalised({t: math.prod(p[t] ** w for w, p in zip(weights, models, strict=True)) for t in models[0]})

    @staticmethod
    def product(models: Models, weights: Sequence[float], exponent: float) -> Distribution:
        return _normalised({t: math.prod(p[t] ** (exponent / len(models)) for p in models) for t in models[0]})

    @staticmethod
    def power_mean(models: Models, weights: Sequence[float], order: float) -> Distribution:
        if order == 0:
            return SlowRules.log_linear(models, weights)
        return _normalised(
            {t: sum(w * p[t] ** order for w, p in zip(weights, models, strict=True)) ** (1 / order) for t in models[0]}
        )

    @staticmethod
    def lin_log_mixture(models: Models, weights: Sequence[float], mixture: float) -> Distribution:
        linear = SlowRules.linear(models, weights)
        log_pool = SlowRules.log_linear(models, [1 / len(models)] * len(models))
        return {t: (1 - mixture) * linear[t] + mixture * log_pool[t] for t in models[0]}

    @staticmethod
    def constant_coherence(models: Models, weights: Sequence[float], coherence: float) -> Distribution:
        def score(t: int) -> float:
            found = 0.0
            for i, (w, p) in enumerate(zip(weights, models, strict=True)):
                for j, (v, q) in enumerate(zip(weights, models, strict=True)):
                    found += (1.0 if i == j else coherence) * math.sqrt(w * p[t] * v * q[t])
            return max(found, 0.0)

        return _normalised({t: score(t) for t in models[0]})

    @staticmethod
    def brf(models: Models, weights: Sequence[float], phases: Sequence[float | dict[int, float]]) -> Distribution:
        def amplitude(t: int) -> complex:
            found = 0j
            for w, p, phase in zip(weights, models, phases, strict=True):
                angle = phase[t] if isinstance(phase, dict) else phase
                found += math.sqrt(w * p[t]) * complex(math.cos(angle), math.sin(angle))
            return found

        return _normalised({t: abs(amplitude(t)) ** 2 for t in models[0]})

    @staticmethod
    def contrastive(models: Models, weights: Sequence[float], strength: float) -> Distribution:
        first, second = models
        return _normalised({t: first[t] ** (1 + strength) / second[t] ** strength for t in first})

    @staticmethod
    def majority_vote(models: Models, weights: Sequence[float], hit_rate: float) -> Distribution:
        tops = [max(p, key=lambda t, p=p: p[t]) for p in models]
        mean = SlowRules.linear(models, [1 / len(models)] * len(models))
        voted = max(tops, key=lambda t: (tops.count(t), mean[t]))
        rest = 1 - mean[voted]
        return {t: hit_rate if t == voted else (1 - hit_rate) * mean[t] / rest for t in mean}

    @staticmethod
    def routing(models: Models, weights: Sequence[float], confidence: Sequence[float]) -> Distribution:
        return dict(models[max(range(len(models)), key=lambda i: (confidence[i], -i))])


@pytest.fixture(scope="session")
def slow() -> type[SlowRules]:
    return SlowRules
