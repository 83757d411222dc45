"""Rules on top-k rows with k = V, and on full distributions, against loops and dictionaries."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from brf_exp.maths import fusion, topk_rules, topk_votes

TOLERANCE = 1e-9
ORDERS = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0)
CASES = [
    *[("linear", topk_rules.linear_losses, {"weight": w}) for w in (0.1, 0.5, 0.8)],
    *[("log_linear", topk_rules.log_linear_losses, {"weight": w}) for w in (0.16, 0.5, 0.7)],
    *[("product", topk_rules.product_losses, {"exponent": s}) for s in (1.0, 1.3, 2.0)],
    *[("power_mean", topk_rules.power_mean_losses, {"order": r, "weight": w}) for r in ORDERS for w in (0.5, 0.3)],
    *[
        ("lin_log", topk_rules.lin_log_losses, {"mixture": m, "weight": w})
        for m in (0.05, 0.6, 1.0)
        for w in (0.5, 0.3)
    ],
]
FULL_NAMES = {"lin_log": "lin_log_mixture"}


def _distributions(log_p: np.ndarray, row: int) -> list[dict[int, float]]:
    return [{t: math.exp(value) for t, value in enumerate(model[row])} for model in log_p]


def _slow_losses(
    full: tuple[np.ndarray, np.ndarray], rule: Callable[..., dict[int, float]], parameters: dict[str, Any]
) -> np.ndarray:
    log_p, targets = full
    per_row = {name: np.broadcast_to(value, targets.shape) for name, value in parameters.items()}
    return np.array(
        [
            -math.log(rule(*_distributions(log_p, n), **{k: float(v[n]) for k, v in per_row.items()})[int(y)])
            for n, y in enumerate(targets)
        ]
    )


def _assert_point(losses: topk_rules.RuleLosses, expected: np.ndarray) -> None:
    assert not losses.undefined.any()
    np.testing.assert_allclose(losses.bounds[0], expected, atol=TOLERANCE)
    np.testing.assert_allclose(losses.bounds[1], expected, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "losses", "parameters"), CASES)
def test_rule_at_full_vocabulary(full, truncate, slow, name, losses, parameters) -> None:
    known = truncate(*full, (9, 9))
    _assert_point(losses(known, **parameters), _slow_losses(full, getattr(slow, name), parameters))


# On full distributions the mixture's log pool has the weights of its linear pool, so only equal ones compare.
FULL_CASES = [case for case in CASES if case[0] != "lin_log" or case[2]["weight"] == 0.5]


@pytest.mark.parametrize(("name", "losses", "parameters"), FULL_CASES)
def test_full_distributions(full, slow, name, losses, parameters) -> None:
    log_p, targets = full
    given = dict(parameters)
    weight = given.pop("weight", 0.5)
    p = fusion.fuse(FULL_NAMES.get(name, name), log_p, weights=np.array([weight, 1 - weight]), **given).p
    expected = _slow_losses(full, getattr(slow, name), parameters)
    np.testing.assert_allclose(-np.log(p[np.arange(targets.size), targets]), expected, atol=TOLERANCE)


@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_born_rule(full, truncate, slow, weight: float) -> None:
    log_p, targets = full
    phi = np.random.default_rng(21).uniform(0, 2 * np.pi, size=(2, targets.size))
    expected = _slow_losses(full, slow.born, {"phase_a": phi[0], "phase_b": phi[1], "weight": weight})
    known = truncate(*full, (9, 9))
    _assert_point(topk_rules.coherent_losses(known, coherence=np.cos(phi[0] - phi[1]), weight=weight), expected)
    p = fusion.fuse("brf", log_p, weights=np.array([weight, 1 - weight]), phases_rad=phi).p
    np.testing.assert_allclose(-np.log(p[np.arange(targets.size), targets]), expected, atol=TOLERANCE)


@pytest.mark.parametrize("coherence", [-0.95, -0.3, 0.0, 0.6, 1.0])
def test_constant_coherence(full, truncate, slow, coherence: float) -> None:
    angle = math.acos(coherence)
    expected = _slow_losses(full, slow.born, {"phase_a": angle, "phase_b": 0.0, "weight": 0.3})
    _assert_point(topk_rules.coherent_losses(truncate(*full, (9, 9)), coherence=coherence, weight=0.3), expected)
    log_p, targets = full
    p = fusion.fuse("constant_coherence", log_p, weights=np.array([0.3, 0.7]), coherence=coherence).p
    np.testing.assert_allclose(-np.log(p[np.arange(targets.size), targets]), expected, atol=TOLERANCE)


def test_vote_gated_forecast(full, truncate, slow) -> None:
    log_p, targets = full
    rates = np.random.default_rng(22).uniform(0.2, 0.9, targets.size)
    expected = _slow_losses(full, slow.vote, {"hit_rate": rates})
    known = truncate(*full, (9, 9))
    ballot = topk_votes.votes(known)
    _assert_point(topk_votes.vote_losses(known, ballot, hit_rate=rates), expected)
    tops = [np.argmax(model, axis=1) for model in log_p]
    np.testing.assert_array_equal(ballot.agree, tops[0] == tops[1])
    assert ballot.hit.any() and not ballot.hit.all() and ballot.agree.any() and not ballot.agree.all()
    one_rate = fusion.fuse("majority_vote", log_p, hit_rate=0.4).p[np.arange(targets.size), targets]
    np.testing.assert_allclose(-np.log(one_rate), _slow_losses(full, slow.vote, {"hit_rate": 0.4}), atol=TOLERANCE)


def test_routing_models_and_oracle(full, truncate) -> None:
    log_p, targets = full
    known = truncate(*full, (9, 9))
    confidence = np.random.default_rng(23).random((2, targets.size))
    confidence[:, 0] = 0.5  # a tie: the first model
    mine = [-float(log_p[0 if confidence[0, n] >= confidence[1, n] else 1, n, y]) for n, y in enumerate(targets)]
    _assert_point(topk_rules.routed_losses(known, confidence=confidence), np.array(mine))
    for model in (0, 1):
        alone = np.array([-log_p[model, n, y] for n, y in enumerate(targets)])
        _assert_point(topk_rules.single_losses(known, model=model), alone)
    best = np.array([-max(log_p[0, n, y], log_p[1, n, y]) for n, y in enumerate(targets)])
    _assert_point(topk_rules.oracle_losses(known), best)


def test_eight_numbers_give_the_log_loss_and_the_brier_score(full) -> None:
    """Log loss and Brier score of Born Rule Fusion for any cos need eight sums per position."""
    log_p, targets = full
    p, rows = np.exp(log_p), np.arange(targets.size)
    root = np.sqrt(p[0] * p[1])
    c = np.cos(np.random.default_rng(24).uniform(0, np.pi, targets.size))
    q = fusion.fuse("constant_coherence", log_p, coherence=c).p
    one_hot = np.zeros_like(q)
    one_hot[rows, targets] = 1
    brier = ((q - one_hot) ** 2).sum(axis=1)
    squares = (p[0] ** 2 + p[1] ** 2 + 2 * p[0] * p[1]).sum(axis=1) + 4 * c**2 * (p[0] * p[1]).sum(axis=1)
    squares += 4 * c * ((p[0] + p[1]) * root).sum(axis=1)
    z = 2 + 2 * c * root.sum(axis=1)
    q_target = (p[0, rows, targets] + p[1, rows, targets] + 2 * c * root[rows, targets]) / z
    np.testing.assert_allclose(brier, 1 - 2 * q_target + squares / z**2, atol=1e-12)
