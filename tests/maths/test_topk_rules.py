import numpy as np
import pytest

from brf_exp.maths import topk_rules as rules
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.topk_bounds import accuracy_bounds
from brf_exp.maths.topk_votes import vote_losses, votes


def _one(ids: list[list[int]], p: list[list[float]], target: int, target_p: list[float]) -> KnownTokens:
    return known_tokens(
        (np.array([ids[0]]), np.array([ids[1]])),
        (np.log([p[0]]), np.log([p[1]])),
        target_ids=np.array([target]),
        target_log_p=np.log(np.array(target_p)[:, None]),
    )


# Token 0 is common, 1 is model 1's, 2 is model 2's; .2 and .1 are left for others, the target (7) among them.
KNOWN = _one([[0, 1], [0, 2]], [[0.5, 0.3], [0.6, 0.3]], 7, [0.05, 0.02])


def test_cauchy_schwarz_at_most_by_hand() -> None:
    lower, upper = KNOWN.overlap[:, 0]
    assert lower == pytest.approx(np.sqrt(0.3) + np.sqrt(0.001))
    assert lower < upper < lower + np.sqrt(0.45 * 0.38)
    np.testing.assert_allclose(KNOWN.remainder[:, 0], [0.45, 0.38])
    np.testing.assert_allclose(KNOWN.unlisted[:, 0], [0.15, 0.08])
    np.testing.assert_allclose(np.exp(KNOWN.cap[:, 0]), [0.15, 0.08])


def test_linear_pool_is_a_point() -> None:
    losses = rules.linear_losses(KNOWN, weight=0.4)
    np.testing.assert_allclose(losses.bounds[:, 0], -np.log(0.4 * 0.05 + 0.6 * 0.02))


def test_coherent_losses_at_both_ends_of_the_overlap() -> None:
    losses = rules.coherent_losses(KNOWN, coherence=-0.5)
    numerator = 0.035 - 0.5 * np.sqrt(0.001)
    ends = np.log(1 - 0.5 * KNOWN.overlap[:, 0]) - np.log(numerator)
    np.testing.assert_allclose(losses.bounds[:, 0], np.sort(ends))
    np.testing.assert_allclose(losses.middle, ends.mean())


def test_normaliser_that_may_be_zero_is_undefined() -> None:
    same = _one([[0, 1], [0, 1]], [[0.6, 0.3], [0.6, 0.3]], 1, [0.3, 0.3])
    assert rules.coherent_losses(same, coherence=-1.0).undefined.all()
    assert not rules.coherent_losses(same, coherence=-0.9).undefined.any()
    assert not rules.coherent_losses(KNOWN, coherence=-1.0).undefined.any()


def test_losses_are_finite_where_they_are_undefined() -> None:
    same = _one([[0, 1], [0, 1]], [[0.6, 0.4], [0.6, 0.4]], 1, [0.4, 0.4])
    losses = rules.coherent_losses(same, coherence=-1.0)
    assert losses.undefined.all() and np.isfinite(losses.bounds).all()


@pytest.mark.parametrize("exponent", [0.0, -0.5])
def test_products_have_an_exponent_above_zero(exponent: float) -> None:
    with pytest.raises(ValueError, match=f"^`exponent` must be above 0, got {exponent}$"):
        rules.product_losses(KNOWN, exponent=exponent)


@pytest.mark.parametrize("exponent", [0.5, 0.99])
def test_products_below_one_have_no_upper_end_without_a_vocabulary(exponent: float) -> None:
    lower, upper = rules.product_losses(KNOWN, exponent=exponent).bounds[:, 0]
    inside = 0.3 ** (exponent / 2) + 0.001 ** (exponent / 2)
    assert lower == pytest.approx(np.log(inside) - exponent / 2 * np.log(0.001)) and upper == np.inf


def test_products_below_one_are_largest_where_the_rest_is_spread_evenly() -> None:
    """Of 10 tokens 8 are outside S; a mass of .4 in all of them alike, and the bound is attained."""
    even = np.full(8, 0.05)
    p = np.concatenate([[0.35, 0.25], even])
    made = known_tokens(
        [np.array([[0, 1]])] * 2,
        [np.log(p[None, :2])] * 2,
        target_ids=np.array([0]),
        target_log_p=np.log(np.full((2, 1), 0.35)),
        vocabulary_size=10,
    )
    np.testing.assert_array_equal(made.n_outside, [8])
    for exponent in (0.3, 0.5, 0.9, 1.0):
        exact = np.log((p**exponent).sum()) - exponent * np.log(0.35)
        assert rules.product_losses(made, exponent=exponent).bounds[1, 0] == pytest.approx(exact, rel=1e-9)


ORDERS = (-1, 0, 0.25, 0.5, 0.75, 1, 2)


