from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths import forecasts, vote_forecasts
from brf_exp.maths.brier import (
    brier_of,
    brier_scores,
    log_loss_of,
    normaliser_of,
    sufficient_statistics,
    vote_brier,
)
from brf_exp.maths.forecast_rows import TopRows
from brf_exp.maths.rules import RULES, fuse
from brf_exp.maths.tails import tail_sums
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.undefined import UndefinedStatisticError


def _one(ids: list[list[int]], p: list[list[float]], target: int, target_p: list[float]) -> KnownTokens:
    return known_tokens(
        [np.array([row]) for row in ids],
        [np.log([row]) for row in p],
        target_ids=np.array([target]),
        target_log_p=np.log(np.array(target_p)[:, None]),
    )


# Token 0 is common, 1 is model 1's, 2 is model 2's; .2 and .1 are left for others, the target (7) among them.
KNOWN = _one([[0, 1], [0, 2]], [[0.5, 0.3], [0.6, 0.3]], 7, [0.05, 0.02])


def _truncated(k: int, *, n: int = 300, size: int = 12, seed: int = 0) -> tuple[KnownTokens, np.ndarray, np.ndarray]:
    """Rows of k tokens, the full log-probabilities and the targets."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(0, 2, (2, n, size))
    log_p[1] += log_p[0]
    log_p -= np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    targets = rng.integers(0, size, n)
    ids = np.argsort(-log_p, axis=2)[:, :, :k]
    rows = np.take_along_axis(log_p, ids, axis=2)
    known = known_tokens(list(ids), list(rows), target_ids=targets, target_log_p=log_p[:, np.arange(n), targets])
    return known, log_p, targets


def test_tail_sums_by_hand() -> None:
    tail = tail_sums(KNOWN)
    # Model 1 lists .3 outside S and has .15 left, at most .15 each; model 2 lists .3 and has .08 left.
    np.testing.assert_allclose(tail.squares[:, 0], [0.09 + 0.15**2, 0.09 + 0.08**2])
    # All of the .08 on model 1's .3, all of the .15 on model 2's .3, and nothing is left for both.
    np.testing.assert_allclose(tail.product[0], 0.3 * 0.08 + 0.3 * 0.15)


def test_a_list_is_filled_from_its_likeliest_token_up_to_the_cap() -> None:
    known = _one([[0, 1, 2], [3, 4, 5]], [[0.3, 0.2, 0.1], [0.4, 0.1, 0.1]], 6, [0.1, 0.2])
    np.testing.assert_allclose(known.unlisted[:, 0], [0.3, 0.2])
    np.testing.assert_allclose(np.exp(known.cap[:, 0]), [0.1, 0.1])
    first = 0.1 * (0.3 + 0.2)  # all of .2, the third token gets nothing
    second = 0.1 * (0.4 + 0.1 + 0.1)  # all of .3
    np.testing.assert_allclose(tail_sums(known).product[0], first + second)


def test_the_linear_pool_by_hand() -> None:
    lower, upper = brier_scores(forecasts.linear_forecast(KNOWN)).bounds[:, 0]
    shared = (1 - 0.035) ** 2 + 0.55**2
    np.testing.assert_allclose(lower, shared + 0.15**2 + 0.15**2)
    np.testing.assert_allclose(upper, shared + 0.25 * (0.1125 + 0.0964 + 2 * 0.069))


def test_one_model_by_hand() -> None:
    lower, upper = brier_scores(forecasts.single_forecast(KNOWN, model=0)).bounds[:, 0]
    np.testing.assert_allclose(lower, 0.95**2 + 0.5**2 + 0.3**2)
    np.testing.assert_allclose(upper, 0.95**2 + 0.5**2 + 0.3**2 + 0.15**2)


def test_target_and_squares_move_with_one_normaliser() -> None:
    """The interval is narrower than what separate bounds of q_y and of the squares add up to."""
    known, _, _ = _truncated(5)
    forecast = forecasts.coherent_forecast(known, coherence=0.8)
    joint = np.diff(brier_scores(forecast).bounds, axis=0)[0]
    target = forecast.scaled[:, 0] * forecast.reciprocal
    squares = ((forecast.scaled**2).sum(axis=1) + forecast.outside[:, 2]) * forecast.reciprocal**2
    separate = 2 * np.diff(target, axis=0)[0] + np.diff(squares, axis=0)[0]
    assert (joint <= separate + 1e-12).all()
    assert joint.mean() < 0.75 * separate.mean()


def test_an_inner_minimum_is_found() -> None:
    """Where q_y and the squares pull against each other the smallest score is not at an end of the normaliser."""
    known = _one([[0, 1], [0, 2]], [[0.35, 0.05], [0.35, 0.05]], 3, [0.3, 0.3])
    forecast = forecasts.log_linear_forecast(known)
    r = np.linspace(*forecast.reciprocal[:, 0], 2001)
    target, common = forecast.scaled[0, :2]
    scores = (1 - target * r) ** 2 + (common * r) ** 2
    inner = scores.argmin()
    assert 0 < inner < 2000
    lower = brier_scores(forecast).bounds[0, 0]
    assert scores.min() - 1e-6 < lower <= scores.min()


def test_the_more_rows_the_narrower() -> None:
    rules = {
        "linear": {"weight": 0.3},
        "constant_coherence": {"coherence": -0.7},
        "log_linear": {"weight": 0.3},
        "power_mean": {"order": 2.0},
        "product": {"exponent": 1.5},
        "lin_log_mixture": {},
        "single": {"model": 1},
    }
    for name, parameters in rules.items():
        widths = []
        for k in (2, 4, 8, 12):
            scores = brier_scores(forecasts.forecast(_truncated(k)[0], name, **parameters))
            widths.append(np.diff(scores.bounds, axis=0).mean())
        assert widths[0] > widths[1] > widths[2] > widths[3], name
        assert widths[2] < 0.05 and widths[3] < 1e-9, name


def test_known_to_the_last_token() -> None:
    known, log_p, targets = _truncated(12)
    for name, parameters in {"linear": {}, "log_linear": {}, "constant_coherence": {"coherence": 0.4}}.items():
        q = fuse(name, log_p, **parameters).p
        exact = 1 - 2 * q[np.arange(300), targets] + (q**2).sum(axis=1)
        bounds = brier_scores(forecasts.forecast(known, name, **parameters)).bounds
        np.testing.assert_allclose(bounds, np.stack([exact, exact]), rtol=0, atol=1e-11)


def test_antiphase_of_equal_models_is_undefined() -> None:
    same = _one([[0, 1], [0, 1]], [[0.6, 0.3], [0.6, 0.3]], 1, [0.3, 0.3])
    scores = brier_scores(forecasts.coherent_forecast(same, coherence=-1.0))
    assert scores.undefined.tolist() == [True]
    assert scores.bounds[:, 0].tolist() == [0.0, 2.0]
    with pytest.raises(UndefinedStatisticError, match="^the fused distribution is undefined at 1 of 1 positions$"):
        _ = scores.mean


def test_a_token_that_is_ruled_out_has_a_finite_score() -> None:
    known = _one([[0, 1], [0, 1]], [[0.6, 0.2], [0.3, 0.5]], 7, [0.2, 0.2])
    lower, upper = brier_scores(forecasts.coherent_forecast(known, coherence=-1.0)).mean
    q = fuse("constant_coherence", np.log([[[0.6, 0.2, 0.2]], [[0.3, 0.5, 0.2]]]), coherence=-1.0).p
    assert q[0, 2] == 0
    np.testing.assert_allclose([lower, upper], 1 + (q**2).sum(), rtol=1e-9)


def test_nothing_bounds_a_contrastive_forecast_from_above() -> None:
    lower, upper = brier_scores(forecasts.contrastive_forecast(KNOWN)).bounds[:, 0]
    assert upper == 2
    # Token 1 has at least .3^1.5 / .08^.5, and with it the target at most .1 of what is known.
    listed = np.array([0.05**1.5 / 0.02**0.5, 0.5**1.5 / 0.6**0.5, 0.3**1.5 / 0.08**0.5])
    q = listed / listed.sum()
    assert q[0] < 0.1
    assert (1 - q[0]) ** 2 <= lower <= (1 - q[0]) ** 2 + (q[1:] ** 2).sum()


def test_a_vote_that_is_open_has_the_bounds_of_both() -> None:
    # .3 and at most .15 / 2 more against .25 and at most .1 / 2 more.
    open_vote = _one([[0, 1], [2, 3]], [[0.5, 0.3], [0.6, 0.3]], 7, [0.05, 0.02])
    scores = vote_brier(open_vote, hit_rate=np.array([0.5]))
    ballot = vote_forecasts.vote_forecast(open_vote, hit_rate=np.array([0.5]))
    assert ballot.possible[:, 0].tolist() == [False, True]  # .25 + .04 stays below .3
    np.testing.assert_array_equal(scores.bounds, brier_scores(ballot.of_model[1]).bounds)
    close = _one([[0, 1], [2, 3]], [[0.55, 0.2], [0.56, 0.2]], 7, [0.05, 0.02])
    ballot = vote_forecasts.vote_forecast(close, hit_rate=np.array([0.5]))
    assert ballot.possible.all()
    either = [brier_scores(one).bounds for one in ballot.of_model]
    bounds = vote_brier(close, hit_rate=np.array([0.5])).bounds
    np.testing.assert_array_equal(bounds, [np.minimum(*either)[0], np.maximum(*either)[1]])


def test_an_agreed_vote_by_hand() -> None:
    won = _one([[0, 1], [0, 1]], [[0.5, 0.4], [0.6, 0.2]], 0, [0.5, 0.6])
    lower, upper = vote_brier(won, hit_rate=np.array([0.7])).bounds[:, 0]
    share = 0.3 / 0.45
    known = 0.3**2 + (share * 0.3) ** 2
    # Each model leaves .1 and .2 to others: together on one token, or thinly spread.
    np.testing.assert_allclose(lower, known)
    np.testing.assert_allclose(upper, known + (share * 0.15) ** 2)


def test_routing_takes_each_position_from_its_model() -> None:
    known, _, _ = _truncated(4, n=7)
    confidence = np.array([[1, 0, 1, 0, 1, 1, 0], [0, 1, 0, 1, 1, 0, 1.0]])
    routed = brier_scores(forecasts.routed_forecast(known, confidence=confidence)).bounds
    each = [brier_scores(forecasts.single_forecast(known, model=model)).bounds for model in (0, 1)]
    np.testing.assert_array_equal(routed, np.where([True, False, True, False, True, True, False], *each))


def test_scores_on_shared_tokens_are_the_rules_numerators() -> None:
    """Forecasts take their exponentials once for all rules; what they score is what rules.RULES defines."""
    known, _, _ = _truncated(5)
    c, weights = np.cos(np.random.default_rng(1).uniform(0, np.pi, 300)), np.array([0.3, 0.7])
    for name, given in {
        "constant_coherence": {"coherence": c},
        "linear": {},
        "log_linear": {},
        "power_mean": {"order": 0.75},
    }.items():
        expected = RULES[name].numerator(known.shared, weights, **given)
        scaled = forecasts.forecast(known, name, weight=0.3, **given).scaled
        np.testing.assert_allclose(scaled, expected, rtol=1e-12, atol=1e-15, err_msg=name)
    log_pool = RULES["log_linear"].numerator(known.shared, np.array([0.5, 0.5]))
    np.testing.assert_allclose(forecasts.log_linear_forecast(known).scaled, log_pool, rtol=1e-12)


def test_what_forecasts_share_changes_no_digit() -> None:
    known, _, _ = _truncated(5)
    together = TopRows(known)
    for name, given in {"constant_coherence": {"coherence": -0.4}, "linear": {}, "product": {"exponent": 1.4}}.items():
        alone, shared = (brier_scores(forecasts.forecast(rows, name, **given)) for rows in (known, together))
        np.testing.assert_array_equal(alone.bounds, shared.bounds)


def test_a_whole_vocabulary_closes_a_contrastive_forecast() -> None:
    known, log_p, targets = _truncated(12)
    whole = replace(known, complete=True)
    q = fuse("contrastive", log_p).p
    exact = 1 - 2 * q[np.arange(300), targets] + (q**2).sum(axis=1)
    scores = brier_scores(forecasts.contrastive_forecast(whole))
    np.testing.assert_allclose(scores.bounds, np.stack([exact, exact]), rtol=0, atol=1e-11)


def test_forecasts_are_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match="^`rule` must be one of constant_coherence, contrastive, .*, got 'brf'$"):
        forecasts.forecast(KNOWN, "brf")
    with pytest.raises(ValueError, match=r"^`exponent` must be from 0\.5 to 1, got 0\.4$"):
        forecasts.forecast(KNOWN, "product", exponent=0.4)
    ids, p = [np.array([[0, 1]])] * 3, [np.log([[0.5, 0.3]])] * 3
    three = known_tokens(ids, p, target_ids=np.array([0]), target_log_p=np.log(np.full((3, 1), 0.5)))
    for name, parameters in {
        "linear": {},
        "log_linear": {},
        "contrastive": {},
        "routing": {"confidence": None},
    }.items():
        with pytest.raises(ValueError, match="^`known` must be of two models, got 3$"):
            forecasts.forecast(three, name, **parameters)


LOG_P = np.log(np.random.default_rng(1).dirichlet(np.full(50, 0.3), size=(2, 40)) + 1e-12)
LOG_P -= np.logaddexp.reduce(LOG_P, axis=2, keepdims=True)
TARGETS = np.random.default_rng(2).integers(0, 50, 40)


def test_eight_numbers_by_their_definition() -> None:
    p, q = np.exp(LOG_P)
    rows = np.arange(40)
    expected = [p[rows, TARGETS], q[rows, TARGETS], (p * q) ** 0.5, p**2, q**2, p * q, p**1.5 * q**0.5, p**0.5 * q**1.5]
    sums = [row if row.ndim == 1 else row.sum(axis=1) for row in expected]
    np.testing.assert_allclose(sufficient_statistics(LOG_P, TARGETS), sums, rtol=1e-12)


def test_eight_numbers_are_enough_for_any_phase() -> None:
    """Brier score and log loss of |sum sqrt(p_i / 2) exp(i phi_i)|^2 at phases of every kind."""
    statistics = sufficient_statistics(LOG_P, TARGETS)
    rng = np.random.default_rng(3)
    for phases in (rng.uniform(0, 2 * np.pi, (2, 40)), np.zeros((2, 40)), np.tile([[0.0], [np.pi / 2]], 40)):
        q = fuse("brf", LOG_P, phases_rad=phases).p
        at_target = q[np.arange(40), TARGETS]
        c = np.cos(phases[0] - phases[1])
        brier = 1 - 2 * at_target + (q**2).sum(axis=1)
        np.testing.assert_allclose(brier_of(statistics, c), brier, rtol=0, atol=1e-12)
        np.testing.assert_allclose(log_loss_of(statistics, c), -np.log(at_target), rtol=1e-12)
        fused = fuse("constant_coherence", LOG_P, coherence=c)
        np.testing.assert_allclose(normaliser_of(statistics, c), fused.normaliser, rtol=1e-12)


def test_undefined_fusion_raises() -> None:
    same = sufficient_statistics(np.stack([LOG_P[0], LOG_P[0]]), TARGETS)
    c = np.where(np.arange(40) < 3, -1.0, 0.5)
    for score in (brier_of, log_loss_of):
        with pytest.raises(UndefinedStatisticError, match="undefined at 3 of 40 positions") as raised:
            score(same, c)
        assert raised.value.reason == "undefined fusion"


def test_an_infinite_log_loss_raises() -> None:
    p = np.log([[[0.6, 0.2, 0.2]], [[0.3, 0.5, 0.2]]])
    statistics = sufficient_statistics(p, np.array([2]))
    with pytest.raises(UndefinedStatisticError, match="^the realised token is ruled out at 1 of 1 positions$"):
        log_loss_of(statistics, -1.0)
    q = fuse("constant_coherence", p, coherence=-1.0).p
    np.testing.assert_allclose(brier_of(statistics, -1.0), 1 + (q**2).sum(), rtol=1e-12)


def test_shapes_are_named() -> None:
    message = r"^`log_p` and `targets` must have shapes \(2, n, V\) and \(n,\), got \(3, 40, 50\) and \(40,\)$"
    with pytest.raises(ValueError, match=message):
        sufficient_statistics(np.concatenate([LOG_P, LOG_P[:1]]), TARGETS)
