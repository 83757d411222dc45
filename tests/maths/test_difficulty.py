from functools import partial

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import difficulty
from brf_exp.maths.difficulty import (
    RELIABILITIES,
    ReliabilityPoint,
    attenuated_partial,
    difficulty_sums,
    pair_difficulty_sums,
    partial_rank_correlation,
    reliability_curve,
    survives,
    survives_at,
)
from brf_exp.maths.documents import document_chunks, document_sums, offsets_from_lengths
from brf_exp.maths.pairing import derangements, length_blocks, pair_table

OFFSETS = np.arange(0, 3001, 100)
RUN = {"confidence_level": 0.95, "n_resamples": 200}
RAGGED = np.array([1, 12, 2, 30, 3, 3, 17, 12, 1, 8, 25, 40, 2, 9, 12, 5, 30])


def _scores(seed: int, *, beyond: float, shared: float = 0.5, reliability: float = 1.0, n: int = 3000) -> tuple:
    """Normal scores (2, n) that share a difficulty and correlate by `beyond` besides, and a proxy of it, twice."""
    rng = np.random.default_rng(seed)
    true, first, noise, error = rng.standard_normal((4, n))
    second = beyond * first + np.sqrt(1 - beyond**2) * noise
    scores = np.sqrt(shared) * true + np.sqrt(1 - shared) * np.stack([first, second])
    proxy = np.sqrt(reliability) * true + np.sqrt(1 - reliability) * error
    return scores, np.stack([proxy, proxy])


def _curve(scores: np.ndarray, predictions: np.ndarray, offsets: np.ndarray = OFFSETS, seed: int = 0) -> list:
    sums = difficulty_sums(scores, predictions, offsets)
    return reliability_curve(sums, **RUN, rng=np.random.default_rng(seed))


def test_attenuated_partial_by_hand() -> None:
    one = [np.array([r]) for r in (0.5, 0.6, 0.4)]
    # (.8 * .5 - .24) / sqrt((.8 - .36)(.8 - .16)) = .16 / sqrt(.2816)
    assert attenuated_partial(*one, 0.8)[0] == pytest.approx(0.16 / np.sqrt(0.2816))
    # At reliability 1 it is the partial correlation.
    assert attenuated_partial(*one, 1.0)[0] == pytest.approx((0.5 - 0.24) / np.sqrt((1 - 0.36) * (1 - 0.16)))


@pytest.mark.parametrize(
    ("r_12", "r_1", "r_2"),
    # Also where both factors are negative and their product is not, and where the value is no correlation.
    [(0.5, 0.9, 0.1), (0.5, 0.1, 0.9), (0.5, 0.9, 0.9), (0.5, 1.0, 1.0), (0.99, 0.7, -0.7), (-0.9, 0.8, 0.8)],
)
def test_attenuated_partial_is_nan_where_it_is_no_correlation(r_12: float, r_1: float, r_2: float) -> None:
    assert np.isnan(attenuated_partial(*(np.array([r]) for r in (r_12, r_1, r_2)), 0.8))


def test_reliability_curve_recovers_the_partial_correlation() -> None:
    scores, predictions = _scores(1, beyond=0.3)
    points = _curve(scores, predictions)
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


@pytest.mark.parametrize("reliability", [0.7, 0.8, 0.9])
@pytest.mark.parametrize("beyond", [0.0, 0.3])
def test_the_point_at_the_proxys_own_reliability_is_the_truth(beyond: float, reliability: float) -> None:
    """What an imperfect proxy leaves looks like coherence; the curve takes it off."""
    scores, predictions = _scores(2, beyond=beyond, reliability=reliability, n=60_000)
    at = {p.reliability: p for p in _curve(scores, predictions, np.arange(0, 60_001, 1000))}
    assert at[reliability].value == pytest.approx(beyond, abs=0.03)
    assert at[reliability].lower < beyond < at[reliability].upper
    assert at[1.0].lower > beyond


