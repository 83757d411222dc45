"""Excess terms and their shift moments against all circular shifts, one by one."""

from functools import partial

import numpy as np
import pytest

from brf_exp.maths import pairing
from brf_exp.maths.coherence import shift_null, shift_null_monte_carlo
from brf_exp.maths.documents import document_chunks, offsets_from_lengths
from brf_exp.maths.pairing import Pairing, pair_table, pairing_at, true_pairing
from brf_exp.maths.phases import Phasors

RAGGED = [1, 2, 3, 1, 17, 17, 4, 30, 2, 3, 3, 50, 8, 9, 17, 5, 2, 1, 30]


def _phasors(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.exp(1j * rng.gamma(2.0, 0.6, n))


def _world(seed: int, lengths: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return _phasors(rng, sum(lengths)), _phasors(rng, sum(lengths)), offsets_from_lengths(np.array(lengths))


def _deviations(z1: np.ndarray, z2: np.ndarray) -> np.ndarray:
    """Sum of z1 conj z2 at every circular shift less its mean over them: a double loop over shifts and positions."""
    n = z1.size
    by_shift = np.array([sum(z1[t] * np.conj(z2[(t - shift) % n]) for t in range(n)) for shift in range(n)])
    return by_shift - by_shift.mean()


def _moments(deviations: np.ndarray) -> np.ndarray:
    """Var Re, Var Im, Cov over all shifts."""
    re, im = deviations.real, deviations.imag
    return np.array([np.mean(re * re), np.mean(im * im), np.mean(re * im)])


def _assert_moments(found: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-5 of the total variance: the transforms are in single precision."""
    assert np.abs(found - expected).max() <= 1e-5 * expected[:2].sum() + 1e-12


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 13, 50, 101])
def test_one_document_against_all_shifts(n: int) -> None:
    z1, z2, offsets = _world(n, [n])
    found = true_pairing(z1, z2, offsets)
    deviations = _deviations(z1, z2)
    assert found.excess[0] == pytest.approx(deviations[0], abs=1e-12 * n)
    # The excess is n times the circular covariance.
    centred = (z1 - z1.mean()) * np.conj(z2 - z2.mean())
    assert found.excess[0] == pytest.approx(n * np.mean(centred), abs=1e-12 * n)
    _assert_moments(found.shift_covariance[0], _moments(deviations))


def test_the_mean_over_shifts_is_the_product_of_the_sums() -> None:
    z1, z2, _ = _world(1, [23])
    by_shift = [(z1 * np.conj(np.roll(z2, shift))).sum() for shift in range(23)]
    assert np.mean(by_shift) == pytest.approx(z1.sum() * np.conj(z2.sum()) / 23, abs=1e-12)


def test_true_pairing_of_ragged_documents() -> None:
    z1, z2, offsets = _world(2, RAGGED)
    found = true_pairing(z1, z2, offsets)
    assert found.lengths.tolist() == RAGGED and found.n == sum(RAGGED)
    for d, (start, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        row1, row2 = z1[start:stop], z2[start:stop]
        deviations = _deviations(row1, row2)
        assert found.excess[d] == pytest.approx(deviations[0], abs=1e-11)
        _assert_moments(found.shift_covariance[d], _moments(deviations))
        np.testing.assert_allclose(found.sums[:, d], [(row1 * np.conj(row2)).sum(), row1.sum(), row2.sum()], rtol=1e-12)
    assert found.mean == pytest.approx((z1 * np.conj(z2)).mean(), abs=1e-14)
    assert found.independent_length == pytest.approx(abs(z1.mean()) * abs(z2.mean()))
    assert found.kappa == pytest.approx(found.excess.real.sum() / sum(RAGGED))


@pytest.mark.parametrize("n_rows", [1, 7, 40, 100])
def test_true_pairing_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    rng = np.random.default_rng(3)
    offsets = offsets_from_lengths(np.array(RAGGED))
    z1, z2 = (Phasors("arctan", rng.gamma(1, 2, sum(RAGGED)), 1.5) for _ in range(2))
    whole = true_pairing(z1, z2, offsets)
    monkeypatch.setattr(pairing, "document_chunks", partial(document_chunks, n_rows=n_rows))
    cut = true_pairing(z1, z2, offsets)
    np.testing.assert_allclose(cut.excess, whole.excess, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(cut.sums, whole.sums, rtol=1e-13)
    np.testing.assert_allclose(cut.shift_covariance, whole.shift_covariance, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cut.lengths, whole.lengths)


@pytest.mark.parametrize("lengths", [RAGGED, [12] * 20, [1, 1, 2], [3, 40]])
def test_pair_table_against_all_shifts_of_all_cropped_pairs(lengths: list[int]) -> None:
    """Every entry of the table, and no pair of a length block is missing from it."""
    z1, z2, offsets = _world(4, lengths)
    table = pair_table(z1, z2, offsets)
    seen = set()
    for d in range(len(lengths)):
        for p, e in enumerate(table.partners[d].tolist()):
            if e < 0:
                assert table.lengths[d, p] == 0 and table.excess[d, p] == 0
                continue
            seen.add((d, e))
            n = min(lengths[d], lengths[e])
            assert table.lengths[d, p] == n
            deviations = _deviations(z1[offsets[d] : offsets[d] + n], z2[offsets[e] : offsets[e] + n])
            assert table.excess[d, p] == pytest.approx(deviations[0], abs=1e-11)
            _assert_moments(table.shift_covariance[d, p], _moments(deviations))
    assert seen == {(int(d), int(e)) for block in table.blocks for d in block for e in block}


def test_the_first_column_is_the_true_pairing() -> None:
    z1, z2, offsets = _world(5, RAGGED)
    table, expected = pair_table(z1, z2, offsets), true_pairing(z1, z2, offsets)
    found = pairing_at(table, np.zeros(len(RAGGED), dtype=np.int8))
    np.testing.assert_array_equal(table.partners[:, 0], np.arange(len(RAGGED)))
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_allclose(found.excess, expected.excess, atol=1e-12)
    np.testing.assert_allclose(found.shift_covariance, expected.shift_covariance, rtol=1e-5, atol=1e-6)


def test_shift_moments_can_be_left_out() -> None:
    z1, z2, offsets = _world(6, RAGGED)
    with_moments, without = (pair_table(z1, z2, offsets, shift_moments=kept) for kept in (True, False))
    assert without.shift_covariance is None
    np.testing.assert_array_equal(without.excess, with_moments.excess)


@pytest.mark.parametrize("amplitude", [1.0, 1e-2, 1e-4])
def test_single_precision_is_enough_where_phases_hardly_vary(amplitude: float) -> None:
    """The mean is taken off before anything is rounded, so the error is relative to what varies."""
    rng = np.random.default_rng(7)
    lengths = [400, 300, 400]
    z1, z2 = (np.exp(1j * (1.3 + amplitude * rng.standard_normal(sum(lengths)))) for _ in range(2))
    offsets = offsets_from_lengths(np.array(lengths))
    true, table = true_pairing(z1, z2, offsets), pair_table(z1, z2, offsets)
    for d, (start, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        rows = z1[start:stop], z2[start:stop]
        spectra = [np.fft.fft(row - row.mean()) for row in rows]
        expected = _moments(np.fft.ifft(spectra[0] * np.conj(spectra[1])))
        for found in (true.shift_covariance[d], table.shift_covariance[d, 0]):
            assert np.abs(found - expected).max() < 1e-5 * expected[:2].sum()


def test_closed_form_is_the_quadratic_form_of_all_shifts() -> None:
    lengths = [7, 12, 31]
    z1, z2, offsets = _world(8, lengths)
    total, covariance = 0j, np.zeros((2, 2))
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        deviations = _deviations(z1[start:stop], z2[start:stop])
        total += deviations[0]
        covariance += np.cov(deviations.real, deviations.imag, bias=True)
    point = np.array([total.real, total.imag])
    q = point @ np.linalg.inv(covariance) @ point
    found = shift_null(true_pairing(z1, z2, offsets))
    assert found.df == 2
    assert found.statistic == pytest.approx(q, rel=1e-5)
    assert found.pvalue == pytest.approx(np.exp(-q / 2), rel=1e-5)


def _exact(seed: int, lengths: list[int]) -> tuple[Pairing, np.ndarray]:
    """A pairing, and the sums that all combinations of shifts of its three documents give, less the mean."""
    z1, z2, offsets = _world(seed, lengths)
    parts = [_deviations(z1[a:b], z2[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    sums = parts[0][:, None, None] + parts[1][:, None] + parts[2]
    return true_pairing(z1, z2, offsets), sums.ravel()


@pytest.mark.parametrize("seed", range(4))
def test_closed_form_against_every_combination_of_shifts(seed: int) -> None:
    """Three documents, 20 x 24 x 28 combinations: the chi-squared tail is near the share that is as far out."""
    found, sums = _exact(seed, [20, 24, 28])
    np.testing.assert_allclose(_moments(sums), found.shift_covariance.sum(axis=0), rtol=1e-5, atol=1e-4)
    variance_re, variance_im, covariance = found.shift_covariance.sum(axis=0)
    inverse = np.linalg.inv(np.array([[variance_re, covariance], [covariance, variance_im]]))
    points = np.column_stack([sums.real, sums.imag])
    q = np.einsum("ni,ij,nj->n", points, inverse, points)
    null = shift_null(found)
    assert null.pvalue == pytest.approx((q >= null.statistic * (1 - 1e-9)).mean(), abs=0.06)


def test_closed_form_against_monte_carlo() -> None:
    rng = np.random.default_rng(6)
    offsets = np.arange(0, 20 * 60 + 1, 60)
    z1, z2 = _phasors(rng, 1200), _phasors(rng, 1200)
    exact = shift_null(true_pairing(z1, z2, offsets)).pvalue
    drawn = shift_null_monte_carlo(z1, z2, offsets, n=4000, rng=rng)
    assert 0.01 < exact < 0.99
    assert drawn == pytest.approx(exact, abs=0.03)
