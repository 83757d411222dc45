from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.documents import spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.gate import COHERENCES, N_BINS, GateFitter, gate_cells, gate_losses, n_cells
from brf_exp.maths.rules import fuse
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.topk_rules import coherent_losses

N_DOCUMENTS, LENGTH, V = 200, 100, 8
OF_DOCUMENT = np.arange(N_DOCUMENTS) % 5


def _planted_coherence(cells: np.ndarray) -> np.ndarray:
    """A function of both gaps that no map from gap to phase need know: opposed where just one gap is wide."""
    wide = np.stack([cells // N_BINS, cells % N_BINS]) >= N_BINS // 2
    return np.where(wide[0] == wide[1], 0.9, -0.7)


def _world(seed: int, coherence_of=_planted_coherence) -> tuple[FusionRows, np.ndarray]:
    """Rows whose realised tokens are drawn from Born Rule Fusion with c a function of the cell, and that c."""
    rng = np.random.default_rng(seed)
    n = N_DOCUMENTS * LENGTH
    logits = rng.normal(0, 1.5, (2, n, V))
    log_p = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    best = np.sort(log_p, axis=2)
    gaps = best[:, :, -1] - best[:, :, -2]
    cells = gate_cells(gaps, [gap_distribution([row]) for row in gaps])
    coherence = coherence_of(cells)
    q = fuse("constant_coherence", log_p, coherence=coherence).p
    targets = np.argmax(np.log(np.maximum(q, 1e-300)) + rng.gumbel(size=q.shape), axis=1)
    order = np.argsort(-log_p, axis=2)
    known = known_tokens(
        list(order),
        list(np.take_along_axis(log_p, order, axis=2)),
        target_ids=targets,
        target_log_p=log_p[:, np.arange(n), targets],
        complete=True,
    )
    offsets = np.arange(0, n + 1, LENGTH)
    return FusionRows(known, gaps, gaps, gaps, gaps, gaps, offsets, cells=cells), coherence


@pytest.fixture(scope="module")
def world() -> tuple[FusionRows, np.ndarray]:
    return _world(1)


def _fit(rows: FusionRows, n_documents: int = N_DOCUMENTS) -> dict[int, np.ndarray]:
    fitter = GateFitter(OF_DOCUMENT, rows.n_models)
    for first in range(0, N_DOCUMENTS, n_documents):
        last = min(first + n_documents, N_DOCUMENTS)
        part = rows.take(np.arange(first * LENGTH, last * LENGTH))
        fitter.add(replace(part, offsets=rows.offsets[first : last + 1] - first * LENGTH), slice(first, last))
    return fitter.chosen()


def test_cells_are_quantile_bins_of_both_gaps(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, _ = world
    assert set(np.unique(rows.cells)) == set(range(36)) and n_cells(2) == 36
    for model, bins in enumerate((rows.cells // N_BINS, rows.cells % N_BINS)):
        np.testing.assert_allclose(np.bincount(bins) / rows.n, 1 / N_BINS, atol=1e-3)
        # Wider gaps are in higher bins.
        ends = [rows.gaps[model][bins == number] for number in range(N_BINS)]
        assert all(low.max() <= high.min() for low, high in zip(ends, ends[1:], strict=False))


@pytest.mark.parametrize(("n_models", "n_bins"), [(2, 6), (3, 6), (4, 4), (9, 2)])
def test_cells_of_many_models_stay_few(n_models: int, n_bins: int) -> None:
    gaps = np.random.default_rng(2).exponential(1, (n_models, 5000))
    cells = gate_cells(gaps, [gap_distribution([row]) for row in gaps])
    # 8 ** 3 = 512, whose cube root is a little below 8.
    assert n_cells(n_models) == n_bins**n_models <= 512
    assert cells.min() >= 0 and cells.max() < n_cells(n_models)
    assert np.unique(cells).size > 0.9 * n_cells(n_models)


def test_it_recovers_a_planted_function_of_the_gaps(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, planted = world
    chosen = _fit(rows)
    assert sorted(chosen) == [0, 1, 2, 3, 4]
    of_cell = _planted_coherence(np.arange(36))
    for cells in chosen.values():
        assert np.corrcoef(cells, of_cell)[0, 1] > 0.9
    gate = gate_losses(rows, chosen, OF_DOCUMENT).middle.mean()
    constants = [coherent_losses(rows.known, coherence=c).middle.mean() for c in COHERENCES]
    truth = coherent_losses(rows.known, coherence=planted).middle.mean()
    assert gate < min(constants) - 0.01
    # What 36 cells fitted on others cost is a small part of what the truth gains over the best constant.
    assert truth < gate and gate - truth < 0.25 * (min(constants) - truth)


def test_without_a_function_it_gains_nothing() -> None:
    rows, _ = _world(3, lambda cells: np.full(cells.size, 0.5))
    gate = gate_losses(rows, _fit(rows), OF_DOCUMENT).middle.mean()
    assert gate > coherent_losses(rows.known, coherence=0.5).middle.mean()


def test_every_fold_is_fitted_on_the_others(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, _ = world
    fold_of_row = spread(OF_DOCUMENT, rows.offsets)
    plain = _fit(rows)
    # Fold 2 becomes copies of one position: it counts for every fold but its own.
    copied = replace(rows.take(np.where(fold_of_row == 2, 0, np.arange(rows.n))), offsets=rows.offsets)
    other = _fit(copied)
    np.testing.assert_array_equal(plain[2], other[2])
    assert all((plain[fold] != other[fold]).any() for fold in (0, 1, 3, 4))


def test_losses_are_those_of_the_own_folds_cells(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, _ = world
    chosen = {fold: np.full(36, 0.1 * fold) for fold in range(5)}
    c = 0.1 * spread(OF_DOCUMENT, rows.offsets)
    expected = coherent_losses(rows.known, coherence=c)
    np.testing.assert_array_equal(gate_losses(rows, chosen, OF_DOCUMENT).bounds, expected.bounds)


@pytest.mark.parametrize("n_documents", [1, 33])
def test_chunks_make_no_difference(world: tuple[FusionRows, np.ndarray], n_documents: int) -> None:
    rows, _ = world
    whole, parts = _fit(rows), _fit(rows, n_documents)
    for fold, cells in whole.items():
        np.testing.assert_array_equal(parts[fold], cells)


def test_empty_cells_take_the_best_constant(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, _ = world
    chosen = _fit(replace(rows, cells=np.zeros(rows.n, dtype=np.int32)))
    fold_of_row = spread(OF_DOCUMENT, rows.offsets)
    for fold, cells in chosen.items():
        losses = [coherent_losses(rows.known, coherence=c).middle[fold_of_row != fold].sum() for c in COHERENCES]
        np.testing.assert_array_equal(cells, COHERENCES[int(np.argmin(losses))])
