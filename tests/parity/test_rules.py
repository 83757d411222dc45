"""Rules on top-k rows with k = V, and on full distributions, against loops and dictionaries."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from brf_exp.maths import rules, topk_rules, topk_votes
from brf_exp.maths.fusion_rows import FusionRows, coherences
from brf_exp.maths.specs import CANDIDATE, brf_spec

TOLERANCE = 1e-9
ORDERS = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0)
CASES = [
    ("linear", {}),
    ("log_linear", {}),
    *[("product", {"exponent": s}) for s in (1.0, 1.3, 2.0)],
    *[("power_mean", {"order": r}) for r in ORDERS],
    *[("lin_log_mixture", {"mixture": m}) for m in (0.05, 0.6, 1.0)],
    *[("constant_coherence", {"coherence": c}) for c in (-0.3, 0.0, 0.6, 1.0)],
    *[("contrastive", {"strength": s}) for s in (0.02, 0.5, 1.0)],
]
WEIGHTS = {
    2: [(0.5, 0.5), (0.16, 0.84), (0.7, 0.3)],
    3: [(1 / 3, 1 / 3, 1 / 3), (0.2, 0.5, 0.3)],
    4: [(0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4)],
}
GRID = [
    (name, parameters, weights)
    for name, parameters in CASES
    for n_models, choices in WEIGHTS.items()
    for weights in (choices if rules.RULES[name].weighted else choices[:1])
    if n_models <= (rules.RULES[name].most_models or n_models)
]
Slow = Callable[..., dict[int, float]]


def _distributions(log_p: np.ndarray, row: int) -> list[dict[int, float]]:
    return [{t: math.exp(value) for t, value in enumerate(model[row])} for model in log_p]


def _slow_losses(full, rule: Slow, weights: Sequence[float], of_row: Callable[[int], dict[str, Any]]) -> np.ndarray:
    log_p, targets = full
    fused = [rule(_distributions(log_p, n), weights, **of_row(n)) for n in range(targets.size)]
    return np.array([-math.log(q[int(y)]) for q, y in zip(fused, targets, strict=True)])


def _assert_point(losses: topk_rules.RuleLosses, expected: np.ndarray) -> None:
    assert not losses.undefined.any()
    np.testing.assert_allclose(losses.bounds[0], expected, atol=TOLERANCE)
    np.testing.assert_allclose(losses.bounds[1], expected, atol=TOLERANCE)


def _full_losses(full, name: str, weights: Sequence[float], **parameters: Any) -> np.ndarray:
    log_p, targets = full
    return -np.log(rules.fuse(name, log_p, weights=np.array(weights), **parameters).p[np.arange(targets.size), targets])


def _weight(weights: Sequence[float]) -> topk_rules.Weight:
    return weights[0] if len(weights) == 2 else np.array(weights)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize(("name", "parameters", "weights"), GRID)
def test_rule_at_full_vocabulary(full_of, truncate, slow, name, parameters, weights, temperature) -> None:
    full = full_of(len(weights), temperature)
    known = truncate(*full, (9,) * len(weights))
    expected = _slow_losses(full, getattr(slow, name), weights, lambda n: parameters)
    given = {**parameters, "weight": _weight(weights)} if rules.RULES[name].weighted else parameters
    _assert_point(rules.known_losses(name, known, **given), expected)
    np.testing.assert_allclose(_full_losses(full, name, weights, **parameters), expected, atol=TOLERANCE)


def test_every_rule_has_a_case() -> None:
    assert {name for name, _ in CASES} | {"brf", "majority_vote", "routing"} == set(rules.RULES)


@pytest.mark.parametrize("weights", [w for choices in WEIGHTS.values() for w in choices])
def test_born_rule(full_of, truncate, slow, weights: tuple[float, ...]) -> None:
    full = full_of(len(weights))
    phi = np.random.default_rng(21).uniform(0, 2 * np.pi, size=(len(weights), 30))
    expected = _slow_losses(full, slow.brf, weights, lambda n: {"phases": phi[:, n].tolist()})
    known = truncate(*full, (9,) * len(weights))
    _assert_point(topk_rules.coherent_losses(known, coherence=coherences(phi), weight=_weight(weights)), expected)
    np.testing.assert_allclose(_full_losses(full, "brf", weights, phases_rad=phi), expected, atol=TOLERANCE)


def _rows(full, truncate, temperatures: tuple[float, ...]) -> FusionRows:
    """Rows of whole vocabularies, with gaps in logits at temperature 1."""
    log_p, targets = full
    ks = (9,) * len(log_p)
    best = np.sort(log_p, axis=2)
    gaps = best[:, :, -1] - best[:, :, -2]
    warm = {t: log_p / t - np.logaddexp.reduce(log_p / t, axis=2, keepdims=True) for t in temperatures}
    known = {t: truncate(made, targets, ks) for t, made in warm.items()}
    none = np.zeros_like(gaps)
    return FusionRows(
        truncate(log_p, targets, ks), gaps, gaps, none, none, none, np.array([0, 30]), at_temperatures=known
    )


@pytest.mark.parametrize("scope", ["position", "token"])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [w for choices in WEIGHTS.values() for w in choices[1:]])
def test_born_rule_of_a_map(full_of, truncate, slow, weights, temperature, scope) -> None:
    """arctan phases of the logits, of models at a temperature: per position, or per token from its own gap."""
    full, scale = full_of(len(weights)), 1.7
    log_p, targets = full

    def phases(n: int) -> dict[str, Any]:
        found: list[float | dict[int, float]] = []
        for model in log_p:
            z = sorted(model[n].tolist(), reverse=True)
            of_tokens = {t: 2 * math.atan((z[0] - value) / scale) for t, value in enumerate(model[n].tolist())}
            found.append(of_tokens if scope == "token" else 2 * math.atan((z[0] - z[1]) / scale))
        return {"phases": found}

    warm = log_p / temperature
    warm = warm - np.log(np.exp(warm).sum(axis=2, keepdims=True))
    expected = _slow_losses((warm, targets), slow.brf, weights, phases)
    spec = brf_spec("brf", "arctan", scale, role=CANDIDATE, n_models=len(weights), default_scale=None, scope=scope)
    weight = weights[0] if len(weights) == 2 else weights
    parameters = {"weight": weight, "scale": scale, "temperature": temperature}
    _assert_point(spec.losses(_rows(full, truncate, (0.5, 2.0)), parameters), expected)


@pytest.mark.parametrize("n_models", [2, 3, 4])
def test_vote_gated_forecast(full_of, truncate, slow, n_models: int) -> None:
    log_p, targets = full_of(n_models)
    # Every other position: models that mostly agree.
    log_p = np.where(np.arange(30)[:, None] % 2 == 0, 0.2 * log_p + 1.5 * log_p[0], log_p)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=2, keepdims=True))
    full = log_p, targets
    rates = np.random.default_rng(22).uniform(0.2, 0.9, targets.size)
    weights = [1 / n_models] * n_models
    expected = _slow_losses(full, slow.majority_vote, weights, lambda n: {"hit_rate": float(rates[n])})
    known = truncate(*full, (9,) * n_models)
    ballot = topk_votes.votes(known)
    _assert_point(topk_votes.vote_losses(known, ballot, hit_rate=rates), expected)
    tops = np.argmax(log_p, axis=2)
    np.testing.assert_array_equal(ballot.agree, (tops == tops[0]).all(axis=0))
    assert ballot.hit.any() and not ballot.hit.all() and ballot.agree.any() and not ballot.agree.all()
    one_rate = _slow_losses(full, slow.majority_vote, weights, lambda n: {"hit_rate": 0.4})
    np.testing.assert_allclose(_full_losses(full, "majority_vote", weights, hit_rate=0.4), one_rate, atol=TOLERANCE)


@pytest.mark.parametrize("n_models", [2, 3, 4])
def test_routing_models_and_oracle(full_of, truncate, slow, n_models: int) -> None:
    log_p, targets = full = full_of(n_models)
    known = truncate(*full, (9,) * n_models)
    confidence = np.random.default_rng(23).random((n_models, targets.size))
    confidence[:, 0] = 0.5  # a tie: the first model
    weights = [1 / n_models] * n_models
    expected = _slow_losses(full, slow.routing, weights, lambda n: {"confidence": confidence[:, n].tolist()})
    _assert_point(topk_rules.routed_losses(known, confidence=confidence), expected)
    np.testing.assert_allclose(_full_losses(full, "routing", weights, confidence=confidence), expected, atol=TOLERANCE)
    for model in range(n_models):
        alone = np.array([-log_p[model, n, y] for n, y in enumerate(targets)])
        _assert_point(topk_rules.single_losses(known, model=model), alone)
    best = np.array([-max(log_p[:, n, y]) for n, y in enumerate(targets)])
    _assert_point(topk_rules.oracle_losses(known), best)


def test_eight_numbers_give_the_log_loss_and_the_brier_score(full) -> None:
    """Log loss and Brier score of Born Rule Fusion for any cos need eight sums per position."""
    log_p, targets = full
    p, rows = np.exp(log_p), np.arange(targets.size)
    root = np.sqrt(p[0] * p[1])
    c = np.cos(np.random.default_rng(24).uniform(0, np.pi, targets.size))
    q = rules.fuse("constant_coherence", log_p, coherence=c).p
    one_hot = np.zeros_like(q)
    one_hot[rows, targets] = 1
    brier = ((q - one_hot) ** 2).sum(axis=1)
    squares = (p[0] ** 2 + p[1] ** 2 + 2 * p[0] * p[1]).sum(axis=1) + 4 * c**2 * (p[0] * p[1]).sum(axis=1)
    squares += 4 * c * ((p[0] + p[1]) * root).sum(axis=1)
    z = 2 + 2 * c * root.sum(axis=1)
    q_target = (p[0, rows, targets] + p[1, rows, targets] + 2 * c * root[rows, targets]) / z
    np.testing.assert_allclose(brier, 1 - 2 * q_target + squares / z**2, atol=1e-12)
