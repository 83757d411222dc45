from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import forecasts
from brf_exp.maths.calibration_error import (
    CalibrationError,
    CalibrationSums,
    calibration_error,
    equal_mass_edges,
    reliability_table,
)
from brf_exp.maths.documents import offsets_from_lengths
from brf_exp.maths.rules import fuse
from brf_exp.maths.top_probability import top_probability
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.undefined import UndefinedStatisticError

Draw = tuple[np.ndarray, np.ndarray, np.ndarray]


def _draw(rng: np.random.Generator, n_documents: int, length: int, *, icc: float = 0.0, error: float = 0.0) -> Draw:
    """Confidence, correct, offsets: overconfident above one half and underconfident below, by at most `error`."""
    n = n_documents * length
    confidence = rng.beta(1.2, 1.0, n)
    accuracy = confidence - 4 * error * confidence * (1 - confidence) * np.sign(confidence - 0.5)
    shared = np.repeat(rng.normal(size=n_documents), length)
    latent = np.sqrt(icc) * shared + np.sqrt(1 - icc) * rng.normal(size=n)
    return confidence, stats.norm.cdf(latent) < accuracy, offsets_from_lengths(np.full(n_documents, length))


def _measure(drawn: Draw, *, seed: int = 0, n_resamples: int = 99, **options) -> CalibrationError:
    rng = np.random.default_rng(seed)
    return calibration_error(*drawn, confidence_level=0.95, n_resamples=n_resamples, rng=rng, **options)


def test_table_by_hand() -> None:
    confidence = np.array([0.9, 0.1, 0.4, 0.5, 0.2, 0.7])
    correct = np.array([True, False, True, False, False, True])
    table = reliability_table(confidence, correct, n_bins=3)
    np.testing.assert_allclose(table.edges, [0.1, 0.4, 0.7, 0.9])
    assert table.counts.tolist() == [2, 2, 2]
    np.testing.assert_allclose(table.mean_confidence, [0.15, 0.45, 0.8])
    np.testing.assert_allclose(table.accuracy, [0, 0.5, 1])


def test_bins_hold_equally_many() -> None:
    table = reliability_table(*_draw(np.random.default_rng(0), 30, 50)[:2])
    assert table.counts.tolist() == [100] * 15
    assert (np.diff(table.edges) > 0).all()