def test_reliability_curve_at_one_is_the_partial_correlation_of_regression_residuals() -> None:
    """Pooled within documents: of what is left of the centred scores after a regression on the mean prediction."""
    rng = np.random.default_rng(31)
    scores, _ = _scores(3, beyond=0.2)
    predictions = 0.5 * scores.mean(axis=0) + rng.standard_normal((2, 3000))
    rows = np.repeat(np.arange(30), 100)
    dummies = (rows[:, None] == np.arange(30)).astype(float)
    design = np.column_stack([dummies, predictions.mean(axis=0)])
    left = scores.T - design @ np.linalg.lstsq(design, scores.T, rcond=None)[0]
    assert _curve(scores, predictions)[-1].value == pytest.approx(np.corrcoef(left.T)[0, 1], abs=1e-10)


def test_document_levels_make_no_difference() -> None:
    scores, predictions = _scores(4, beyond=0.2)
    levels = np.repeat(np.random.default_rng(5).normal(0, 3, (4, 30)), 100, axis=1)
    plain, moved = _curve(scores, predictions), _curve(scores + levels[:2], predictions + levels[2:])
    for first, second in zip(plain, moved, strict=True):
        if first.value is None:
            assert second.value is None
            continue
        np.testing.assert_allclose([second.value, second.lower, second.upper], [first.value, first.lower, first.upper])


def test_reliability_curve_is_none_where_it_is_not_real() -> None:
    scores, predictions = _scores(2, beyond=0.0, shared=0.75)
    points = _curve(scores, predictions)
    undefined = [p for p in points if p.reliability < 0.74]
    assert len(undefined) == 3
    assert all(p.value is None and p.lower is None and p.upper is None for p in undefined)
    assert points[-1].value is not None


def test_constant_predictions_explain_nothing() -> None:
    scores, _ = _scores(3, beyond=0.4)
    points = _curve(scores, np.zeros_like(scores))
    assert len({round(p.value, 9) for p in points}) == 1
    assert survives(points)


@pytest.mark.parametrize(("lower", "expected"), [(0.01, True), (0.0, False), (-0.1, False), (None, False)])
def test_survives_at_the_deciding_reliability_only(lower: float | None, expected: bool) -> None:
    points = [ReliabilityPoint(0.7, 0.1, -0.5, 0.2), ReliabilityPoint(0.8, 0.1, lower, 0.2)]
    assert survives(points) is expected
    assert not survives([ReliabilityPoint(1.0, 0.5, 0.4, 0.6)])


def _centred_sums(u1: np.ndarray, u2: np.ndarray, p1: np.ndarray, p2: np.ndarray) -> list[float]:
    """One document's six sums from the definition."""
    a, b, m = (row - row.mean() for row in (u1, u2, (p1 + p2) / 2))
    return [(x * y).sum() for x, y in ((a, b), (a, m), (b, m), (a, a), (b, b), (m, m))]


def _ragged(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores, predictions = rng.normal(1, 1, (2, 2, RAGGED.sum()))
    return scores, predictions, offsets_from_lengths(RAGGED)


def test_difficulty_sums_by_document() -> None:
    scores, predictions, offsets = _ragged(6)
    found = difficulty_sums(scores, predictions, offsets)
    for row, start, stop in zip(found, offsets[:-1], offsets[1:], strict=True):
        np.testing.assert_allclose(row, _centred_sums(*scores[:, start:stop], *predictions[:, start:stop]), atol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 20, 70])
