"""Statistics that decide nothing, against all permutations, all signs and all shifts."""

from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import secondary
from brf_exp.maths.coherence import shift_null
from brf_exp.maths.documents import document_chunks, offsets_from_lengths
from brf_exp.maths.pairing import true_pairing
from brf_exp.maths.resampling import holm
from brf_exp.maths.secondary import Harmonic, document_permutation, harmonics, sign_flip_pvalue
from brf_exp.maths.undefined import UndefinedStatisticError


def _world(seed: int, n_documents: int, length: int, correlation: float = 0.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    first, noise = rng.standard_normal((2, n_documents * length))
    second = correlation * first + np.sqrt(1 - correlation**2) * noise
    z = [np.exp(2j * np.arctan(np.exp(0.9 * x))) for x in (first, second)]
    return z[0], z[1], np.arange(0, n_documents * length + 1, length)


def _products(z1: np.ndarray, z2: np.ndarray, n_documents: int) -> np.ndarray:
    """Sum over positions of z1 of document d times conj z2 of document e, a loop over both."""
    first, second = z1.reshape(n_documents, -1), z2.reshape(n_documents, -1)
    return np.array([[sum(a * np.conj(b) for a, b in zip(x, y, strict=True)) for y in second] for x in first])


@pytest.mark.parametrize("n_documents", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", [1, 2])
def test_document_permutation_has_the_moments_of_all_permutations(n_documents: int, seed: int) -> None:
    z1, z2, offsets = _world(seed, n_documents, 30, correlation=0.3)
    products = _products(z1, z2, n_documents)
    rows = np.arange(n_documents)
    sums = np.array([products[rows, list(order)].sum() for order in permutations(range(n_documents))])
    deviations = sums - sums.mean()
    point = np.array([deviations[0].real, deviations[0].imag])
    q = point @ np.linalg.solve(np.cov(deviations.real, deviations.imag, bias=True), point)
    found = document_permutation(z1, z2, offsets)
    assert found.statistic == pytest.approx(q, rel=1e-9)
    assert found.pvalue == pytest.approx(stats.chi2.sf(q, 2), rel=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.04])
def test_document_permutation_against_monte_carlo(correlation: float) -> None:
    z1, z2, offsets = _world(3, 40, 50, correlation)
    products = _products(z1, z2, 40)
    rng = np.random.default_rng(4)
    rows = np.arange(40)
    sums = np.array([np.trace(products), *(products[rows, rng.permutation(40)].sum() for _ in range(4000))])
    centred = sums - products.sum() / 40
    covariance = np.cov(centred[1:].real, centred[1:].imag)
    points = np.column_stack([centred.real, centred.imag])
    q = np.einsum("ni,ij,nj->n", points, np.linalg.inv(covariance), points)
    found = document_permutation(z1, z2, offsets).pvalue
    assert 0.005 < found < 0.995
    assert found == pytest.approx((q >= q[0]).mean(), abs=0.03)


def test_document_permutation_keeps_positions_and_breaks_documents() -> None:
    """What positions share is no evidence; what whole documents share is."""
    rng = np.random.default_rng(5)
    ramp, level = np.linspace(2, -2, 40), rng.standard_normal((40, 1))
    noise = 0.7 * rng.standard_normal((2, 40, 40))
    offsets = np.arange(0, 1601, 40)
    pvalues = [
        document_permutation(*np.exp(2j * np.arctan(np.exp((noise + shared).reshape(2, -1)))), offsets).pvalue
        for shared in (ramp, level)
    ]
    assert pvalues[0] > 0.01 and pvalues[1] < 1e-6


def test_document_permutation_size() -> None:
    pvalues = np.array([document_permutation(*_world(seed, 20, 30)).pvalue for seed in range(300)])
    # 99.9 % of binomial(300, .05).
    assert 0.013 <= (pvalues < 0.05).mean() <= 0.097


def test_document_permutation_of_two_distinct_phases() -> None:
    """All sums lie on a line: one degree of freedom, and a size of its own."""
    rng = np.random.default_rng(6)
    pvalues = []
    for _ in range(300):
        state = rng.random((2, 20 * 30)) < 0.4
        z1, z2 = (np.exp(1j * np.where(row, 0.3, 2.1 + model)) for model, row in enumerate(state))
        found = document_permutation(z1, z2, np.arange(0, 601, 30))
        assert found.pvalue == pytest.approx(stats.chi2.sf(found.statistic, 1))
        pvalues.append(found.pvalue)
    assert 0.013 <= (np.array(pvalues) < 0.05).mean() <= 0.097


def test_document_permutation_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(7, 12, 25, correlation=0.1)
    whole = document_permutation(*world)
    monkeypatch.setattr(secondary, "document_chunks", partial(document_chunks, n_rows=60))
    assert document_permutation(*world).statistic == pytest.approx(whole.statistic, rel=1e-12)


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [([10, 10, 9], "unequal lengths"), ([10, 10], "documents"), ([1] * 2001, "documents")],
)
def test_document_permutation_is_refused(lengths: list[int], reason: str) -> None:
    z = np.exp(1j * np.random.default_rng(8).uniform(0, 6, sum(lengths)))
    with pytest.raises(UndefinedStatisticError) as caught:
        document_permutation(z, z, offsets_from_lengths(np.array(lengths)))
    assert caught.value.reason == reason


