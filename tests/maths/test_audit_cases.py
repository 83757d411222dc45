import numpy as np
import pytest

from brf_exp.maths.audit_cases import (
    PARTS,
    Forecasts,
    Setting,
    audit_cases,
    decided,
    draw_forecasts,
    fused_by,
    phases_of,
    score_of,
    small_cases,
)
from brf_exp.maths.rules import fuse


@pytest.mark.parametrize("n_tokens", sorted(PARTS))
@pytest.mark.parametrize("n_models", [2, 3])
def test_small_forecasts_are_round_and_without_ties(n_tokens: int, n_models: int) -> None:
    cases = small_cases(n_tokens, np.random.default_rng(3), n_models=n_models)
    p, parts = cases.forecasts.p, PARTS[n_tokens]
    assert p.shape[0] == n_models and p.shape[1] > 100 and p.shape[2] == n_tokens
    np.testing.assert_allclose(p.sum(axis=2), 1.0)
    assert set(np.round(p * parts, 9).flat) <= set(range(1, parts))
    for n in range(p.shape[1]):
        rows = [[round(value * parts) for value in model] for model in p[:, n].tolist()]
        assert all(len(set(model)) == n_tokens for model in rows)
        assert len({max(model) for model in rows}) == n_models
        assert len({sum(token) for token in zip(*rows, strict=True)}) == n_tokens
        assert len({round(sorted(model)[-1] / sorted(model)[-2], 9) for model in rows}) == n_models
    for phases in (cases.forecasts.phases_rad, cases.forecasts.token_phases_rad):
        np.testing.assert_allclose(np.mod(phases * 4 / np.pi + 0.5, 1), 0.5)


def test_random_forecasts_are_peaked_and_flat() -> None:
    forecasts = draw_forecasts(500, 12, np.random.default_rng(4), n_models=3)
    np.testing.assert_allclose(forecasts.p.sum(axis=2), 1.0)
    assert forecasts.p.min() >= 0.99e-12
    top = forecasts.p.max(axis=2)
    assert np.quantile(top, 0.9) > 0.9 and np.quantile(top, 0.1) < 0.3
    assert (forecasts.phases_rad >= 0).all() and (forecasts.token_phases_rad < 2 * np.pi).all()


def test_seed() -> None:
    first, again, other = (audit_cases(5, 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for n_models in (2, 3):
        for mine, same, different in zip(first[n_models], again[n_models], other[n_models], strict=True):
            np.testing.assert_array_equal(mine.forecasts.p, same.forecasts.p)
            np.testing.assert_array_equal(mine.likelihood, same.likelihood)
            assert (
                mine.forecasts.p.shape != different.forecasts.p.shape
                or (mine.forecasts.p != different.forecasts.p).any()
            )


def test_the_smallest_cases_come_first() -> None:
    cases = audit_cases(7, 9, np.random.default_rng(0), n_triples=3)
    sizes = {n: [made.forecasts.p.shape[2] for made in found] for n, found in cases.items()}
    assert sizes == {2: [2, 3, 4, 9], 3: [2, 3, 4, 9]}
    assert [cases[n][-1].forecasts.p.shape[:2] for n in (2, 3)] == [(2, 7), (3, 3)]
    assert audit_cases(7, 9, np.random.default_rng(0))[3][-1].forecasts.p.shape[1] == 7


@pytest.mark.parametrize(
    ("setting", "label"),
    [
        (Setting("linear"), ""),
        (Setting("power_mean", {"order": -1.0}), "order -1"),
        (Setting("majority_vote", {"hit_rate": 0.5}), "hit rate 0.5"),
        (Setting("routing", confidence="max_prob"), "confidence max prob"),
        (Setting("brf", phases="token_gap"), "phases token gap"),
    ],
)
def test_labels(setting: Setting, label: str) -> None:
    assert setting.label == label


@pytest.fixture
def forecasts() -> Forecasts:
    p = np.array([[[0.6, 0.3, 0.1]], [[0.0, 0.2, 0.8]]])
    return Forecasts(p, np.array([[0.5], [2.0]]), np.arange(6.0).reshape(2, 1, 3))


def test_phases_by_hand(forecasts: Forecasts) -> None:
    def found(name: str) -> np.ndarray | None:
        return phases_of(Setting("brf", phases=name), forecasts)

    gaps = 2 * np.arctan([[np.log(2)], [np.log(4)]])
    np.testing.assert_allclose(found("gap"), gaps)
    np.testing.assert_allclose(found("gap_flipped"), gaps + [[0], [np.pi]])
    behind = [[[0, np.log(2), np.log(6)]], [[np.inf, np.log(4), 0]]]
    np.testing.assert_allclose(found("token_gap"), 2 * np.arctan(behind))
    np.testing.assert_array_equal(found("random"), forecasts.phases_rad)
    np.testing.assert_array_equal(found("token_random"), forecasts.token_phases_rad)
    np.testing.assert_array_equal(found("zero"), [[0], [0]])
    assert phases_of(Setting("linear"), forecasts) is None


def test_scores_are_those_of_the_rules(forecasts: Forecasts) -> None:
    turned = fused_by(Setting("brf", phases="random"), forecasts, turn_rad=1.0).p
    np.testing.assert_allclose(turned, fuse("brf", forecasts.log_p, phases_rad=forecasts.phases_rad).p)
    np.testing.assert_allclose(score_of(Setting("linear"), forecasts), [[0.3, 0.25, 0.45]])
    # The second model has the larger gap, largest probability and smaller entropy.
    for confidence in ("max_prob", "gap", "entropy"):
        np.testing.assert_allclose(fused_by(Setting("routing", confidence=confidence), forecasts).p, forecasts.p[1])


def test_rows_and_models(forecasts: Forecasts) -> None:
    swapped = forecasts.models([1, 0])
    np.testing.assert_array_equal(swapped.p[0], forecasts.p[1])
    np.testing.assert_array_equal(swapped.phases_rad[:, 0], [2.0, 0.5])
    np.testing.assert_array_equal(swapped.token_phases_rad[0], forecasts.token_phases_rad[1])
    assert forecasts.rows(np.array([False])).p.shape == (2, 0, 3)


def test_a_sum_of_rounding_errors_is_not_decided() -> None:
    p = np.array([[[0.3, 0.7]] * 3, [[0.3, 0.7], [0.3 + 1e-5, 0.7 - 1e-5], [0.5, 0.5]]])
    antiphase = np.array([[0.0] * 3, [np.pi] * 3])
    fused = fused_by(Setting("brf", phases="random"), Forecasts(p, antiphase, np.zeros_like(p)))
    assert fused.undefined.tolist() == [True, False, False]
    assert decided(fused).tolist() == [False, False, True]
