"""Size of the contrast of two rates of rare events, as Born Rule Fusion's below every model and a control's are."""

import numpy as np
import pytest

from brf_exp.config import EvaluationConfig
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.below_minimum import difference_test

EVALUATION = EvaluationConfig(n_resamples=499)


def _lengths(ragged: bool, n_documents: int, rng: np.random.Generator) -> np.ndarray:
    if not ragged:
        return np.full(n_documents, 100)
    return np.clip(np.exp(rng.normal(4.6, 0.8, n_documents)).astype(int), 5, 1500)


def _rejects(rate: float, lengths: np.ndarray, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether equal rates differ at .05, and whether the interval misses 0.

    Both rates follow the document's own, an exponential, each with noise of its own.
    """
    level = rate * rng.gamma(1, 1, lengths.size)
    ours, theirs = (rng.binomial(lengths, np.minimum(level * rng.gamma(4, 0.25, lengths.size), 1)) for _ in range(2))
    try:
        (lower, upper), pvalue = difference_test((ours - theirs).astype(float), lengths, EVALUATION, rng)
    except UndefinedStatisticError:  # no event at all
        return False, False
    assert -1 <= lower < upper <= 1
    return pvalue < 0.05, not lower <= 0 <= upper


def _rates(rate: float, n: int, *, ragged: bool, n_documents: int) -> tuple[float, float]:
    rng = np.random.default_rng([n_documents, int(10_000 * rate), ragged])
    found = np.mean([_rejects(rate, _lengths(ragged, n_documents, rng), rng) for _ in range(n)], axis=0)
    return float(found[0]), float(found[1])


@pytest.mark.parametrize("ragged", [False, True])
def test_size_of_a_difference_of_rare_events(ragged: bool) -> None:
    for rate in _rates(0.002, 300, ragged=ragged, n_documents=40):
        assert 0.005 <= rate <= 0.10


@pytest.mark.slow
@pytest.mark.parametrize("n_documents", [20, 40])
@pytest.mark.parametrize("rate", [0.001, 0.005, 0.02, 0.1])
@pytest.mark.parametrize("ragged", [False, True])
def test_size_in_full(band, ragged: bool, rate: float, n_documents: int) -> None:
    size, missed = _rates(rate, 1000, ragged=ragged, n_documents=n_documents)
    assert 0.005 <= size <= band(1000)[1]
    # The bootstrap-t of 20 documents of very unequal lengths has an interval that is somewhat short.
    assert 0.005 <= missed <= (0.11 if ragged else band(1000)[1])
