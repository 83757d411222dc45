"""Document-level inference against hand-made formulas, literal resampling and exact enumeration."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import resampling


def _documents(seed: int, n_documents: int, n_ratios: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 40, n_documents)
    rows = [rng.normal(0.1 * rng.normal(), 1, size=(n, n_ratios)) for n in lengths]
    return rows, np.stack([row.sum(axis=0) for row in rows]), lengths


def test_ratio_estimate_is_cluster_robust_regression_on_a_constant() -> None:
    rows, sums, lengths = _documents(1, 12, 1)
    y = np.concatenate(rows)[:, 0]
    x = np.ones((y.size, 1))
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    bread = np.linalg.inv(x.T @ x)
    scores = np.stack([np.ones(row.shape[0]) @ (row[:, 0] - beta[0]) for row in rows])[:, None]
    variance = 12 / 11 * bread @ (scores.T @ scores) @ bread
    found = resampling.ratio_estimate(sums, lengths)
    assert found.mean[0] == pytest.approx(beta[0], rel=1e-12)
    assert found.standard_error[0] == pytest.approx(np.sqrt(variance[0, 0]), rel=1e-12)
    assert found.df == 11


def test_ratio_test_of_equal_lengths_is_the_t_test_of_document_means() -> None:
    sums = np.random.default_rng(2).normal(3, 20, 15)
    found = resampling.ratio_test(
        sums, np.full(15, 20), null_value=0.1, confidence_level=0.9, n_resamples=99, rng=np.random.default_rng(0)
    )
    expected = stats.ttest_1samp(sums / 20, 0.1)
    interval = expected.confidence_interval(0.9)
    assert found.method == "t"
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.pvalue == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_bootstrap_t_is_literal_resampling() -> None:
    rows, sums, lengths = _documents(3, 9, 3)
    found, estimate = resampling.bootstrap_t(sums, lengths, n_resamples=40, rng=np.random.default_rng(7))
    weights = np.random.default_rng(7).multinomial(9, np.full(9, 1 / 9), size=40)
    for replicate, counts in zip(found, weights, strict=True):
        drawn = [d for d, count in enumerate(counts) for _ in range(count)]
        pooled = np.concatenate([rows[d] for d in drawn])
        mean = pooled.mean(axis=0)
        errors = np.stack([(rows[d] - mean).sum(axis=0) for d in drawn])
        standard_error = np.sqrt(9 / 8 * (errors**2).sum(axis=0)) / pooled.shape[0]
        np.testing.assert_allclose(replicate, (mean - estimate.mean) / standard_error, rtol=1e-8)


def test_bootstrap_t_interval_of_ragged_documents() -> None:
    lengths = np.array([2, 3, 5, 9, 40, 80, 6, 7, 8, 30])
    sums = np.random.default_rng(4).normal(0, 1, 10) * np.sqrt(lengths) + 0.2 * lengths
    found = resampling.ratio_test(sums, lengths, confidence_level=0.95, n_resamples=500, rng=np.random.default_rng(5))
    replicates, _ = resampling.bootstrap_t(sums[:, None], lengths, n_resamples=500, rng=np.random.default_rng(5))
    value = sums.sum() / lengths.sum()
    ends = [value - np.quantile(replicates, q) * found.standard_error for q in (0.975, 0.025)]
    assert found.method == "bootstrap_t"
    assert found.interval == pytest.approx(tuple(ends))
    as_far = sum(abs(t) >= abs(value / found.standard_error) for t in replicates[:, 0])
    assert found.pvalue == pytest.approx((1 + as_far) / 501)


@pytest.mark.parametrize("n_documents", [4, 7])
def test_sign_flip_against_exact_enumeration(n_documents: int) -> None:
    _, sums, lengths = _documents(6, n_documents, 3)
    sums = sums + np.array([0.0, 0.2, 0.6]) * lengths[:, None]

    def statistic(values: np.ndarray) -> np.ndarray:
        errors = values - values.sum(axis=0) / lengths.sum() * lengths[:, None]
        return np.abs(values.sum(axis=0)) / np.sqrt((errors**2).sum(axis=0))

    observed = statistic(sums)
    flips = np.array([statistic(np.array(signs)[:, None] * sums) for signs in product((1, -1), repeat=n_documents)])
    exact = (flips >= observed - 1e-9).mean(axis=0)
    exact_max = (flips.max(axis=1)[:, None] >= observed - 1e-9).mean(axis=0)
    drawn, drawn_max = resampling.sign_flip_pvalues(sums, lengths, n_resamples=8000, rng=np.random.default_rng(8))
    np.testing.assert_allclose(drawn, exact, atol=0.025)
    np.testing.assert_allclose(drawn_max, exact_max, atol=0.025)


def test_sign_flip_of_one_ratio_needs_no_adjustment() -> None:
    _, sums, lengths = _documents(9, 12, 1)
    plain, adjusted = resampling.sign_flip_pvalues(sums, lengths, n_resamples=300, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(plain, adjusted)


def test_holm_against_the_definition() -> None:
    rng = np.random.default_rng(10)
    for size in (1, 2, 5, 9):
        pvalues = rng.random(size) ** 3
        naive = np.empty(size)
        for i in range(size):
            # The largest (m - rank) p over all hypotheses with a p-value no larger than this one's.
            candidates = [(size - sum(q < other for q in pvalues)) * other for other in pvalues if other <= pvalues[i]]
            naive[i] = min(1.0, max(candidates))
        np.testing.assert_allclose(resampling.holm(pvalues), naive, rtol=1e-12)


def test_minimum_detectable_effect_has_its_power() -> None:
    effect = resampling.minimum_detectable_effect(0.3, 25)
    power = stats.nct.sf(stats.t.ppf(0.975, 25), 25, effect / 0.3)
    assert power == pytest.approx(0.8, abs=0.01)
