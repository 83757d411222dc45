"""The identities of the rules, on random distributions, weights and phases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.maths.fusion import bhattacharyya, mixture_share
from brf_exp.maths.rules import RULES, fuse

SEEDS = st.integers(0, 2**32 - 1)
WEIGHTS = st.floats(0.0, 1.0)
FEW = settings(deadline=None, max_examples=40)


def _pair(seed: int, vocabulary_size: int = 7, n: int = 12, n_models: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(vocabulary_size, rng.uniform(0.1, 2)), size=(n_models, n)) + 1e-9
    p /= p.sum(axis=2, keepdims=True)
    return np.log(p), rng.uniform(0, 2 * np.pi, size=(n_models, n))


@FEW
@given(SEEDS)
def test_born_is_a_mixture_of_linear_and_log_pool(seed: int) -> None:
    log_p, phi = _pair(seed)
    c, overlap = np.cos(phi[0] - phi[1]), bhattacharyya(log_p[0], log_p[1])
    share = mixture_share(c, overlap)
    np.testing.assert_allclose(share, c * overlap / (1 + c * overlap), rtol=1e-12)
    born = fuse("brf", log_p, phases_rad=phi)
    kept = born.normaliser > 1e-6
    mixture = (1 - share[:, None]) * fuse("linear", log_p).p + share[:, None] * fuse("log_linear", log_p).p
    np.testing.assert_allclose(born.p[kept], mixture[kept], atol=1e-8)


@FEW
@given(SEEDS)
def test_antiphase_removes_what_both_agree_on(seed: int) -> None:
    log_p, phi = _pair(seed)
    log_p[1, :, 0] = log_p[0, :, 0]  # one token with the same probability; the rows need not sum to 1 here
    phi[1] = phi[0] + np.pi
    numerator = RULES["brf"].numerator(log_p, np.array([0.5, 0.5]), phases_rad=phi)
    p = np.exp(log_p)
    np.testing.assert_allclose(numerator, 0.5 * (np.sqrt(p[0]) - np.sqrt(p[1])) ** 2, atol=1e-12)
    assert numerator[:, 0].max() < 1e-15


@FEW
@given(SEEDS, WEIGHTS)
def test_zero_phase_is_the_power_mean_of_order_one_half(seed: int, weight: float) -> None:
    log_p, phi = _pair(seed)
    born = fuse("brf", log_p, phases_rad=np.zeros_like(phi)).p
    np.testing.assert_allclose(born, fuse("power_mean", log_p, order=0.5).p, atol=1e-10)
    # With weights, both are constant coherence 1 with amplitudes of the square roots of the weights.
    weights = np.array([weight, 1 - weight])
    weighted = fuse("brf", log_p, weights=weights, phases_rad=np.zeros_like(phi)).p
    expected = fuse("constant_coherence", log_p, weights=weights, coherence=1.0).p
    np.testing.assert_allclose(weighted, expected, atol=1e-10)


@FEW
@given(SEEDS, WEIGHTS, st.floats(-3.0, 1.0))
def test_averages_never_go_below_the_minimum(seed: int, weight: float, order: float) -> None:
    log_p, _ = _pair(seed)
    weights = np.array([weight, 1 - weight])
    floor = np.exp(log_p).min(axis=0)
    for rule, parameters in (("linear", {}), ("log_linear", {}), ("power_mean", {"order": order})):
        if abs(order) < 1e-3 and rule == "power_mean":
            continue
        p = fuse(rule, log_p, weights=weights, **parameters).p
        assert (p >= floor - 1e-9).all(), rule


def test_born_product_and_high_orders_can_go_below_the_minimum() -> None:
    log_p = np.log([[[0.5, 0.3, 0.2]], [[0.2, 0.3, 0.5]]])
    floor = np.exp(log_p).min(axis=0)
    born = fuse("brf", log_p, phases_rad=np.array([[0.0], [np.pi]])).p
    assert born[0, 1] == pytest.approx(0.0, abs=1e-12)
    assert fuse("power_mean", log_p, order=3.0).p[0, 1] < floor[0, 1]
    skewed = np.log([[[0.8, 0.1, 0.1]], [[0.8, 0.1, 0.1]]])
    assert fuse("product", skewed, exponent=2.0).p[0, 1] < 0.1
    assert fuse("contrastive", log_p, strength=0.5).p[0, 2] < 0.2


@FEW
@given(SEEDS, st.floats(-10, 10), st.integers(1, 5))
def test_gauge_and_permutation_of_models(seed: int, turn: float, n_models: int) -> None:
    log_p, phi = _pair(seed, n_models=n_models)
    born = fuse("brf", log_p, phases_rad=phi)
    kept = born.normaliser > 1e-6
    np.testing.assert_allclose(fuse("brf", log_p, phases_rad=phi + turn).p[kept], born.p[kept], atol=1e-8)
    np.testing.assert_allclose(fuse("brf", log_p[::-1], phases_rad=phi[::-1]).p[kept], born.p[kept], atol=1e-8)
    weights = np.random.default_rng(seed).dirichlet(np.ones(n_models))
    for name, rule in RULES.items():
        if rule.uses_phases or name in ("contrastive", "majority_vote"):
            continue
        mine = fuse(name, log_p, weights=weights).p
        np.testing.assert_allclose(fuse(name, log_p[::-1], weights=weights[::-1]).p, mine, atol=1e-10, err_msg=name)


@FEW
@given(SEEDS)
def test_one_model_and_equal_models_change_nothing(seed: int) -> None:
    log_p, phi = _pair(seed)
    p = np.exp(log_p[0])
    np.testing.assert_allclose(fuse("brf", log_p[:1], phases_rad=phi[:1]).p, p, atol=1e-12)
    same, same_phi = np.stack([log_p[0]] * 2), np.stack([phi[0]] * 2)
    np.testing.assert_allclose(fuse("brf", same, phases_rad=same_phi).p, p, atol=1e-10)
    for name, rule in RULES.items():
        if not rule.uses_phases and name != "majority_vote":
            np.testing.assert_allclose(fuse(name, same).p, p, atol=1e-10, err_msg=name)


@FEW
@given(SEEDS)
def test_equal_models_in_antiphase_are_undefined_never_nan(seed: int) -> None:
    log_p, phi = _pair(seed)
    fused = fuse("brf", np.stack([log_p[0]] * 2), phases_rad=np.stack([phi[0], phi[0] + np.pi]))
    assert fused.undefined.all()
    assert (fused.p == 0).all()
    assert np.isfinite(fused.normaliser).all()


@FEW
@given(SEEDS)
def test_token_phases_are_born_per_token(seed: int) -> None:
    log_p, _ = _pair(seed)
    phi = np.random.default_rng(seed).uniform(0, 2 * np.pi, log_p.shape)
    p = np.exp(log_p)
    score = 0.5 * (p[0] + p[1]) + np.sqrt(p[0] * p[1]) * np.cos(phi[0] - phi[1])
    np.testing.assert_allclose(RULES["brf"].numerator(log_p, np.array([0.5, 0.5]), phases_rad=phi), score, atol=1e-12)


@FEW
@given(SEEDS)
def test_every_rule_gives_distributions_without_nan(seed: int) -> None:
    """Also with tokens to which one model, or both, give no probability at all."""
    log_p, phi = _pair(seed)
    log_p[0, :, 0] = log_p[1, :, 0] = -np.inf
    log_p[0, ::2, 1] = log_p[1, 1::2, 2] = -np.inf
    log_p -= np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    for name, rule in RULES.items():
        fused = fuse(name, log_p, **({"phases_rad": phi} if rule.uses_phases else {}))
        assert np.isfinite(fused.p).all(), name
        np.testing.assert_allclose(fused.p.sum(axis=1), np.where(fused.undefined, 0, 1), atol=1e-9, err_msg=name)
        if name == "contrastive":
            # Undefined where only the second model excludes a token; elsewhere a token that neither allows gets 0.
            np.testing.assert_array_equal(fused.undefined, np.arange(log_p.shape[1]) % 2 == 1)
        else:
            assert not fused.undefined.any(), name
        if name != "majority_vote":
            assert (fused.p[:, 0] == 0).all(), name


@FEW
@given(SEEDS, st.floats(-50, 50))
def test_gap_is_the_same_from_logits_and_log_probabilities(seed: int, shift: float) -> None:
    logits = np.random.default_rng(seed).normal(shift, 4, size=(20, 30))
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    for_logits, for_log_p = np.sort(logits, axis=1)[:, -2:], np.sort(log_p, axis=1)[:, -2:]
    np.testing.assert_allclose(np.diff(for_logits), np.diff(for_log_p), atol=1e-10)


@FEW
@given(SEEDS, st.floats(-1.0, 1.0))
def test_agreement_is_amplified_where_the_cosine_is_positive_only(seed: int, coherence: float) -> None:
    """q / linear rises with sqrt(p_1 p_2) / ((p_1 + p_2) / 2) where c > 0 and falls where c < 0."""
    log_p, _ = _pair(seed, n=1)
    q, linear = fuse("constant_coherence", log_p, coherence=coherence).p[0], fuse("linear", log_p).p[0]
    agreement = np.exp(0.5 * log_p.sum(axis=0))[0] / linear
    ratio = (q / linear)[np.argsort(agreement)]
    assert (np.diff(ratio) * np.sign(coherence) >= -1e-6 * np.abs(ratio).max()).all()