@pytest.mark.parametrize("values", [[0.5], [1.0, 1.0, 0.2], [0.1, 0.1, 0.1, 0.9], [0.3, 0.4]])
def test_equal_values_share_a_bin_and_no_bin_is_empty(values: list[float]) -> None:
    confidence = np.tile(values, 12)
    order = np.random.default_rng(1).permutation(confidence.size)
    correct = np.arange(confidence.size) % 3 == 0
    table = reliability_table(confidence, correct)
    assert (table.counts > 0).all() and table.counts.size <= len(set(values))
    # The order of the positions does not matter.
    shuffled = reliability_table(confidence[order], correct[order])
    for one, other in zip(vars(table).values(), vars(shuffled).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_squared_error_is_kumars_where_documents_are_positions() -> None:
    """sum_b n_b / n ((accuracy - confidence)^2 - accuracy (1 - accuracy) / (n_b - 1)), with loops."""
    rng = np.random.default_rng(2)
    confidence = rng.choice([0.2, 0.5, 0.6, 0.9], 400)
    correct = rng.random(400) < confidence - 0.1
    expected, plug_in = 0.0, 0.0
    for value in (0.2, 0.5, 0.6, 0.9):
        inside = correct[confidence == value]
        accuracy, n = inside.mean(), inside.size
        expected += n / 400 * ((accuracy - value) ** 2 - accuracy * (1 - accuracy) / (n - 1))
        plug_in += n / 400 * abs(accuracy - value)
    # With many bins every value has one of its own.
    found = _measure((confidence, correct, np.arange(401)), n_bins=100)
    assert found.table.counts.size == 4
    assert found.squared.value == pytest.approx(expected, rel=1e-12)
    assert found.plug_in == pytest.approx(plug_in, rel=1e-12)


def test_expected_error_is_the_resampled_correction_in_closed_form() -> None:
    """2 ECE - mean of the ECE with accuracies drawn from N(accuracy, standard error), by Monte Carlo."""
    drawn = _draw(np.random.default_rng(3), 25, 30, icc=0.2, error=0.05)
    found = _measure(drawn, n_bins=6)
    confidence, correct, offsets = drawn
    bins = np.searchsorted(found.table.edges[1:-1], confidence, side="right")
    document = np.repeat(np.arange(25), 30)
    d = correct - confidence
    means, errors = [], []
    for b in range(6):
        rows = bins == b
        mean = d[rows].mean()
        sums = [(d[rows & (document == doc)] - mean).sum() for doc in np.unique(document[rows])]
        variance = len(sums) / (len(sums) - 1) * np.sum(np.square(sums)) / rows.sum() ** 2
        means.append(mean)
        errors.append(np.sqrt(variance))
    share = found.table.counts / confidence.size
    drawn_means = np.random.default_rng(4).normal(means, errors, (200_000, 6))
    monte_carlo = 2 * found.plug_in - (np.abs(drawn_means) @ share).mean()
    assert found.expected.value == pytest.approx(monte_carlo, abs=2e-4)
    assert found.squared.value == pytest.approx(share @ (np.square(means) - np.square(errors)), rel=1e-9)


def test_debiased_at_perfect_calibration() -> None:
    """`squared` is unbiased also where documents have an effect of their own; `expected` keeps 2 - sqrt(2) of the
    plug-in's bias."""
    rng = np.random.default_rng(5)
    found = [_measure(_draw(rng, 120, 25, icc=0.1), n_resamples=1) for _ in range(300)]
    squared = np.array([one.squared.value for one in found])
    assert abs(squared.mean()) < 4 * squared.std() / np.sqrt(300)
    plug_in = np.mean([one.plug_in for one in found])
    assert np.mean([one.expected.value for one in found]) / plug_in == pytest.approx(2 - np.sqrt(2), abs=0.02)
    assert np.mean([one.plug_in**2 for one in found]) > 20 * abs(squared.mean())


def test_intervals_cover_and_the_test_holds_its_size() -> None:
    """Twice 150 simulations; bands of about 3 standard errors."""
    rng = np.random.default_rng(6)
    null = [_measure(_draw(rng, 30, 30, icc=0.1)) for _ in range(150)]
    assert 0.005 <= np.mean([one.pvalue <= 0.05 for one in null]) <= 0.11
    for name in ("expected", "squared"):
        assert np.mean([getattr(one, name).interval[0] <= 1e-12 for one in null]) >= 0.92
    covered = {"expected": 0, "squared": 0}
    population = _draw(np.random.default_rng(7), 1, 200_000, error=0.15)[0]
    signed = -0.6 * population * (1 - population) * np.sign(population - 0.5)
    for _ in range(150):
        found = _measure(_draw(rng, 30, 30, icc=0.1, error=0.15))
        bins = np.searchsorted(found.table.edges[1:-1], population, side="right")
        counts = np.bincount(bins)
        deviation, share = np.bincount(bins, weights=signed) / counts, counts / population.size
        for name, truth in (("expected", share @ np.abs(deviation)), ("squared", share @ deviation**2)):
            lower, upper = getattr(found, name).interval
            covered[name] += lower <= truth <= upper
    assert all(0.87 <= hits / 150 <= 0.995 for hits in covered.values()), covered


def test_documents_widen_the_interval() -> None:
    """The same positions with a strong effect per document, and as if every position were a document."""
    rng = np.random.default_rng(8)
    confidence, offsets = rng.uniform(0.3, 0.9, 1600), np.arange(0, 1601, 40)
    effects = rng.uniform(-0.2, 0.2, 40)
    correct = rng.random(1600) < confidence - 0.1 + np.repeat(effects, 40)
    by_document = _measure((confidence, correct, offsets), n_resamples=400).expected.interval
    by_position = _measure((confidence, correct, np.arange(1601)), n_resamples=400).expected.interval
    assert np.diff(by_document) > 1.3 * np.diff(by_position)


def test_one_seed_one_interval() -> None:
    drawn = _draw(np.random.default_rng(9), 20, 20, error=0.1)
    first, again, other = (_measure(drawn, seed=seed).expected.interval for seed in (1, 1, 2))
    assert first == again != other


def test_truncation_contains_whatever_lies_within_the_bounds() -> None:
    rng = np.random.default_rng(10)
    confidence, correct, offsets = _draw(rng, 20, 20, error=0.1)
    slack = rng.uniform(0, 0.1, 400)
    bounds = np.stack([np.maximum(confidence - slack, 0), np.minimum(confidence + slack, 1)])
    certain = np.stack([correct & (rng.random(400) < 0.9), correct | (rng.random(400) < 0.1)])
    found = _measure((bounds, certain, offsets), n_bins=5)
    bins = np.searchsorted(found.table.edges[1:-1], bounds.mean(axis=0), side="right")
    share = found.table.counts / 400
    middle = certain.mean(axis=0) - bounds.mean(axis=0)
    document = np.repeat(np.arange(20), 20)

    def variance(b: int) -> float:
        rows = bins == b
        sums = np.bincount(document[rows], weights=middle[rows] - middle[rows].mean(), minlength=20)
        m = np.unique(document[rows]).size
        return m / (m - 1) * (sums**2).sum() / rows.sum() ** 2

    variances = np.array([variance(b) for b in range(5)])
    for _ in range(300):
        # All at one end, or anywhere; open positions likewise.
        place = rng.choice([0.0, 1.0]) if rng.random() < 0.5 else rng.random(400)
        chosen = bounds[0] + place * (bounds[1] - bounds[0])
        hit = np.where(certain[0] == certain[1], certain[0], rng.random(400) < rng.choice([0.0, 0.5, 1.0]))
        deviation = np.bincount(bins, weights=hit - chosen) / found.table.counts
        lower, upper = found.squared.truncation
        assert lower - 1e-12 <= share @ (deviation**2 - variances) <= upper + 1e-12
        folded = stats.foldnorm.mean(np.abs(deviation) / np.sqrt(variances), scale=np.sqrt(variances))
        lower, upper = found.expected.truncation
        assert lower - 1e-12 <= share @ (2 * np.abs(deviation) - folded) <= upper + 1e-12
    assert found.expected.truncation[0] < found.expected.value < found.expected.truncation[1]
    assert found.expected.interval[1] > found.expected.truncation[1]


def _streamed(drawn: Draw, cuts: list[int], **options) -> CalibrationError:
    """The same, taken in pieces of rows that end at `cuts`."""
    confidence, correct, offsets = drawn
    document = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    sums = CalibrationSums(offsets, n_bins=6, **options)
    for first, last in zip([0, *cuts], [*cuts, document.size], strict=True):
        sums.add(document[first:last], confidence[..., first:last], correct[..., first:last])
    return sums.error(confidence_level=0.95, n_resamples=99, rng=np.random.default_rng(0))


@pytest.mark.parametrize("cuts", [[20], [100, 120, 400], list(range(20, 600, 20))])
def test_pieces_of_whole_documents_change_no_digit(cuts: list[int]) -> None:
    drawn = _draw(np.random.default_rng(20), 30, 20, error=0.1)
    whole = _measure(drawn, n_bins=6)
    for options in ({}, {"n_positions_for_edges": 600}):
        found = _streamed(drawn, cuts, **options)
        for name, value in vars(whole).items():
            if name != "table":
                assert getattr(found, name) == value, name
        for one, other in zip(vars(found.table).values(), vars(whole.table).values(), strict=True):
            np.testing.assert_array_equal(one, other)
    some = _streamed(drawn, cuts, n_positions_for_edges=250)
    assert some == _same_but_table(some, _streamed(drawn, [], n_positions_for_edges=250))


def _same_but_table(one: CalibrationError, other: CalibrationError) -> CalibrationError:
    np.testing.assert_array_equal(one.table.edges, other.table.edges)
    return replace(other, table=one.table)


@pytest.mark.parametrize("n_positions", [10, 130, 10_000])
def test_bins_are_those_of_the_first_whole_documents(n_positions: int) -> None:
    drawn = _draw(np.random.default_rng(21), 30, 20, error=0.1)
    found = _streamed(drawn, [60, 300], n_positions_for_edges=n_positions)
    first = {10: 20, 130: 120, 10_000: 600}[n_positions]
    np.testing.assert_array_equal(found.table.edges, equal_mass_edges(drawn[0][:first], 6))
    bins = np.searchsorted(found.table.edges[1:-1], drawn[0], side="right")
    np.testing.assert_array_equal(found.table.counts, np.bincount(bins, minlength=found.table.counts.size))
    share = found.table.counts / 600
    errors = [abs((drawn[1] - drawn[0])[bins == b].mean()) for b in range(share.size)]
    assert found.plug_in == pytest.approx(float(share @ errors), rel=1e-12)


def test_a_document_may_come_in_pieces() -> None:
    drawn = _draw(np.random.default_rng(22), 5, 400, error=0.1)
    whole, pieces = _streamed(drawn, []), _streamed(drawn, [37, 450, 460, 1999], n_positions_for_edges=500)
    assert pieces.n_positions == 2000
    other = _streamed(drawn, [400], n_positions_for_edges=500)
    assert pieces.plug_in == pytest.approx(other.plug_in, rel=1e-12)
    assert whole.plug_in != pieces.plug_in


def test_exact_confidences_leave_nothing_open() -> None:
    confidence, correct, offsets = _draw(np.random.default_rng(11), 20, 20, error=0.1)
    exact = _measure((confidence, correct, offsets))
    same = _measure((np.stack([confidence, confidence]), np.stack([correct, correct]), offsets))
    for found in (exact, same):
        assert found.expected.truncation == (found.expected.value, found.expected.value)
    assert exact.expected == same.expected
    assert (exact.n_positions, exact.n_documents) == (400, 20)


def test_one_document_is_not_enough() -> None:
    confidence, correct, _ = _draw(np.random.default_rng(12), 1, 50)
    with pytest.raises(UndefinedStatisticError, match="^at least 2 documents are needed, got 1$") as raised:
        _measure((confidence, correct, np.array([0, 50])))
    assert raised.value.reason == "documents"


def test_a_bin_of_one_document_has_no_variance() -> None:
    confidence = np.repeat([0.2, 0.4, 0.6, 0.8], 5)
    drawn = confidence, confidence > 0.5, np.array([0, 5, 10, 15, 20])
    with pytest.raises(
        UndefinedStatisticError, match="^every bin needs 2 documents or more; `n_bins` is 4, take fewer$"
    ):
        _measure(drawn, n_bins=4)
    assert _measure(drawn, n_bins=1).table.counts.tolist() == [20]


def test_shapes_are_named() -> None:
    confidence, correct, offsets = _draw(np.random.default_rng(13), 4, 5)
    with pytest.raises(ValueError, match=r"^`confidence` must have shape \(20,\) or \(2, 20\), got \(19,\)$"):
        _measure((confidence[1:], correct, offsets))
    with pytest.raises(ValueError, match=r"^`correct` must have shape \(20,\) or \(2, 20\), got \(3, 20\)$"):
        _measure((confidence, np.stack([correct] * 3), offsets))


def test_edges_are_values_that_occur() -> None:
    confidence = np.random.default_rng(14).random(57)
    assert np.isin(equal_mass_edges(confidence, 6), confidence).all()


def _rows(k: int) -> tuple[forecasts.PartialForecast, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(15)
    log_p = rng.normal(0, 2, (2, 200, 10))
    log_p -= np.logaddexp.reduce(log_p, axis=2, keepdims=True)
    targets = rng.integers(0, 10, 200)
    ids = np.argsort(-log_p, axis=2)[:, :, :k]
    rows = np.take_along_axis(log_p, ids, axis=2)
    known = known_tokens(list(ids), list(rows), target_ids=targets, target_log_p=log_p[:, np.arange(200), targets])
    return (
        forecasts.coherent_forecast(known, coherence=0.6),
        fuse("constant_coherence", log_p, coherence=0.6).p,
        targets,
    )


def test_top_probability_of_whole_distributions_is_exact() -> None:
    forecast, q, targets = _rows(10)
    top = top_probability(forecast)
    np.testing.assert_allclose(top.confidence, np.stack([q.max(axis=1)] * 2), atol=1e-12)
    np.testing.assert_array_equal(top.correct, np.stack([q.argmax(axis=1) == targets] * 2))


def test_top_probability_of_a_few_rows() -> None:
    widths, open_positions = [], []
    for k in (2, 4, 8):
        top = top_probability(_rows(k)[0])
        widths.append(np.diff(top.confidence, axis=0).mean())
        open_positions.append((top.correct[0] != top.correct[1]).mean())
    assert widths[0] > widths[1] > widths[2] > 0
    assert open_positions[0] > open_positions[2] and open_positions[2] < 0.02


def test_an_undefined_forecast_has_no_top() -> None:
    p = np.log([[0.6, 0.4]])
    same = known_tokens([np.array([[0, 1]])] * 2, [p, p], target_ids=np.array([0]), target_log_p=np.log([[0.6], [0.6]]))
    with pytest.raises(UndefinedStatisticError, match="^the fused distribution is undefined at 1 positions$"):
        top_probability(forecasts.coherent_forecast(same, coherence=-1.0))
