import numpy as np
import pytest
from scipy import stats

from brf_exp.maths.difficulty import (
    RELIABILITIES,
    ReliabilityPoint,
    attenuated_partial,
    partial_rank_correlation,
    reliability_curve,
    residual_gaps,
    residual_scores,
    survives,
)

OFFSETS = np.arange(0, 3001, 100)
RUN = {"confidence_level": 0.95, "n_resamples": 200}


def _scores(seed: int, *, beyond: float, shared: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    difficulty, first, noise = rng.standard_normal((3, 3000))
    second = beyond * first + np.sqrt(1 - beyond**2) * noise
    scores = np.sqrt(shared) * difficulty + np.sqrt(1 - shared) * np.stack([first, second])
    return scores, np.stack([difficulty, difficulty])


def test_attenuated_partial_by_hand() -> None:
    one = [np.array([r]) for r in (0.5, 0.6, 0.4)]
    # (.8 * .5 - .24) / sqrt((.8 - .36)(.8 - .16)) = .16 / sqrt(.2816)
    assert attenuated_partial(*one, 0.8)[0] == pytest.approx(0.16 / np.sqrt(0.2816))
    # At reliability 1 it is the partial correlation.
    assert attenuated_partial(*one, 1.0)[0] == pytest.approx((0.5 - 0.24) / np.sqrt((1 - 0.36) * (1 - 0.16)))


@pytest.mark.parametrize(("r_1", "r_2"), [(0.9, 0.1), (0.1, 0.9), (0.9, 0.9), (1.0, 1.0)])
def test_attenuated_partial_is_nan_where_it_is_not_real(r_1: float, r_2: float) -> None:
    """Also where both factors are negative and their product is not."""
    assert np.isnan(attenuated_partial(np.array([0.5]), np.array([r_1]), np.array([r_2]), 0.8))


def test_reliability_curve_recovers_the_partial_correlation() -> None:
    scores, predictions = _scores(1, beyond=0.3)
    points = reliability_curve(scores, predictions, OFFSETS, **RUN, rng=np.random.default_rng(0))
    assert [p.reliability for p in points] == list(RELIABILITIES)
    at = {p.reliability: p for p in points}
    assert at[1.0].value == pytest.approx(0.3, abs=0.04)
    assert at[1.0].lower < at[1.0].value < at[1.0].upper
    # The less reliable the proxy is taken to be, the more of the relation it may hide.
    values = [at[r].value for r in (0.7, 0.8, 0.9, 1.0)]
    assert values == sorted(values)
    correlations = [
        np.corrcoef(scores)[0, 1],
        *(np.corrcoef(s, p)[0, 1] for s, p in zip(scores, predictions, strict=True)),
    ]
    assert at[0.8].value == pytest.approx(
        float(attenuated_partial(*(np.array([r]) for r in correlations), 0.8)[0]), abs=0.01
    )


def test_reliability_curve_is_none_where_it_is_not_real() -> None:
    scores, predictions = _scores(2, beyond=0.0, shared=0.75)
    points = reliability_curve(scores, predictions, OFFSETS, **RUN, rng=np.random.default_rng(0))
    undefined = [p for p in points if p.reliability < 0.74]
    assert len(undefined) == 3
    assert all(p.value is None and p.lower is None and p.upper is None for p in undefined)
    assert points[-1].value is not None


def test_constant_predictions_explain_nothing() -> None:
    scores, _ = _scores(3, beyond=0.4)
    points = reliability_curve(scores, np.zeros_like(scores), OFFSETS, **RUN, rng=np.random.default_rng(0))
    assert len({round(p.value, 9) for p in points}) == 1
    assert survives(points)


@pytest.mark.parametrize(("lower", "expected"), [(0.01, True), (0.0, False), (-0.1, False), (None, False)])
def test_survives_at_the_deciding_reliability_only(lower: float | None, expected: bool) -> None:
    points = [ReliabilityPoint(0.7, 0.1, -0.5, 0.2), ReliabilityPoint(0.8, 0.1, lower, 0.2)]
    assert survives(points) is expected
    assert not survives([ReliabilityPoint(1.0, 0.5, 0.4, 0.6)])


def test_residual_scores_are_centred_standardised_and_free_of_the_prediction() -> None:
    scores, predictions = _scores(4, beyond=0.0)
    found = residual_scores(scores[0], np.sqrt(0.5) * predictions[0], OFFSETS)
    assert found.std() == pytest.approx(1)
    assert abs(np.corrcoef(found, predictions[0])[0, 1]) < 0.05
    means = np.add.reduceat(found, OFFSETS[:-1])
    np.testing.assert_allclose(means, 0, atol=1e-9)


def test_residual_gaps_have_the_models_own_marginal() -> None:
    scores, predictions = _scores(5, beyond=0.3)
    gaps = np.exp(0.5 + 0.9 * scores[0])
    left = residual_gaps(gaps, scores[0], np.sqrt(0.5) * predictions[0], OFFSETS)
    assert stats.ks_2samp(left, gaps).statistic < 0.03
    assert left.min() >= gaps.min() and left.max() <= gaps.max()
    assert abs(stats.spearmanr(left, predictions[0]).statistic) < 0.05
    assert stats.spearmanr(left, residual_scores(scores[0], np.sqrt(0.5) * predictions[0], OFFSETS)).statistic > 0.9999


def test_gaps_that_the_covariates_determine_are_refused() -> None:
    scores, _ = _scores(6, beyond=0.0)
    with pytest.raises(
        ValueError, match="^the residual normal scores are constant: the covariates determine the gaps$"
    ):
        residual_scores(scores[0], scores[0], OFFSETS)


def test_partial_rank_correlation_is_spearmans() -> None:
    scores, predictions = _scores(7, beyond=0.3)
    left = np.stack([residual_scores(s, np.sqrt(0.5) * p, OFFSETS) for s, p in zip(scores, predictions, strict=True)])
    found = partial_rank_correlation(left, OFFSETS, **RUN, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(stats.spearmanr(*left).statistic, abs=1e-9)
    assert found.interval[0] < 0.29 < found.interval[1]
    assert found.pvalue < 1e-6


def test_seed() -> None:
    scores, predictions = _scores(8, beyond=0.2)
    first, again, other = (
        reliability_curve(scores, predictions, OFFSETS, **RUN, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