def test_document_permutation_of_constant_phases_is_refused() -> None:
    z = np.full(200, np.exp(0.4j))
    with pytest.raises(UndefinedStatisticError) as caught:
        document_permutation(z, z, np.arange(0, 201, 20))
    assert caught.value.reason == "constant phases"


def test_harmonics_are_the_tests_of_multiplied_phases() -> None:
    z1, z2, offsets = _world(9, 10, 40, correlation=0.2)
    found = harmonics(z1, z2, offsets)
    assert [harmonic.order for harmonic in found] == [1, 2, 3, 4]
    phi = np.angle(z1), np.angle(z2)
    for harmonic in found:
        multiplied = [np.exp(1j * harmonic.order * row) for row in phi]
        pairing = true_pairing(*multiplied, offsets)
        assert harmonic.excess == pytest.approx(pairing.kappa, rel=1e-9)
        assert harmonic.pvalue == pytest.approx(shift_null(pairing).pvalue, rel=1e-4)
        assert harmonic.resultant_length == pytest.approx(abs((multiplied[0] * np.conj(multiplied[1])).mean()))
    adjusted = holm(np.array([harmonic.pvalue for harmonic in found]))
    np.testing.assert_allclose([harmonic.pvalue_adjusted for harmonic in found], adjusted)


def test_the_second_harmonic_sees_what_the_first_does_not() -> None:
    """The second model's phase is the first one's or opposite to it, at random."""
    rng = np.random.default_rng(10)
    z1 = np.exp(1j * rng.uniform(0, 2 * np.pi, 800))
    z2 = z1 * np.where(rng.random(800) < 0.5, 1, -1)
    first, second, third, _ = harmonics(z1, z2, np.arange(0, 801, 40))
    assert first.pvalue > 0.01 < third.pvalue
    assert second.pvalue_adjusted < 1e-6 and second.excess > 0.9


def test_harmonics_that_do_not_vary_have_no_pvalue() -> None:
    """Phases 0 and pi: twice and four times them are 0."""
    z = np.exp(1j * np.pi * (np.random.default_rng(11).random((2, 400)) < 0.4))
    found = harmonics(z[0], z[1], np.arange(0, 401, 20))
    assert [harmonic.pvalue is None for harmonic in found] == [False, True, False, True]
    assert [harmonic.pvalue_adjusted is None for harmonic in found] == [False, True, False, True]
    # Three times them is once: two tests were made.
    assert found[0].pvalue_adjusted == pytest.approx(min(2 * found[0].pvalue, 1), rel=1e-6)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_harmonic_rows_are_powers(order: int) -> None:
    angles = np.random.default_rng(12).uniform(-3, 3, 30)
    np.testing.assert_allclose(
        Harmonic(np.exp(1j * angles), order)[4:20], np.exp(1j * order * angles[4:20]), atol=1e-13
    )


def _flip(z1: np.ndarray, z2: np.ndarray, offsets: np.ndarray, null_value: float, n: int, seed: int = 0) -> float:
    pairing = true_pairing(z1, z2, offsets)
    return sign_flip_pvalue(pairing, null_value=null_value, n_resamples=n, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("null_value", [0.0, 0.03])
def test_sign_flip_against_scipy(null_value: float) -> None:
    """Of equally long documents the studentised sum rises with the plain one: scipy's test over all 2^11 signs."""
    z1, z2, offsets = _world(13, 11, 60, correlation=0.05)
    sums = true_pairing(z1, z2, offsets).excess.real / 60 - null_value
    expected = stats.permutation_test((sums,), np.mean, permutation_type="samples", n_resamples=2**11)
    assert expected.null_distribution.size == 2**11
    assert 0.01 < expected.pvalue < 0.99
    assert _flip(z1, z2, offsets, null_value, 40_000) == pytest.approx(expected.pvalue, abs=0.01)


def test_sign_flip_of_ragged_documents_against_all_signs() -> None:
    lengths = np.array([5, 40, 8, 30, 22, 9, 60, 15])
    offsets = offsets_from_lengths(lengths)
    z1, z2, _ = _world(14, 1, int(lengths.sum()), correlation=0.1)
    sums = true_pairing(z1, z2, offsets).excess.real - 0.02 * lengths

    def statistic(signed: np.ndarray) -> float:
        mean = signed.sum() / lengths.sum()
        return abs(mean) / np.sqrt(((signed - mean * lengths) ** 2).sum())

    every = [statistic(np.array(signs) * sums) for signs in product([-1, 1], repeat=lengths.size)]
    expected = np.mean(np.array(every) >= statistic(sums) * (1 - 1e-9))
    assert 0.01 < expected < 0.99
    assert _flip(z1, z2, offsets, 0.02, 40_000) == pytest.approx(expected, abs=0.01)


def test_seed() -> None:
    world = _world(15, 30, 20)
    same, again, other = (_flip(*world, 0.0, 500, seed) for seed in (1, 1, 2))
    assert same == again != other
