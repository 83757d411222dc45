"""Size of the document-level tests of losses with document effects, and family-wise size over many rivals."""

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths.discrimination import contrasts
from brf_exp.maths.documents import document_sums
from brf_exp.maths.resampling import bootstrap_t, ratio_test, sign_flip_pvalues

ICC = 0.05


def _lengths(rng: np.random.Generator, n_documents: int) -> np.ndarray:
    """Ragged documents: lognormal lengths with a median of about 60."""
    return np.maximum(np.exp(rng.normal(4.1, 0.8, n_documents)).astype(int), 5)


def _sums(rng: np.random.Generator, lengths: np.ndarray, n_ratios: int = 1, correlation: float = 0.0) -> np.ndarray:
    """Per-document sums (D, K) of losses with a document effect (ICC .05) and a part that all ratios share."""
    shared, own = rng.standard_normal((2, lengths.size, n_ratios, 2))
    shared = shared[:, :1]
    parts = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    return lengths[:, None] * np.sqrt(ICC) * parts[..., 0] + np.sqrt(lengths * (1 - ICC))[:, None] * parts[..., 1]


def _document_rates(n: int, n_documents: int, n_resamples: int, seed: int) -> tuple[float, float, float]:
    """Rejection rates of the ratio test, the sign-flip, and (as if positions were independent) the token z-test."""
    rng, rejected = np.random.default_rng(seed), []
    for _ in range(n):
        lengths = _lengths(rng, n_documents)
        sums = _sums(rng, lengths)
        document = ratio_test(sums[:, 0], lengths, confidence_level=0.95, n_resamples=n_resamples, rng=rng).pvalue
        flipped = sign_flip_pvalues(sums, lengths, n_resamples=n_resamples, rng=rng)[0][0]
        token = 2 * stats.norm.sf(abs(sums.sum()) / np.sqrt(lengths.sum()))
        rejected.append((document < 0.05, flipped < 0.05, token < 0.05))
    return tuple(np.array(rejected).mean(axis=0))


@pytest.mark.parametrize("n_documents", [20, 40])
def test_size_with_document_effects(n_documents: int) -> None:
    document, flipped, token = _document_rates(250, n_documents, 199, seed=n_documents)
    assert 0.01 <= document <= 0.11
    assert 0.01 <= flipped <= 0.11
    # What a test over tokens would have done.
    assert token > 0.25


def _family_rates(n: int, n_resamples: int, correlation: float, seed: int) -> tuple[float, float, float]:
    """Rates of any false rejection over 11 rivals: max-T, unadjusted, and simultaneous lower ends above the truth."""
    rng, rejected = np.random.default_rng(seed), []
    for _ in range(n):
        lengths = _lengths(rng, 40)
        sums = _sums(rng, lengths, 11, correlation)
        plain, adjusted = sign_flip_pvalues(sums, lengths, n_resamples=n_resamples, rng=rng)
        replicates, estimate = bootstrap_t(sums, lengths, n_resamples=n_resamples, rng=rng)
        ends = estimate.mean - np.quantile(replicates.max(axis=1), 0.95) * estimate.standard_error
        rejected.append(((adjusted < 0.05).any(), (plain < 0.05).any(), (ends > 0).any()))
    return tuple(np.array(rejected).mean(axis=0))


def test_family_wise_error() -> None:
    adjusted, plain, simultaneous = _family_rates(150, 199, 0.3, seed=1)
    assert 0.005 <= adjusted <= 0.12
    assert plain > 0.2
    assert simultaneous <= 0.12


def _contrast_rates(n: int, n_resamples: int, seed: int) -> tuple[float, float]:
    """How often the one-sided upper end, and the simultaneous lower ends of 6 rivals, exclude the truth, 0."""
    rng, missed = np.random.default_rng(seed), []
    for _ in range(n):
        lengths = _lengths(rng, 30)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        effect = np.repeat(rng.normal(0, np.sqrt(ICC), size=(30, 6)), lengths, axis=0)
        sums = document_sums(effect + rng.standard_normal((offsets[-1], 6)) * np.sqrt(1 - ICC), offsets)
        made = contrasts(
            [f"rival {number}" for number in range(6)],
            np.stack([-sums, -sums]),
            lengths,
            rivals=[True] * 6,
            confidence_level=0.95,
            n_resamples=n_resamples,
            rng=rng,
        )
        missed.append((made[0].upper_one_sided < 0, any(c.lower_simultaneous > 0 for c in made)))
    return tuple(np.array(missed).mean(axis=0))


def test_ends_that_decide_cover() -> None:
    upper, simultaneous = _contrast_rates(150, 199, seed=2)
    assert upper <= 0.12
    assert simultaneous <= 0.13


@pytest.mark.slow
@pytest.mark.parametrize("n_documents", [20, 40])
def test_size_in_full(band, n_documents: int) -> None:
    document, flipped, token = _document_rates(1000, n_documents, 999, seed=100 + n_documents)
    lower, upper = band(1000)
    assert lower <= document <= upper
    assert lower <= flipped <= upper
    assert token > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.3, 0.9])
def test_family_wise_error_in_full(band, correlation: float) -> None:
    adjusted, _, simultaneous = _family_rates(1000, 999, correlation, seed=101)
    lower, upper = band(1000)
    assert lower <= adjusted <= upper
    assert simultaneous <= upper


@pytest.mark.slow
def test_ends_that_decide_cover_in_full(band) -> None:
    upper, simultaneous = _contrast_rates(1000, 999, seed=102)
    assert upper <= band(1000)[1]
    assert simultaneous <= band(1000)[1]
