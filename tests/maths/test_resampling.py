import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import resampling
from brf_exp.maths.resampling import (
    bootstrap_t,
    coefficient_of_variation,
    holm,
    minimum_detectable_effect,
    ratio_estimate,
    ratio_test,
    replicate_chunks,
    sign_flip_pvalues,
)
from brf_exp.maths.undefined import UndefinedStatisticError


def _documents(n_documents: int = 10, n_ratios: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 12, n_documents)
    return rng.normal(0.3, 1, size=(n_documents, n_ratios)) * lengths[:, None], lengths


def test_ratio_weighs_documents_by_length() -> None:
    found = ratio_estimate(np.array([[10.0], [0.0]]), np.array([1, 9]))
    assert found.mean[0] == 1.0
    # e = (9, -9): variance 2 / 1 * 162 / 100.
    assert found.standard_error[0] == pytest.approx(np.sqrt(3.24))


def test_one_document_is_refused() -> None:
    message = "^at least 2 documents are needed, got 1$"
    one = np.array([[3.0]]), np.array([4])
    with pytest.raises(UndefinedStatisticError, match=message) as caught:
        ratio_estimate(*one)
    assert caught.value.reason == "documents"
    with pytest.raises(UndefinedStatisticError, match=message):
        bootstrap_t(*one, n_resamples=9, rng=np.random.default_rng(0))


@pytest.mark.parametrize("value", [0.0, 0.5, 0.1, 1 / 3])
@pytest.mark.parametrize("lengths", [[3, 3, 3], [3, 5, 7], [1, 2, 60]])
def test_documents_without_spread_are_refused(value: float, lengths: list[int]) -> None:
    message = "^all documents have the same value: the standard error is 0$"
    with pytest.raises(UndefinedStatisticError, match=message) as caught:
        ratio_test(
            value * np.array(lengths),
            np.array(lengths),
            confidence_level=0.95,
            n_resamples=99,
            rng=np.random.default_rng(0),
        )
    assert caught.value.reason == "no variation"


def test_method_follows_the_lengths() -> None:
    assert coefficient_of_variation(np.array([5])) == 0.0
    assert coefficient_of_variation(np.array([1, 3])) == pytest.approx(np.sqrt(2) / 2)
    sums = np.random.default_rng(2).normal(size=8)
    methods = [
        ratio_test(sums, lengths, confidence_level=0.95, n_resamples=99, rng=np.random.default_rng(0)).method
        for lengths in (np.arange(10, 18), np.array([1, 1, 1, 1, 1, 1, 1, 9]))
    ]
    assert methods == ["t", "bootstrap_t"]


def test_interval_and_pvalue_say_the_same_for_t() -> None:
    sums, lengths = _documents(12, 1)
    for null_value in np.linspace(-1, 1.5, 26):
        found = ratio_test(
            sums[:, 0],
            lengths,
            null_value=null_value,
            confidence_level=0.95,
            n_resamples=9,
            rng=np.random.default_rng(0),
        )
        assert (found.pvalue < 0.05) == (not found.interval[0] <= null_value <= found.interval[1])


def test_identical_rules_are_not_different() -> None:
    sums, lengths = _documents()
    sums[:, 1] = 0.0
    plain, adjusted = sign_flip_pvalues(sums, lengths, n_resamples=199, rng=np.random.default_rng(0))
    assert plain[1] == adjusted[1] == 1.0
    replicates, estimate = bootstrap_t(sums, lengths, n_resamples=50, rng=np.random.default_rng(0))
    assert (replicates[:, 1] == 0).all()
    assert estimate.mean[1] == estimate.standard_error[1] == 0.0


@pytest.mark.parametrize("n_documents", [2, 2000, 2100, 100_000, 2**22, 2**23])
@pytest.mark.parametrize("n_resamples", [1, 1999, 2000, 2017, 9999])
def test_replicates_are_drawn_in_chunks_of_bounded_memory(n_documents: int, n_resamples: int) -> None:
    chunks = replicate_chunks(n_resamples, n_documents)
    assert sum(chunks) == n_resamples and min(chunks) >= 1
    assert max(chunks) * n_documents <= max(2**22, n_documents) and max(chunks) <= 2000


def test_chunks_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws, cut after every 7 replicates."""
    sums, lengths = _documents(4, 2)

    def draws() -> list[np.ndarray]:
        return [
            bootstrap_t(sums, lengths, n_resamples=100, rng=np.random.default_rng(3))[0],
            *sign_flip_pvalues(sums, lengths, n_resamples=100, rng=np.random.default_rng(3)),
        ]

    whole = draws()
    monkeypatch.setattr(resampling, "CHUNK_CELLS", 7 * 4)
    assert resampling.replicate_chunks(100, 4) == [7] * 14 + [2]
    for found, expected in zip(draws(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert whole[0].shape == (100, 2)
    assert (whole[2] >= whole[1]).all()


def test_seeds() -> None:
    sums, lengths = _documents()
    for function in (bootstrap_t, sign_flip_pvalues):
        first, again, other = (
            function(sums, lengths, n_resamples=50, rng=np.random.default_rng(seed))[0] for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .04 times 3, 2, 1: .03, .04, .04.
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.02])), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm(np.array([0.5, 0.6])), [1.0, 1.0])


def test_minimum_detectable_effect_is_found_with_its_power() -> None:
    """4000 samples of 25 documents whose true mean is the effect."""
    effect = minimum_detectable_effect(1 / np.sqrt(25), 24, power=0.8)
    samples = np.random.default_rng(5).normal(effect, 1, (4000, 25))
    rejected = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert rejected.mean() == pytest.approx(0.8, abs=0.025)