def test_many_candidates_at_once_are_each_candidate_alone() -> None:
    weights = np.array([[0.1, 0.9], [0.5, 0.5], [0.98, 0.02]])
    many = {
        "linear": rules.linear_losses(KNOWN, weight=weights),
        "log_linear": rules.log_linear_losses(KNOWN, weight=weights),
        "lin_log": rules.lin_log_losses(KNOWN, mixture=0.3, weight=weights),
        "coherent": rules.coherent_losses(KNOWN, coherence=-0.7, weight=weights),
        **{
            f"mean {r}": rules.power_mean_losses(KNOWN, order=r, weight=weights) for r in (-1, 0, 0.25, 0.5, 0.75, 1, 2)
        },
    }
    for place, (w, _) in enumerate(weights.tolist()):
        alone = {
            "linear": rules.linear_losses(KNOWN, weight=w),
            "log_linear": rules.log_linear_losses(KNOWN, weight=w),
            "lin_log": rules.lin_log_losses(KNOWN, mixture=0.3, weight=w),
            "coherent": rules.coherent_losses(KNOWN, coherence=-0.7, weight=w),
            **{f"mean {r}": rules.power_mean_losses(KNOWN, order=r, weight=w) for r in ORDERS},
        }
        for name, one in alone.items():
            assert many[name].coefficients is None and many[name].undefined.shape == (3, 1), name
            np.testing.assert_allclose(many[name].bounds[:, place], one.bounds, rtol=1e-13, err_msg=name)
    exponents = np.array([1.0, 1.4, 2.0])
    products = rules.product_losses(KNOWN, exponent=exponents)
    for place, exponent in enumerate(exponents.tolist()):
        np.testing.assert_array_equal(products.bounds[:, place], rules.product_losses(KNOWN, exponent=exponent).bounds)


def test_orders_zero_and_one_are_the_pools() -> None:
    for weight in (0.5, 0.3):
        for order, pool in ((0, rules.log_linear_losses), (1, rules.linear_losses)):
            found = rules.power_mean_losses(KNOWN, order=order, weight=weight)
            np.testing.assert_array_equal(found.bounds, pool(KNOWN, weight=weight).bounds)


def test_votes_by_hand() -> None:
    # Model 1 votes 0 (.5), model 2 votes 0 (.6): agreed, the target lost.
    ballot = votes(KNOWN)
    assert ballot.agree.tolist() == [True] and ballot.hit.tolist() == [False]
    np.testing.assert_allclose(ballot.pool[0], 0.55)
    np.testing.assert_allclose(ballot.pool[1], 0.55)
    losses = vote_losses(KNOWN, ballot, hit_rate=np.array([0.6]))
    np.testing.assert_allclose(losses.bounds[:, 0], -np.log(0.4 * 0.035 / 0.45))


def test_a_voted_token_that_the_other_model_does_not_list_leaves_an_interval() -> None:
    split = _one([[0, 1], [2, 3]], [[0.5, 0.3], [0.6, 0.3]], 7, [0.05, 0.02])
    ballot = votes(split)
    assert ballot.agree.tolist() == [False] and ballot.hit.tolist() == [False]
    # Token 2 wins (.3 against .25); model 1 gives it at most .15.
    np.testing.assert_allclose(np.array(ballot.pool)[:, 0], [0.3, 0.3 + 0.075])
    lower, upper = vote_losses(split, ballot, hit_rate=np.array([0.5])).bounds[:, 0]
    np.testing.assert_allclose(upper, -np.log(0.5 * 0.035 / 0.7))
    np.testing.assert_allclose(lower, -np.log(0.5 * 0.035 / 0.625))


def test_a_hit_costs_the_hit_rate() -> None:
    won = _one([[0, 1], [0, 2]], [[0.5, 0.3], [0.6, 0.3]], 0, [0.5, 0.6])
    losses = vote_losses(won, votes(won), hit_rate=np.array([0.7]))
    np.testing.assert_allclose(losses.bounds[:, 0], -np.log(0.7))


def test_accuracy_by_hand() -> None:
    # The target is the common top token: .5 and .6 beat everything.
    won = _one([[0, 1], [0, 2]], [[0.5, 0.3], [0.6, 0.3]], 0, [0.5, 0.6])
    assert accuracy_bounds(won, "linear", weight=0.5).ravel().tolist() == [True, True]
    assert accuracy_bounds(KNOWN, "linear", weight=0.5).ravel().tolist() == [False, False]
    # Target .2 + .2 against own tokens of .3 each, whose other half is unknown, up to .2: possible, not sure.
    maybe = _one([[1, 0], [2, 0]], [[0.3, 0.2], [0.3, 0.2]], 0, [0.2, 0.2])
    assert accuracy_bounds(maybe, "linear", weight=0.5).ravel().tolist() == [False, True]
    # Complete antiphase: what both agree on is gone, so the target cannot win.
    assert accuracy_bounds(won, "constant_coherence", coherence=-1.0).ravel().tolist() == [False, True]
