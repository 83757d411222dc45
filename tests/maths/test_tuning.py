from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths.documents import document_sums, spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import (
    CANDIDATE,
    RIVAL,
    SCALE_FACTORS,
    Parameters,
    RuleSpec,
    at_temperatures,
    brf_spec,
    control_specs,
    phase_free_specs,
    together,
    untuned_specs,
)
from brf_exp.maths.topk_rules import RuleLosses, coherent_losses, linear_losses
from brf_exp.maths.tuning import (
    Folds,
    ScoredRule,
    TunedRule,
    Tuner,
    candidate_sums,
    candidates_of,
    score,
    split_by_fold,
    untuned,
)

BRF = brf_spec("brf", "arctan", None, role=CANDIDATE, n_models=2, default_scale=1.0)
PHASE_FREE = {spec.name: spec for spec in phase_free_specs(2)}


def chunks_of(rows: FusionRows, n_documents: int) -> list[tuple[slice, FusionRows]]:
    """The rows cut into chunks of so many documents."""
    found = []
    for first in range(0, rows.offsets.size - 1, n_documents):
        last = min(first + n_documents, rows.offsets.size - 1)
        start, stop = rows.offsets[[first, last]]
        part = rows.take(np.arange(start, stop))
        found.append((slice(first, last), replace(part, offsets=rows.offsets[first : last + 1] - start)))
    return found


def tune(specs: list[RuleSpec], rows: FusionRows, folds: Folds, n_documents: int = 20) -> dict[str, TunedRule]:
    tuner = Tuner(specs, folds)
    for documents, chunk in chunks_of(rows, n_documents):
        tuner.add(chunk, documents)
    return tuner.chosen()


def tuned_score(spec: RuleSpec, rows: FusionRows, folds: Folds) -> ScoredRule:
    return score(tune([spec], rows, folds)[spec.name], rows, folds.of_document)


def _spec(losses: Callable[[FusionRows, Mapping[str, float]], np.ndarray], candidates: list[float]) -> RuleSpec:
    """A rule of one parameter `a` whose loss is made up."""

    def points(r: FusionRows, parameters: Mapping[str, float]) -> RuleLosses:
        values = losses(r, parameters)
        return RuleLosses(np.stack([values, values]), None, np.zeros(r.n, dtype=bool))

    return RuleSpec("made up", RIVAL, None, points, {"a": -1.0}, tuple({"a": a} for a in candidates))


def _specialists(rows: FusionRows, folds: Folds, candidates: list[float]) -> tuple[RuleSpec, FusionRows]:
    """Candidate j loses nothing on fold j and 1.1 elsewhere; candidate -1 loses 1 everywhere. Cells say the fold."""
    marked = replace(rows, cells=spread(folds.of_document, rows.offsets))

    def losses(r: FusionRows, parameters: Mapping[str, float]) -> np.ndarray:
        return np.where(r.cells == parameters["a"], 0.0, 1.1) if parameters["a"] >= 0 else np.ones(r.n)

    return _spec(losses, candidates), marked


def test_cross_fitting_leaves_the_own_fold_out(rows: FusionRows, folds: Folds) -> None:
    """Tuned on all documents the specialist of fold 0 wins (4.4 against 5); on the others it loses (4.4 against 4)."""
    spec, marked = _specialists(rows, folds, [-1.0, 0.0])
    found = tuned_score(spec, marked, folds)
    assert [p["a"] for p in found.tuned.listed] == [-1, 0, 0, 0, 0]
    np.testing.assert_allclose(found.losses.middle, np.where(marked.cells == 0, 1.0, 1.1))


