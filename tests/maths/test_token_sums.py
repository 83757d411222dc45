"""Sums for many candidates at once against the numerators of the rules, one candidate at a time."""

import numpy as np
import pytest

from brf_exp.maths import token_sums
from brf_exp.maths.fusion import born_numerator, power_mean_numerator, product_numerator

WEIGHTS = np.array([[0.5, 0.5], [0.02, 0.98], [0.7, 0.3], [1.0, 0.0]])
ORDERS = (-3.0, -1.0, 0.05, 0.25, 0.5, 0.75, 1.0, 2.0, 2.7)


@pytest.fixture(scope="module")
def log_p() -> np.ndarray:
    """(2, 400, 9): some columns unused, one token that a model excludes, one row of the realised token alone."""
    rng = np.random.default_rng(1)
    made = np.log(rng.dirichlet(np.full(9, 0.5), size=(2, 400)) + 1e-12)
    made[:, rng.random((400, 9)) < 0.4] = -np.inf
    made[1, 7, 0] = -np.inf
    made[:, 8, 1:] = -np.inf
    made[:, 9] = -np.inf
    return made


def test_pools(log_p: np.ndarray) -> None:
    found = token_sums.pool_sums(log_p, WEIGHTS)
    expected = [product_numerator(log_p, w).sum(axis=1) for w in WEIGHTS]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    products = token_sums.pool_sums(log_p, np.array([[0.3, 0.3], [0.9, 0.9]]))
    expected = [product_numerator(log_p, WEIGHTS[0], exponent=s).sum(axis=1) for s in (0.6, 1.8)]
    np.testing.assert_allclose(products, expected, rtol=1e-13)


@pytest.mark.parametrize("order", ORDERS)
def test_power_means(log_p: np.ndarray, order: float) -> None:
    found = token_sums.power_mean_sums(log_p, WEIGHTS, order)
    expected = [power_mean_numerator(log_p, w, order=order).sum(axis=1) for w in WEIGHTS]
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("order", [-3.0, 2.0])
def test_powers_beyond_a_double_add_nothing(order: float) -> None:
    log_p = np.log(np.array([[[1.0, 1e-200]], [[0.5, 1e-250]]]))
    found = token_sums.power_mean_sums(log_p, WEIGHTS[:1], order)
    np.testing.assert_allclose(found[0], power_mean_numerator(log_p, WEIGHTS[0], order=order).sum(axis=1), rtol=1e-14)


def test_cross_sums_are_the_interference_of_a_fused_distribution(log_p: np.ndarray) -> None:
    phases = np.random.default_rng(2).uniform(0, 2 * np.pi, log_p.shape)
    whole = born_numerator(log_p, WEIGHTS[2], phases_rad=phases).sum(axis=1)
    apart = WEIGHTS[2] @ np.exp(log_p).sum(axis=2)
    cross = token_sums.cross_sums(log_p, phases, 0, 1)
    np.testing.assert_allclose(apart + 2 * np.sqrt(0.7 * 0.3) * cross, whole, atol=1e-12)


@pytest.mark.parametrize("n_numbers", [1, 50, 2**20])
def test_blocks_change_no_digit(log_p: np.ndarray, n_numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [token_sums.pool_sums(log_p, WEIGHTS), token_sums.power_mean_sums(log_p, WEIGHTS, 0.75)]
    monkeypatch.setattr(token_sums, "BLOCK_NUMBERS", n_numbers)
    found = [token_sums.pool_sums(log_p, WEIGHTS), token_sums.power_mean_sums(log_p, WEIGHTS, 0.75)]
    np.testing.assert_array_equal(found, expected)
    # Nor do rows that are taken alone.
    alone = token_sums.pool_sums(log_p[:, 100:103], WEIGHTS)
    np.testing.assert_array_equal(alone, expected[0][:, 100:103])