def test_the_cut_into_chunks_makes_no_difference(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    scores, predictions, offsets = _ragged(7)
    ranks = stats.norm.cdf(scores - 1)

    def both() -> tuple[np.ndarray, float]:
        correlation = partial_rank_correlation(ranks, offsets, **RUN, rng=np.random.default_rng(0))
        return difficulty_sums(scores, predictions, offsets), correlation.value

    whole = both()
    monkeypatch.setattr(difficulty, "document_chunks", partial(document_chunks, n_rows=n_rows))
    cut = both()
    np.testing.assert_allclose(cut[0], whole[0], rtol=1e-12, atol=1e-12)
    assert cut[1] == pytest.approx(whole[1], rel=1e-12)


def test_pair_sums_are_those_of_repaired_cropped_documents() -> None:
    """Every pair of a length block, the second model's scores and prediction from the partner."""
    scores, predictions, offsets = _ragged(8)
    blocks = length_blocks(RAGGED)
    found = pair_difficulty_sums(scores, predictions, offsets, blocks)
    partners = pair_table(np.ones(RAGGED.sum()), np.ones(RAGGED.sum()), offsets, shift_moments=False).partners
    assert found.shape == (*partners.shape, 6)
    for d in range(RAGGED.size):
        for p, e in enumerate(partners[d].tolist()):
            if e < 0:
                assert (found[d, p] == 0).all()
                continue
            n = min(RAGGED[d], RAGGED[e])
            mine, other = slice(offsets[d], offsets[d] + n), slice(offsets[e], offsets[e] + n)
            expected = difficulty_sums(
                [scores[0][mine], scores[1][other]], [predictions[0][mine], predictions[1][other]], np.array([0, n])
            )
            np.testing.assert_allclose(found[d, p], expected[0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found[:, 0], difficulty_sums(scores, predictions, offsets), rtol=1e-9, atol=1e-11)


def test_survives_at_is_the_decision_draw_by_draw() -> None:
    scores, predictions, offsets = _ragged(9)
    blocks = length_blocks(RAGGED)
    table = pair_difficulty_sums(scores, 0.1 * predictions, offsets, blocks)
    columns = derangements(blocks, 40, np.random.default_rng(1))
    found = survives_at(table, columns, confidence_level=0.5, n_resamples=50, rng=np.random.default_rng(2))
    rng, rows = np.random.default_rng(2), np.arange(RAGGED.size)
    for row, answer in zip(columns, found, strict=True):
        curve = reliability_curve(table[rows, row], confidence_level=0.5, n_resamples=50, rng=rng)
        assert answer == survives(curve)
    assert found.any() and not found.all()


def test_a_relation_survives_and_repaired_documents_do_not() -> None:
    scores, predictions = _scores(10, beyond=0.4)
    blocks = length_blocks(np.diff(OFFSETS))
    table = pair_difficulty_sums(scores, predictions, OFFSETS, blocks)
    together = np.zeros((1, 30), dtype=np.int8)
    assert survives_at(table, together, **RUN, rng=np.random.default_rng(0)).all()
    apart = derangements(blocks, 60, np.random.default_rng(1))
    assert survives_at(table, apart, **RUN, rng=np.random.default_rng(0)).mean() < 0.15


def test_partial_rank_correlation_is_spearmans() -> None:
    """Of ranks (k - 1/2) / n, whose variance is (1 - 1/n^2) / 12."""
    scores, _ = _scores(11, beyond=0.3, shared=0.0)
    ranks = (stats.rankdata(scores, axis=1) - 0.5) / 3000
    found = partial_rank_correlation(ranks, OFFSETS, **RUN, rng=np.random.default_rng(0))
    expected = stats.spearmanr(*scores).statistic
    assert found.value == pytest.approx(expected * (1 - 1 / 3000**2), abs=1e-12)
    assert found.interval[0] < 0.29 < found.interval[1]
    assert found.pvalue < 1e-6
    products = 12 * (ranks[0] - 0.5) * (ranks[1] - 0.5)
    by_document = document_sums(products, OFFSETS) / 100
    assert found.pvalue == pytest.approx(stats.ttest_1samp(by_document, 0).pvalue)


def test_seed() -> None:
    scores, predictions = _scores(8, beyond=0.2)
    first, again, other = (_curve(scores, predictions, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    scores, predictions, offsets = _ragged(12)
    blocks = length_blocks(RAGGED)
    table = pair_difficulty_sums(scores, 0.1 * predictions, offsets, blocks)
    columns = derangements(blocks, 200, np.random.default_rng(1))
    drawn = [
        survives_at(table, columns, confidence_level=0.5, n_resamples=20, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