def test_overfitting_shows_as_a_loss(rows: FusionRows, folds: Folds) -> None:
    """With a specialist for every fold each fold is scored by another fold's: worse than doing nothing."""
    spec, marked = _specialists(rows, folds, [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    found = tuned_score(spec, marked, folds)
    assert all(p["a"] not in (-1, fold) for fold, p in enumerate(found.tuned.listed))
    assert found.losses.middle.min() == 1.1


def test_a_folds_own_losses_change_nothing_of_its_parameters(rows: FusionRows, folds: Folds) -> None:
    inside = spread(folds.of_document, rows.offsets) == 2
    spoilt = rows.take(np.where(inside, 0, np.arange(rows.n)))
    spoilt = replace(spoilt, offsets=rows.offsets)
    specs = [BRF, *phase_free_specs(2)]
    plain, other = tune(specs, rows, folds), tune(specs, spoilt, folds)
    assert all(plain[name].parameters[2] == other[name].parameters[2] for name in plain)
    assert any(plain[name].parameters[0] != other[name].parameters[0] for name in plain)


def test_best_on_the_other_folds_is_chosen(rows: FusionRows, folds: Folds) -> None:
    spec = PHASE_FREE["linear"]
    found = tuned_score(spec, rows, folds)
    fold_of_row = spread(folds.of_document, rows.offsets)
    for fold, parameters in enumerate(found.tuned.listed):
        outside = fold_of_row != fold
        totals = [linear_losses(rows.known, weight=p["weight"]).middle[outside].sum() for p in spec.candidates]
        assert parameters == spec.candidates[int(np.argmin(totals))]
        mine = linear_losses(rows.known, weight=parameters["weight"]).middle
        np.testing.assert_allclose(found.losses.middle[~outside], mine[~outside])


def test_the_scale_is_that_of_the_other_folds(rows: FusionRows, folds: Folds) -> None:
    scales = {fold: 0.5 + fold for fold in range(5)}
    found = tuned_score(BRF, rows, replace(folds, scales=scales))
    for fold, parameters in found.tuned.parameters.items():
        assert set(parameters) == {"scale", "weight"}
        assert parameters["scale"] / scales[fold] in SCALE_FACTORS
        wanted = [candidate_sums(BRF, rows, p) for p in candidates_of(BRF, scales[fold])]
        totals = [sums[folds.of_document != fold].sum() for sums in wanted]
        assert parameters == candidates_of(BRF, scales[fold])[int(np.argmin(totals))]


@pytest.mark.parametrize("n_documents", [1, 3, 7])
def test_how_rows_are_cut_makes_no_difference(tempered_rows: FusionRows, folds: Folds, n_documents: int) -> None:
    rows, temperatures = tempered_rows, (1.0, 0.5, 2.0)
    specs = [BRF, *phase_free_specs(2), *control_specs("arctan", None, n_models=2, default_scale=1.0)]
    specs = [at_temperatures(spec, temperatures) for spec in specs if spec.name not in ("product", "contrastive")]
    whole = tune(specs, rows, folds)
    parts = tune(specs, rows, folds, n_documents)
    assert {name: t.parameters for name, t in parts.items()} == {name: t.parameters for name, t in whole.items()}
    for tuned in whole.values():
        once = score(tuned, rows, folds.of_document)
        chunks = [score(tuned, chunk, folds.of_document[d]) for d, chunk in chunks_of(rows, n_documents)]
        sums = [
            document_sums(made.losses.bounds.T, chunk.offsets)
            for made, (_, chunk) in zip(chunks, chunks_of(rows, n_documents), strict=True)
        ]
        np.testing.assert_allclose(np.vstack(sums), document_sums(once.losses.bounds.T, rows.offsets), rtol=1e-12)
        np.testing.assert_array_equal(np.concatenate([m.losses.undefined for m in chunks]), once.losses.undefined)
        if once.coherence is not None:
            np.testing.assert_array_equal(np.hstack([m.coherence for m in chunks]), once.coherence)


def test_threads_make_no_difference(rows: FusionRows, folds: Folds) -> None:
    specs = [BRF, *phase_free_specs(2)]
    tuner = Tuner(specs, folds)
    with ThreadPoolExecutor(4) as pool:
        tuner.add(rows, slice(0, 20), pool.map)
    expected = tune(specs, rows, folds)
    assert {n: t.parameters for n, t in tuner.chosen().items()} == {n: t.parameters for n, t in expected.items()}


def test_scored_coherence_is_what_was_scored(rows: FusionRows, folds: Folds) -> None:
    found = tuned_score(BRF, rows, folds)
    assert found.coherence is not None and found.coherence.shape == (1, rows.n)
    seen = []
    for mine, parameters in found.parts(rows):
        phi = 2 * np.arctan(rows.gaps[:, mine] / parameters["scale"])
        np.testing.assert_allclose(found.coherence[0, mine], np.cos(phi[0] - phi[1]))
        losses = coherent_losses(rows.known.take(mine), coherence=np.cos(phi[0] - phi[1]), weight=parameters["weight"])
        np.testing.assert_allclose(found.losses.bounds[:, mine], losses.bounds)
        seen.extend(mine.tolist())
    assert sorted(seen) == list(range(rows.n))
    assert tuned_score(PHASE_FREE["linear"], rows, folds).coherence is None


def test_untuned_rules_use_their_defaults(rows: FusionRows) -> None:
    spec = brf_spec("brf", "arctan", 2.5, role=CANDIDATE, n_models=2, default_scale=1.0)
    found = score(untuned(spec), rows, None)
    assert found.tuned.listed == [{"weight": 0.5, "scale": 2.5}]
    phi = 2 * np.arctan(rows.gaps / 2.5)
    expected = coherent_losses(rows.known, coherence=np.cos(phi[0] - phi[1]))
    np.testing.assert_allclose(found.losses.bounds, expected.bounds)
    np.testing.assert_allclose(found.coherence[0], np.cos(phi[0] - phi[1]))
    ((everything, parameters),) = found.parts(rows)
    assert everything.size == rows.n and parameters == found.tuned.listed[0]


def test_rules_that_are_not_tuned_are_not_collected(rows: FusionRows, folds: Folds) -> None:
    specs = [*untuned_specs(2, has_entropies=True), PHASE_FREE["linear"]]
    assert set(tune(specs, rows, folds)) == {"linear"}


def _open_or_undefined(kind: str) -> RuleSpec:
    """Candidate 0 is the best by far, but for one position without a normaliser or without a bound."""

    def losses(r: FusionRows, parameters: Mapping[str, float]) -> RuleLosses:
        bounds, undefined = np.full((2, r.n), float(parameters["a"])), np.zeros(r.n, dtype=bool)
        if parameters["a"] == 0:
            undefined[3 % r.n] = kind == "undefined"
            bounds[1, 3 % r.n] = np.inf if kind == "open" else 0.0
        return RuleLosses(bounds, None, undefined)

    return RuleSpec("x", RIVAL, None, losses, {"a": 0.0}, ({"a": 0.0}, {"a": 2.0}, {"a": 1.0}))


@pytest.mark.parametrize("kind", ["undefined", "open"])
def test_undefined_and_unbounded_candidates_are_never_chosen(rows: FusionRows, folds: Folds, kind: str) -> None:
    for n_documents in (20, 3):
        found = tune([_open_or_undefined(kind)], rows, folds, n_documents)["x"]
        assert [p["a"] for p in found.listed] == [1.0] * 5


def test_rules_of_one_unknown_keep_it_across_folds(truncated_rows: FusionRows, folds: Folds) -> None:
    kept = tuned_score(PHASE_FREE["constant_coherence"], truncated_rows, folds)
    assert kept.losses.coefficients is not None
    np.testing.assert_array_equal(kept.losses.overlaps, truncated_rows.known.overlaps)
    ends = kept.losses.at(truncated_rows.known.overlap[:, None])
    np.testing.assert_allclose(np.sort(ends, axis=0), kept.losses.bounds, atol=1e-12)
    open_ended = tuned_score(PHASE_FREE["product"], truncated_rows, folds).losses
    assert open_ended.coefficients is None and open_ended.overlaps is None


def test_the_overlap_is_that_of_each_folds_temperature(tempered_rows: FusionRows, folds: Folds) -> None:
    rows = tempered_rows
    parameters: dict[int, Parameters] = {
        fold: {"coherence": 0.5, "weight": 0.5, "temperature": t} for fold, t in enumerate((1.0, 0.5, 2.0, 1.0, 2.0))
    }
    found = score(TunedRule(PHASE_FREE["constant_coherence"], parameters), rows, folds.of_document)
    fold_of_row = spread(folds.of_document, rows.offsets)
    for fold, given in parameters.items():
        mine, known = fold_of_row == fold, rows.known_at(given["temperature"])
        np.testing.assert_array_equal(found.losses.overlaps[..., mine], known.overlaps[..., mine])
        expected = coherent_losses(known, coherence=0.5).bounds[:, mine]
        np.testing.assert_array_equal(found.losses.bounds[:, mine], expected)


def test_three_models_are_tuned_over_the_simplex(three_models: FusionRows, folds: Folds) -> None:
    spec = brf_spec("brf", "tanh", None, role=CANDIDATE, n_models=3, default_scale=1.0)
    found = tuned_score(spec, three_models, folds)
    assert found.coherence.shape == (3, three_models.n)
    for parameters in found.tuned.listed:
        assert len(parameters["weight"]) == 3 and sum(parameters["weight"]) == pytest.approx(1)
    assert found.losses.coefficients.shape == (6, three_models.n)


ALL_SPECS = [
    BRF,
    brf_spec("brf_tokens", "tanh", None, role=CANDIDATE, n_models=2, default_scale=1.0, scope="token"),
    *phase_free_specs(2, complete=True),
]


@pytest.mark.parametrize("spec", ALL_SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("k", [3, 6])
def test_candidates_are_tuned_as_they_are_scored(spec: RuleSpec, k: int, rows_of: Callable[..., FusionRows]) -> None:
    """Many at once, in blocks, give what one at a time gives."""
    rows = rows_of(k=k, temperatures=(2.0,))
    spec = at_temperatures(spec, (1.0, 2.0))
    folds = Folds(np.arange(20) % 2, {0: 0.7, 1: 1.9})
    tuner = Tuner([spec], folds)
    tuner.add(rows, slice(0, 20))
    for (_, fold), sums in tuner._sums.items():
        candidates = candidates_of(spec, folds.scales.get(fold))
        alone = np.column_stack([candidate_sums(spec, rows, parameters) for parameters in candidates])
        np.testing.assert_allclose(sums, alone, rtol=1e-12)


def test_neighbours_that_differ_in_one_parameter_are_scored_together() -> None:
    candidates = [{"order": r, "weight": w} for r in (0.5, 2.0) for w in (0.1, 0.7, 0.9)]
    groups = together(candidates, "weight", 2)
    assert [places for places, _ in groups] == [slice(0, 3), slice(3, 6)]
    assert [given["order"] for _, given in groups] == [0.5, 2.0]
    np.testing.assert_allclose(groups[1][1]["weight"], [[0.1, 0.9], [0.7, 0.3], [0.9, 0.1]])
    ((places, given),) = together([{"exponent": 1.0}, {"exponent": 1.5}], "exponent", 3)
    assert places == slice(0, 2) and given["exponent"].tolist() == [1.0, 1.5]
    alone = together(candidates, None, 2)
    assert [given for _, given in alone] == candidates and alone[5][0] == slice(5, 6)


@pytest.mark.parametrize("n_documents", [1, 7])
def test_chunks_change_no_digit_of_what_is_tuned(truncated_rows: FusionRows, folds: Folds, n_documents: int) -> None:
    specs = [BRF, *phase_free_specs(2)]
    whole, parts = Tuner(specs, folds), Tuner(specs, folds)
    whole.add(truncated_rows, slice(0, 20))
    for documents, chunk in chunks_of(truncated_rows, n_documents):
        parts.add(chunk, documents)
    for key, sums in whole._sums.items():
        np.testing.assert_array_equal(parts._sums[key], sums)


def test_pieces_are_the_rows_of_each_fold(tempered_rows: FusionRows, folds: Folds) -> None:
    rows = tempered_rows
    tuned = tune([PHASE_FREE["linear"]], rows, folds)["linear"]
    parts = split_by_fold(rows, folds.of_document)
    shared, own = score(tuned, rows, folds.of_document, parts), score(tuned, rows, folds.of_document)
    np.testing.assert_array_equal(shared.losses.bounds, own.losses.bounds)
    of_rows = list(own.parts(rows))
    for made in (shared, own):
        for (chosen, part, given), (mine, expected) in zip(made.pieces(rows), of_rows, strict=True):
            np.testing.assert_array_equal(chosen, mine)
            np.testing.assert_array_equal(part.known_at(0.5).shared, rows.known_at(0.5).shared[:, mine])
            assert given == expected
    (everything,) = score(untuned(PHASE_FREE["linear"]), rows, None).pieces(rows)
    assert everything[1] is rows and everything[0].size == rows.n
