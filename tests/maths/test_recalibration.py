"""Recalibrated losses against a dictionary of outcomes and loops."""

import numpy as np
import pytest

from brf_exp.maths import forecasts
from brf_exp.maths.forecast_rows import TopRows
from brf_exp.maths.recalibration import SIXTEENTHS, TEMPERATURES, cross_fitted, lumped_losses
from brf_exp.maths.rules import fuse
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.vote_forecasts import vote_forecast

N, V = 60, 9


def _rows(k: int, *, seed: int = 0) -> tuple[KnownTokens, np.ndarray, np.ndarray, np.ndarray]:
    """Top rows, full log-probabilities, targets, and the ids (2, n, k) that each model lists."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(0, 2, (2, N, V))
    log_p[1] += log_p[0]
    log_p -= np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    targets = rng.integers(0, V, N)
    ids = np.argsort(-log_p, axis=2)[:, :, :k]
    ranked = list(np.take_along_axis(log_p, ids, axis=2))
    exact = log_p[:, np.arange(N), targets]
    return known_tokens(list(ids), ranked, target_ids=targets, target_log_p=exact), log_p, targets, ids


def _by_hand(q: dict[int, float], target: int, listed: set[int], temperature: float) -> float:
    """Temper the listed tokens and the lump of all others, then share the lump as before."""
    others = {token: p for token, p in q.items() if token not in listed}
    lump = sum(others.values())
    tempered = {token: q[token] ** (1 / temperature) for token in listed}
    total = sum(tempered.values()) + lump ** (1 / temperature)
    if target in listed:
        return float(-np.log(tempered[target] / total))
    return float(-np.log(lump ** (1 / temperature) / total * others[target] / lump))


@pytest.mark.parametrize("k", [2, 4, V])
def test_against_a_dictionary(k: int) -> None:
    """The linear pool's normaliser is exact, so that only the tail's shares are not known, and they cancel."""
    known, log_p, targets, ids = _rows(k)
    found = lumped_losses(forecasts.linear_forecast(known, weight=0.3), TopRows(known).target_listed)
    q = fuse("linear", log_p, weights=np.array([0.3, 0.7])).p
    for row in range(N):
        listed = set(ids[0, row].tolist()) & set(ids[1, row].tolist())
        for place, temperature in enumerate(TEMPERATURES):
            expected = _by_hand(dict(enumerate(q[row].tolist())), int(targets[row]), listed, temperature)
            assert found[place, row] == pytest.approx(expected, rel=1e-9)


def test_temperature_one_is_the_log_loss() -> None:
    known, log_p, targets, _ = _rows(4)
    listed = TopRows(known).target_listed
    assert 0.2 < listed.mean() < 0.8
    place = TEMPERATURES.index(1.0)
    votes = vote_forecast(known, hit_rate=np.full(N, 0.4))
    for forecast in (
        forecasts.coherent_forecast(known, coherence=-0.5),
        forecasts.product_forecast(known, exponent=1.7),
        forecasts.lin_log_forecast(known, mixture=0.4),
        votes.likely,
    ):
        fixed, scaled = forecast.at_target
        expected = -np.log(fixed + scaled * forecast.middle)
        np.testing.assert_allclose(lumped_losses(forecast, listed)[place], expected, rtol=1e-9)


def test_the_middle_is_that_of_the_normaliser() -> None:
    forecast = forecasts.coherent_forecast(_rows(3)[0], coherence=0.8)
    np.testing.assert_allclose(1 / forecast.middle, (1 / forecast.reciprocal).mean(axis=0), rtol=1e-12)


def test_the_grid_is_about_even_in_logarithms_and_holds_one() -> None:
    assert len(SIXTEENTHS) == 13 and TEMPERATURES.count(1.0) == 1
    assert (TEMPERATURES[0], TEMPERATURES[-1]) == (2.0, 0.5)
    steps = -np.diff(np.log(TEMPERATURES))
    assert steps.min() > 0.07 and steps.max() < 0.17


def _tempered(rng: np.random.Generator, power: float, n: int) -> tuple[KnownTokens, np.ndarray]:
    """Two equal models that say p^power / Z where tokens are drawn from p, everything listed."""
    logits = rng.normal(0, 1.5, (n, 20))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    said = power * logits - np.logaddexp.reduce(power * logits, axis=1, keepdims=True)
    ids = np.argsort(-said, axis=1)
    ranked, exact = np.take_along_axis(said, ids, axis=1), said[np.arange(n), targets]
    both = known_tokens([ids, ids], [ranked, ranked], target_ids=targets, target_log_p=np.stack([exact, exact]))
    return both, targets


@pytest.mark.parametrize("place", [2, 6, 10])
def test_a_known_tempering_is_undone(place: int) -> None:
    known, _ = _tempered(np.random.default_rng(1), TEMPERATURES[place], 6000)
    losses = lumped_losses(forecasts.linear_forecast(known), TopRows(known).target_listed)
    assert losses.mean(axis=1).argmin() == place


def test_calibrated_forecasts_stay_as_they_are_however_little_is_listed() -> None:
    """A realised token in the tail does not pay for a higher temperature."""
    rng = np.random.default_rng(2)
    known, targets = _tempered(rng, 1.0, 6000)
    for k in (2, 5, 10):
        ids, ranked = known.shared_ids, known.shared[0]
        order = np.argsort(-ranked, axis=1)[:, :k]
        rows = [np.take_along_axis(ids, order, axis=1)] * 2, [np.take_along_axis(ranked, order, axis=1)] * 2
        cut = known_tokens(*rows, target_ids=targets, target_log_p=known.target)
        listed = TopRows(cut).target_listed
        np.testing.assert_array_equal(listed, (rows[0][0] == targets[:, None]).any(axis=1))
        losses = lumped_losses(forecasts.linear_forecast(cut), listed).mean(axis=1)
        assert abs(losses.argmin() - TEMPERATURES.index(1.0)) <= 1
        # Were the realised token always an outcome of its own, hot forecasts would look much better.
        wrong = lumped_losses(forecasts.linear_forecast(cut), np.ones(6000, dtype=bool)).mean(axis=1)
        assert wrong.argmin() < 4 or k == 10


def test_which_tokens_both_models_list() -> None:
    for k in (1, 3, 6, V):
        known, _, targets, ids = _rows(k)
        expected = [all(targets[row] in ids[model, row] for model in (0, 1)) for row in range(N)]
        np.testing.assert_array_equal(TopRows(known).target_listed, expected)


def test_each_fold_takes_the_best_of_the_others() -> None:
    sums = np.zeros((13, 4))
    sums[3, :2], sums[8, 2:] = -1.0, -5.0
    assert cross_fitted(sums, np.array([0, 0, 1, 1])) == {0: 8, 1: 3}
    with pytest.raises(ValueError, match="^`fold_of_document` must hold at least 2 folds, got 1$"):
        cross_fitted(sums, np.zeros(4, dtype=int))


def test_a_token_that_is_ruled_out_has_a_finite_loss() -> None:
    p = np.log([[0.6, 0.4]])
    known = known_tokens(
        [np.array([[0, 1]])] * 2, [p, np.log([[0.2, 0.4]])], target_ids=np.array([1]), target_log_p=np.log([[0.4]] * 2)
    )
    losses = lumped_losses(forecasts.coherent_forecast(known, coherence=-1.0), TopRows(known).target_listed)
    assert np.isfinite(losses).all() and losses.min() > 300


def test_an_open_normaliser_is_named() -> None:
    known = _rows(3)[0]
    assert forecasts.contrastive_forecast(known).unbounded.all()
    assert forecasts.product_forecast(known, exponent=0.7).unbounded.all()
    assert not forecasts.power_mean_forecast(known, order=2.0).unbounded.any()
