"""Order of M models' phases against its definition and against every independent shift."""

from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import kuramoto as module
from brf_exp.maths.circular import kuramoto_order
from brf_exp.maths.documents import document_chunks, offsets_from_lengths
from brf_exp.maths.kuramoto import N_BINS, KuramotoResult, kuramoto
from brf_exp.maths.pairing import true_pairing
from brf_exp.maths.resampling import ratio_test
from brf_exp.maths.undefined import UndefinedStatisticError


def _phases(seed: int, n_models: int, lengths: list[int], shared: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.sqrt(1 - shared) * rng.standard_normal((n_models, sum(lengths)))
    x += np.sqrt(shared) * rng.standard_normal(sum(lengths))
    return 2 * np.arctan(np.exp(0.9 * x)), offsets_from_lengths(np.array(lengths))


def _run(phi: np.ndarray, offsets: np.ndarray, *, n_shifts: int = 5, seed: int = 0) -> KuramotoResult:
    z = np.exp(1j * phi)
    pairings = [true_pairing(z[i], z[j], offsets) for i, j in combinations(range(len(z)), 2)]
    return kuramoto(
        list(z),
        pairings,
        offsets,
        n_shifts=n_shifts,
        confidence_level=0.95,
        n_resamples=199,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("n_models", [2, 3, 5])
def test_squared_order_is_the_sum_of_all_cosines(n_models: int) -> None:
    phi, _ = _phases(1, n_models, [300])
    cosines = sum(np.cos(phi[i] - phi[j]) for i, j in combinations(range(n_models), 2))
    expected = 1 / n_models + 2 / n_models**2 * cosines
    np.testing.assert_allclose(kuramoto_order(phi) ** 2, expected, atol=1e-14)


@pytest.mark.parametrize("n_models", [2, 3, 4])
def test_mean_and_histogram_are_those_of_the_definition(n_models: int) -> None:
    phi, offsets = _phases(2, n_models, [40, 25, 60, 33])
    found = _run(phi, offsets)
    r = kuramoto_order(phi)
    assert found.mean == pytest.approx(r.mean())
    np.testing.assert_array_equal(found.counts, np.histogram(r, bins=N_BINS, range=(0, 1))[0])
    assert found.counts.sum() == found.shifted_counts.sum() == r.size
    assert found.n_shifts == 5


def test_two_models_are_half_their_difference() -> None:
    phi, offsets = _phases(3, 2, [50] * 6, shared=0.3)
    found = _run(phi, offsets)
    assert found.mean == pytest.approx(np.abs(np.cos((phi[0] - phi[1]) / 2)).mean())
    # r^2 = (1 + cos) / 2: its excess is half the excess cosine, with half the interval.
    z = np.exp(1j * phi)
    pairing = true_pairing(z[0], z[1], offsets)
    assert found.excess_squared.value == pytest.approx(pairing.kappa / 2)
    expected = ratio_test(
        pairing.excess.real, pairing.lengths, confidence_level=0.95, n_resamples=9, rng=np.random.default_rng(0)
    )
    assert found.excess_squared.interval == pytest.approx(tuple(np.array(expected.interval) / 2))


def _every_shift(rows: np.ndarray) -> np.ndarray:
    """Sum of r^2 over a document's positions for every shift of every model but the first, which none is needed of."""
    n_models, length = rows.shape
    sums = []
    for shifts in product(range(length), repeat=n_models - 1):
        turned = [rows[0], *(np.roll(row, by) for row, by in zip(rows[1:], shifts, strict=True))]
        sums.append((kuramoto_order(np.array(turned)) ** 2).sum())
    return np.array(sums)


@pytest.mark.parametrize(("n_models", "lengths"), [(2, [7, 12, 5]), (3, [4, 6, 5]), (4, [4, 3, 5])])
def test_excess_and_variance_are_those_over_all_independent_shifts(n_models: int, lengths: list[int]) -> None:
    """The pairs' sums are uncorrelated under the shifts, so that the variance of their sum is the sum of theirs."""
    phi, offsets = _phases(4, n_models, lengths, shared=0.5)
    documents = [_every_shift(phi[:, a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    observed = (kuramoto_order(phi) ** 2).sum()
    excess = observed - sum(sums.mean() for sums in documents)
    variance = sum(sums.var() for sums in documents)
    found = _run(phi, offsets)
    assert found.excess_squared.value == pytest.approx(excess / sum(lengths), rel=1e-9)
    assert found.shift_pvalue == pytest.approx(stats.norm.sf(excess / np.sqrt(variance)), rel=1e-4)


def test_mean_under_shifts_is_that_over_all_of_them() -> None:
    phi, offsets = _phases(5, 3, [4, 6, 5], shared=0.8)
    total = 0.0
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        rows = phi[:, start:stop]
        shifts = product(range(stop - start), repeat=2)
        turned = [[rows[0], np.roll(rows[1], i), np.roll(rows[2], j)] for i, j in shifts]
        total += np.mean([kuramoto_order(np.array(row)).sum() for row in turned])
    found = _run(phi, offsets, n_shifts=4000)
    assert found.shifted_mean == pytest.approx(total / 15, abs=0.003)
    assert found.mean > total / 15 + 0.02


@pytest.mark.parametrize("n_models", [2, 3])
def test_size_and_power(n_models: int) -> None:
    pvalues = np.array([_run(*_phases(seed, n_models, [30] * 10), n_shifts=1).shift_pvalue for seed in range(300)])
    # 99.9 % of binomial(300, .05).
    assert 0.013 <= (pvalues < 0.05).mean() <= 0.097
    related = np.array([_run(*_phases(seed, n_models, [30] * 10, 0.25)).shift_pvalue for seed in range(40)])
    assert (related < 0.05).mean() > 0.9


def test_the_cut_into_chunks_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    phi, offsets = _phases(6, 3, [20, 5, 31, 12, 9], shared=0.2)
    whole = _run(phi, offsets)
    monkeypatch.setattr(module, "document_chunks", partial(document_chunks, n_rows=10))
    cut = _run(phi, offsets)
    assert cut.shifted_mean == pytest.approx(whole.shifted_mean, rel=1e-12)
    assert cut.mean == pytest.approx(whole.mean, rel=1e-12)
    np.testing.assert_allclose(cut.shifted_counts, whole.shifted_counts)
    np.testing.assert_array_equal(cut.counts, whole.counts)


@pytest.mark.parametrize("phase", [0.0, 0.7, 3.0])
def test_constant_phases_are_refused(phase: float) -> None:
    with pytest.raises(UndefinedStatisticError) as caught:
        _run(np.full((3, 100), phase), np.arange(0, 101, 20))
    assert caught.value.reason == "constant phases"


def test_one_model_that_varies_is_not_enough() -> None:
    phi, offsets = _phases(8, 3, [50] * 6)
    phi[1:] = [[0.7], [2.0]]
    with pytest.raises(UndefinedStatisticError) as caught:
        _run(phi, offsets)
    assert caught.value.reason == "constant phases"


def test_a_model_of_constant_phases_among_others_says_nothing() -> None:
    phi, offsets = _phases(9, 3, [50] * 6, shared=0.3)
    phi[2] = 0.7
    three, two = _run(phi, offsets), _run(phi[:2], offsets)
    assert three.shift_pvalue == pytest.approx(two.shift_pvalue, rel=1e-6)
    # 2 / M^2 of the pair's excess: 2 / 9 instead of 1 / 2.
    assert three.excess_squared.value == pytest.approx(4 / 9 * two.excess_squared.value)


def test_seed() -> None:
    phi, offsets = _phases(7, 3, [20] * 5)
    same, again, other = (_run(phi, offsets, seed=seed) for seed in (1, 1, 2))
    assert same.shifted_mean == again.shifted_mean != other.shifted_mean
    np.testing.assert_array_equal(same.shifted_counts, again.shifted_counts)
    assert same.shift_pvalue == other.shift_pvalue
