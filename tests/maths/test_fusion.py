import numpy as np
import pytest

from brf_exp.maths.fusion import bhattacharyya, equal_weights, mixture_share
from brf_exp.maths.rules import RULES, fuse

LOG_P = np.log([[[0.7, 0.2, 0.1]], [[0.1, 0.3, 0.6]]])


def test_unknown_rule() -> None:
    names = ", ".join(sorted(RULES))
    with pytest.raises(ValueError, match=f"^`rule` must be one of {names}, got 'sum'$"):
        fuse("sum", LOG_P)


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.6], [-0.1, 1.1], [0.2, 0.3, 0.5]])
def test_weights_must_be_a_distribution(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^`weights` must be 2 numbers >= 0 with sum 1, got \["):
        fuse("linear", LOG_P, weights=np.array(weights))


def test_by_hand() -> None:
    np.testing.assert_allclose(fuse("linear", LOG_P).p, [[0.4, 0.25, 0.35]])
    roots = np.sqrt([0.07, 0.06, 0.06])
    np.testing.assert_allclose(fuse("log_linear", LOG_P).p, [roots / roots.sum()])
    np.testing.assert_allclose(fuse("product", LOG_P, exponent=2.0).p, [np.array([7, 6, 6]) / 19])
    np.testing.assert_allclose(bhattacharyya(*LOG_P), roots.sum())
    assert mixture_share(np.array(1.0), np.array(0.5)) == pytest.approx(1 / 3)
    np.testing.assert_allclose(equal_weights(4), 0.25)
    # The vote is a tie; token 0 has the larger mean.
    np.testing.assert_allclose(
        fuse("majority_vote", LOG_P, hit_rate=0.8).p, [[0.8, 0.2 * 0.25 / 0.6, 0.2 * 0.35 / 0.6]]
    )


@pytest.mark.parametrize("rule", ["linear", "log_linear", "power_mean", "brf", "constant_coherence"])
def test_a_weight_of_zero_leaves_a_model_out(rule: str) -> None:
    log_p = LOG_P.copy()
    with np.errstate(divide="ignore"):
        log_p[1] = np.log([[0.0, 0.4, 0.6]])
    parameters = {"phases_rad": np.array([[0.3], [2.0]])} if rule == "brf" else {}
    found = fuse(rule, log_p, weights=np.array([1.0, 0.0]), **parameters)
    np.testing.assert_allclose(found.p, np.exp(LOG_P[0]), atol=1e-12)


def test_plurality_of_three() -> None:
    log_p = np.log([[[0.5, 0.3, 0.2]], [[0.4, 0.35, 0.25]], [[0.01, 0.01, 0.98]]])
    assert fuse("majority_vote", log_p, hit_rate=0.9).p.argmax() == 0


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_says_what_it_is(rule: str) -> None:
    found = RULES[rule]
    assert found.name == rule and found.formula and found.source
    assert set(found.parameters) <= set(found.numerator.__kwdefaults__ or {})
    assert found.uses_phases is (rule == "brf")


def test_routing_takes_the_more_confident_model():
    log_p = np.log([[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.8], [0.6, 0.4]]])
    assert np.allclose(fuse("routing", log_p).p, [[0.2, 0.8], [0.9, 0.1]])
    confidence = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.allclose(fuse("routing", log_p, confidence=confidence).p, [[0.5, 0.5], [0.6, 0.4]])
