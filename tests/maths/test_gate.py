from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.documents import spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.gate import (
    COHERENCES,
    N_BINS,
    SHRINKAGE,
    FittedGate,
    GateFitter,
    gate_cells,
    n_cells,
    score_gate,
    tuned_gate,
)
from brf_exp.maths.rules import fuse
from brf_exp.maths.specs import N_WEIGHTS, weight_choices
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.topk_rules import coherent_losses
from brf_exp.maths.tuning import ScoredRule, split_by_fold

N_DOCUMENTS, LENGTH, V = 200, 100, 8
OF_DOCUMENT = np.arange(N_DOCUMENTS) % 5


def _planted_coherence(cells: np.ndarray) -> np.ndarray:
    """A function of both gaps that no map from gap to phase need know: opposed where just one gap is wide."""
    wide = np.stack([cells // N_BINS, cells % N_BINS]) >= N_BINS // 2
    return np.where(wide[0] == wide[1], 0.9, -0.7)


def _known(log_p: np.ndarray, targets: np.ndarray) -> KnownTokens:
    order = np.argsort(-log_p, axis=2)
    return known_tokens(
        list(order),
        list(np.take_along_axis(log_p, order, axis=2)),
        target_ids=targets,
        target_log_p=log_p[:, np.arange(targets.size), targets],
        complete=True,
    )


def _world(
    seed: int, coherence_of=_planted_coherence, weight: float = 0.5, temperature: float = 1.0
) -> tuple[FusionRows, np.ndarray]:
    """Rows whose realised tokens are drawn from Born Rule Fusion with c a function of the cell, and that c."""
    rng = np.random.default_rng(seed)
    n = N_DOCUMENTS * LENGTH
    logits = rng.normal(0, 1.5, (2, n, V))
    log_p = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    best = np.sort(log_p, axis=2)
    gaps = best[:, :, -1] - best[:, :, -2]
    cells = gate_cells(gaps, [gap_distribution([row]) for row in gaps])
    coherence = coherence_of(cells)
    tempered = logits / temperature
    tempered -= np.logaddexp.reduce(tempered, axis=2, keepdims=True)
    weights = np.array([weight, 1 - weight])
    q = fuse("constant_coherence", tempered, weights=weights, coherence=coherence).p
    targets = np.argmax(np.log(np.maximum(q, 1e-300)) + rng.gumbel(size=q.shape), axis=1)
    offsets = np.arange(0, n + 1, LENGTH)
    others = {temperature: _known(tempered, targets)}
    rows = FusionRows(
        _known(log_p, targets), gaps, gaps, gaps, gaps, gaps, offsets, cells=cells, at_temperatures=others
    )
    return rows, coherence


@pytest.fixture(scope="module")
def world() -> tuple[FusionRows, np.ndarray]:
    return _world(1)


def _fit(
    rows: FusionRows, n_documents: int = N_DOCUMENTS, temperatures: tuple[float, ...] = (1.0,)
) -> dict[int, FittedGate]:
    fitter = GateFitter(OF_DOCUMENT, rows.n_models, temperatures)
    for first in range(0, N_DOCUMENTS, n_documents):
        last = min(first + n_documents, N_DOCUMENTS)
        part = rows.take(np.arange(first * LENGTH, last * LENGTH))
        fitter.add(replace(part, offsets=rows.offsets[first : last + 1] - first * LENGTH), slice(first, last))
    return fitter.chosen()


def _scored(rows: FusionRows, fitted: dict[int, FittedGate]) -> ScoredRule:
    return score_gate(tuned_gate(fitted), fitted, rows, OF_DOCUMENT)


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
    fitted = _fit(rows)
    assert sorted(fitted) == [0, 1, 2, 3, 4]
    of_cell = _planted_coherence(np.arange(36))
    for gate in fitted.values():
        assert gate.parameters == {"weight": 0.5}
        assert np.corrcoef(gate.coherences, of_cell)[0, 1] > 0.9
    losses = _scored(rows, fitted).losses.middle.mean()
    constants = [coherent_losses(rows.known, coherence=c).middle.mean() for c in COHERENCES]
    truth = coherent_losses(rows.known, coherence=planted).middle.mean()
    assert losses < min(constants) - 0.01
    # What 36 cells fitted on others cost is a small part of what the truth gains over the best constant.
    assert truth < losses and losses - truth < 0.25 * (min(constants) - truth)


@pytest.mark.parametrize(("place", "temperature"), [(4, 0.5), (13, 2.0)])
def test_it_recovers_weight_and_temperature(place: int, temperature: float) -> None:
    weight = weight_choices(2, N_WEIGHTS)[place]
    assert isinstance(weight, float)
    rows, planted = _world(4, weight=weight, temperature=temperature)
    fitted = _fit(rows, temperatures=(1.0, temperature))
    assert [gate.parameters for gate in fitted.values()] == [{"weight": weight, "temperature": temperature}] * 5
    found = _scored(rows, fitted)
    assert found.tuned.listed == [gate.parameters for gate in fitted.values()]
    plain = _scored(rows, _fit(rows)).losses.middle.mean()
    truth = coherent_losses(rows.known_at(temperature), coherence=planted, weight=weight).middle.mean()
    assert truth < found.losses.middle.mean() < plain - 0.01


def test_the_choice_is_the_least_total_of_the_other_folds(world: tuple[FusionRows, np.ndarray]) -> None:
    """By brute force: every weight, in every cell the coherence that loses least there, shrunk to the best constant."""
    rows, _ = world
    fold_of_row = spread(OF_DOCUMENT, rows.offsets)
    weights = weight_choices(2, N_WEIGHTS)
    losses = np.array(
        [[coherent_losses(rows.known, coherence=c, weight=w).middle for c in COHERENCES] for w in weights]
    )
    for fold, gate in _fit(rows).items():
        kept = fold_of_row != fold
        found = []
        for of_weight in losses:
            overall = of_weight[:, kept].mean(axis=1)
            sums = [of_weight[:, kept & (rows.cells == cell)].sum(axis=1) for cell in range(36)]
            best = [int(np.argmin(of_cell + SHRINKAGE * overall)) for of_cell in sums]
            total = sum(of_cell[place] for of_cell, place in zip(sums, best, strict=True))
            found.append((total, [COHERENCES[place] for place in best]))
        weight = int(np.argmin([total for total, _ in found]))
        assert gate.parameters == {"weight": weights[weight]}
        np.testing.assert_array_equal(gate.coherences, found[weight][1])


def test_without_a_function_it_gains_nothing() -> None:
    rows, _ = _world(3, lambda cells: np.full(cells.size, 0.5))
    assert _scored(rows, _fit(rows)).losses.middle.mean() > coherent_losses(rows.known, coherence=0.5).middle.mean()


def test_every_fold_is_fitted_on_the_others(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, _ = world
    fold_of_row = spread(OF_DOCUMENT, rows.offsets)
    plain = _fit(rows)
    # Fold 2 becomes copies of one position: it counts for every fold but its own.
    copied = replace(rows.take(np.where(fold_of_row == 2, 0, np.arange(rows.n))), offsets=rows.offsets)
    other = _fit(copied)
    np.testing.assert_array_equal(plain[2].coherences, other[2].coherences)
    assert plain[2].parameters == other[2].parameters
    assert all((plain[fold].coherences != other[fold].coherences).any() for fold in (0, 1, 3, 4))


def test_scores_are_those_of_the_own_folds_gate() -> None:
    rows, _ = _world(4, weight=0.3, temperature=0.5)
    fitted = {
        fold: FittedGate({"weight": 0.1 + 0.2 * fold, "temperature": (1.0, 0.5)[fold % 2]}, np.full(36, 0.1 * fold))
        for fold in range(5)
    }
    found = _scored(rows, fitted)
    fold_of_row = spread(OF_DOCUMENT, rows.offsets)
    np.testing.assert_array_equal(found.coherence, 0.1 * fold_of_row[None])
    for fold, gate in fitted.items():
        mine, known = fold_of_row == fold, rows.known_at(gate.parameters["temperature"])
        expected = coherent_losses(known, coherence=0.1 * fold, weight=gate.parameters["weight"])
        np.testing.assert_array_equal(found.losses.bounds[:, mine], expected.bounds[:, mine])
        np.testing.assert_array_equal(found.losses.overlaps[..., mine], known.overlaps[..., mine])
    # What collectors ask of every rule.
    assert found.spec.rule == "brf" and found.spec.phases is None
    parts = split_by_fold(rows, OF_DOCUMENT)
    shared = score_gate(found.tuned, fitted, rows, OF_DOCUMENT, parts)
    np.testing.assert_array_equal(shared.losses.bounds, found.losses.bounds)
    for (chosen, part, given), (fold, (mine, its)) in zip(shared.pieces(rows), parts.items(), strict=True):
        assert given == fitted[fold].parameters and part is its
        np.testing.assert_array_equal(chosen, mine)


@pytest.mark.parametrize("n_documents", [1, 33])
def test_chunks_make_no_difference(world: tuple[FusionRows, np.ndarray], n_documents: int) -> None:
    rows, _ = world
    whole, parts = GateFitter(OF_DOCUMENT, 2), GateFitter(OF_DOCUMENT, 2)
    whole.add(rows, slice(0, N_DOCUMENTS))
    for first in range(0, N_DOCUMENTS, n_documents):
        last = min(first + n_documents, N_DOCUMENTS)
        part = rows.take(np.arange(first * LENGTH, last * LENGTH))
        parts.add(replace(part, offsets=rows.offsets[first : last + 1] - first * LENGTH), slice(first, last))
    # To the last digit, so that no tie can break the other way.
    np.testing.assert_array_equal(parts._sums, whole._sums)
    np.testing.assert_array_equal(parts._counts, whole._counts)
    for fold, gate in whole.chosen().items():
        np.testing.assert_array_equal(parts.chosen()[fold].coherences, gate.coherences)


def test_empty_cells_take_the_best_constant(world: tuple[FusionRows, np.ndarray]) -> None:
    rows, _ = world
    fitted = _fit(replace(rows, cells=np.zeros(rows.n, dtype=np.int32)))
    fold_of_row = spread(OF_DOCUMENT, rows.offsets)
    for fold, gate in fitted.items():
        losses = [
            coherent_losses(rows.known, coherence=c, weight=gate.parameters["weight"]).middle[fold_of_row != fold].sum()
            for c in COHERENCES
        ]
        np.testing.assert_array_equal(gate.coherences, COHERENCES[int(np.argmin(losses))])


def test_three_models_have_one_coherence_for_all_pairs(three_models: FusionRows) -> None:
    fitter = GateFitter(np.arange(20) % 5, 3)
    fitter.add(three_models, slice(0, 20))
    fitted = fitter.chosen()
    found = score_gate(tuned_gate(fitted), fitted, three_models, np.arange(20) % 5)
    assert found.coherence.shape == (3, three_models.n)
    np.testing.assert_array_equal(found.coherence, np.broadcast_to(found.coherence[:1], found.coherence.shape))
    assert all(len(parameters["weight"]) == 3 for parameters in found.tuned.listed)
