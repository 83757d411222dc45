from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths import tuning
from brf_exp.maths.phases import MAPS
from brf_exp.maths.topk_rules import RuleLosses, coherent_losses, linear_losses
from brf_exp.maths.tuning import BUDGET, PairRows, RuleSpec, brf_spec, grid, score, scored_coherence

FOLDS = np.arange(20) % 5


def _all_specs(rows: PairRows) -> list[RuleSpec]:
    specs = [
        brf_spec("brf", "arctan", None, role="candidate", default_scale=1.0),
        *tuning.phase_free_specs(),
        *tuning.untuned_specs(rows),
    ]
    specs += tuning.control_specs("arctan", None, default_scale=1.0)
    return specs + [
        brf_spec(f"brf_{name}", name, None, role="other_map", default_scale=1.0) for name in (*MAPS, "table")
    ]


def test_every_tuned_rule_has_the_same_budget(rows: PairRows) -> None:
    specs = _all_specs(rows)
    tuned = {spec.name: len(spec.candidates) for spec in specs if spec.candidates}
    assert set(tuned.values()) == {BUDGET}
    fixed = {spec.name for spec in specs if not spec.candidates}
    assert fixed == {"model_a", "model_b", "route_max_prob", "route_gap", "route_entropy", "oracle"}
    for spec in specs:
        assert len({tuple(sorted(p.items())) for p in spec.candidates}) == len(spec.candidates), spec.name


def test_roles(rows: PairRows) -> None:
    roles = {spec.name: spec.role for spec in _all_specs(rows)}
    assert roles["oracle"] == "oracle" and roles["model_a"] == roles["model_b"] == "model"
    rivals = {name for name, role in roles.items() if role == "rival"}
    assert rivals == {
        *("linear", "log_linear", "power_mean", "lin_log_mixture", "constant_coherence", "product"),
        *("route_max_prob", "route_gap", "route_entropy", "brf_zero", "brf_flipped", "brf_uniform", "brf_shifted"),
    }
    without = {spec.name for spec in tuning.untuned_specs(replace(rows, entropies=None))}
    assert "route_entropy" not in without


def test_a_grid_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^every rule is tuned with 35 candidates, got 6 for \['weight', 'order'\]$"):
        grid(weight=(0.1, 0.2), order=(1.0, 2.0, 3.0))


def _specialist(rows: PairRows, alone: bool) -> RuleSpec:
    """Candidate j loses nothing on fold j and 1.1 elsewhere; the plain candidate loses 1 everywhere."""
    fold_of_row = np.repeat(FOLDS, np.diff(rows.offsets))

    def losses(r: PairRows, parameters: dict[str, float]) -> RuleLosses:
        own = fold_of_row == parameters["fold"]
        values = np.where(own, 0.0, 1.1) if parameters["fold"] >= 0 else np.ones(own.size)
        return RuleLosses(np.stack([values, values]), None, np.zeros(own.size, dtype=bool))

    folds = [-1.0, 0.0] if alone else [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    return RuleSpec("specialist", "rival", losses, {"fold": -1.0}, tuple({"fold": fold} for fold in folds))


def test_cross_fitting_leaves_the_own_fold_out(rows: PairRows) -> None:
    """Tuned on all documents the specialist of fold 0 wins (4.4 against 5); on the others it loses (4.4 against 4)."""
    found = score(_specialist(rows, alone=True), rows, folds=FOLDS)
    assert [p["fold"] for p in found.parameters] == [-1, 0, 0, 0, 0]
    fold_of_row = np.repeat(FOLDS, np.diff(rows.offsets))
    np.testing.assert_allclose(found.losses.middle, np.where(fold_of_row == 0, 1.0, 1.1))


def test_overfitting_shows_as_a_loss(rows: PairRows) -> None:
    """With a specialist for every fold each fold is scored by another fold's: worse than doing nothing."""
    found = score(_specialist(rows, alone=False), rows, folds=FOLDS)
    assert all(p["fold"] not in (-1, fold) for fold, p in enumerate(found.parameters))
    assert found.losses.middle.min() == 1.1


def test_best_on_the_other_folds_is_chosen(rows: PairRows) -> None:
    spec = next(spec for spec in tuning.phase_free_specs() if spec.name == "linear")
    found = score(spec, rows, folds=FOLDS)
    fold_of_row = np.repeat(FOLDS, np.diff(rows.offsets))
    for fold, parameters in enumerate(found.parameters):
        outside = fold_of_row != fold
        totals = [linear_losses(rows.known, weight=p["weight"]).middle[outside].sum() for p in spec.candidates]
        assert parameters == spec.candidates[int(np.argmin(totals))]
        mine = linear_losses(rows.known, weight=parameters["weight"]).middle
        np.testing.assert_allclose(found.losses.middle[~outside], mine[~outside])


def test_the_scale_is_that_of_the_other_folds(rows: PairRows) -> None:
    """Fold 0 gets gaps a thousand times as large: its own scale must not see them, the others' must."""
    fold_of_row = np.repeat(FOLDS, np.diff(rows.offsets))
    inflated = replace(rows, gaps=np.where(fold_of_row == 0, 1000.0, 1.0) * rows.gaps)
    found = score(brf_spec("brf", "arctan", None, role="candidate", default_scale=1.0), inflated, folds=FOLDS)
    for fold, parameters in enumerate(found.parameters):
        base = np.median(inflated.gaps[:, fold_of_row != fold])
        assert np.isclose(parameters["scale"] / base, tuning.SCALE_FACTORS).any()
    assert not np.isclose(np.median(inflated.gaps[:, fold_of_row != 0]), np.median(inflated.gaps))


def test_scored_coherence_is_what_was_scored(rows: PairRows) -> None:
    found = score(brf_spec("brf", "arctan", None, role="candidate", default_scale=1.0), rows, folds=FOLDS)
    coherence = scored_coherence(found, rows, FOLDS)
    fold_of_row = np.repeat(FOLDS, np.diff(rows.offsets))
    for fold, parameters in enumerate(found.parameters):
        phi = 2 * np.arctan(rows.gaps / parameters["scale"])
        mine = fold_of_row == fold
        np.testing.assert_allclose(coherence[mine], np.cos(phi[0] - phi[1])[mine])
        losses = coherent_losses(rows.known, coherence=coherence, weight=parameters["weight"])
        np.testing.assert_allclose(found.losses.bounds[:, mine], losses.bounds[:, mine])
    assert scored_coherence(score(tuning.phase_free_specs()[0], rows, folds=FOLDS), rows, FOLDS) is None


def test_untuned_rules_use_their_defaults(rows: PairRows) -> None:
    found = score(brf_spec("brf", "arctan", 2.5, role="candidate", default_scale=1.0), rows, folds=None)
    assert found.parameters == ({"weight": 0.5, "scale": 2.5},)
    phi = 2 * np.arctan(rows.gaps / 2.5)
    expected = coherent_losses(rows.known, coherence=np.cos(phi[0] - phi[1]))
    np.testing.assert_allclose(found.losses.bounds, expected.bounds)
    np.testing.assert_allclose(scored_coherence(found, rows, None), np.cos(phi[0] - phi[1]))


def test_controls(rows: PairRows) -> None:
    specs = {spec.name: spec for spec in tuning.control_specs("arctan", 1.0, default_scale=1.0)}
    parameters = {"scale": 1.0, "weight": 0.5}
    plain = brf_spec("brf", "arctan", 1.0, role="candidate", default_scale=1.0).coherence(rows, parameters)
    np.testing.assert_array_equal(specs["brf_zero"].coherence(rows, parameters), 1.0)
    np.testing.assert_allclose(specs["brf_flipped"].coherence(rows, parameters), -plain)
    np.testing.assert_array_equal(specs["brf_uniform"].coherence(rows, parameters), rows.random_coherence)
    phi = 2 * np.arctan(rows.shifted_gaps)
    np.testing.assert_allclose(specs["brf_shifted"].coherence(rows, parameters), np.cos(phi[0] - phi[1]))


def test_quantile_map_uses_the_ranks(rows: PairRows) -> None:
    spec = brf_spec("brf_quantile", "quantile", None, role="other_map", default_scale=1.0)
    phi = rows.quantile_phases
    np.testing.assert_allclose(spec.coherence(rows, {}), np.cos(phi[0] - phi[1]))
    shifted = brf_spec("brf_shifted", "quantile", None, role="rival", default_scale=1.0, shifted=True)
    phi = rows.shifted_quantile_phases
    np.testing.assert_allclose(shifted.coherence(rows, {}), np.cos(phi[0] - phi[1]))
    with pytest.raises(ValueError, match="^phase map `quantile` needs the ranks of all gaps$"):
        spec.coherence(replace(rows, quantile_phases=None), {})


def test_undefined_candidates_are_never_chosen(rows: PairRows) -> None:
    def losses(r: PairRows, parameters: dict[str, float]) -> RuleLosses:
        n = r.offsets[-1]
        undefined = np.zeros(n, dtype=bool)
        undefined[3] = parameters["a"] == 0
        return RuleLosses(np.full((2, n), parameters["a"]), None, undefined)

    spec = RuleSpec("x", "rival", losses, {"a": 0.0}, ({"a": 0.0}, {"a": 2.0}, {"a": 1.0}))
    found = score(spec, rows, folds=FOLDS)
    assert [p["a"] for p in found.parameters] == [1.0] * 5
    assert not found.losses.undefined.any()


def test_rules_of_one_unknown_keep_it_across_folds(truncated_rows: PairRows) -> None:
    specs = {spec.name: spec for spec in tuning.phase_free_specs()}
    kept = score(specs["constant_coherence"], truncated_rows, folds=FOLDS)
    assert kept.losses.coefficients is not None
    np.testing.assert_allclose(
        np.sort(kept.losses.at(truncated_rows.known.overlap[:, None]), axis=0), kept.losses.bounds, atol=1e-12
    )
    assert score(specs["product"], truncated_rows, folds=FOLDS).losses.coefficients is None


def test_progress_is_reported_for_each_fold(rows: PairRows) -> None:
    seen: list[int] = []
    score(tuning.phase_free_specs()[0], rows, folds=FOLDS, on_candidate=lambda: seen.append(1))
    assert len(seen) == 5


def test_cross_fitted_hit_rates_by_hand() -> None:
    agree = np.array([True, True, False, True, True, False])
    hit = np.array([True, False, True, True, True, False])
    fold_of_row = np.array([0, 0, 0, 1, 1, 1])
    found = tuning.cross_fitted_hit_rates(agree, hit, fold_of_row)
    # Fold 0 sees fold 1: agreed 2 of 2, split 0 of 1; fold 1 sees fold 0: agreed 1 of 2, split 1 of 1.
    np.testing.assert_allclose(found, [2.5 / 3, 2.5 / 3, 0.5 / 2, 1.5 / 3, 1.5 / 3, 1.5 / 2])
    alone = tuning.cross_fitted_hit_rates(np.array([True, False]), np.array([True, True]), np.array([0, 1]))
    np.testing.assert_allclose(alone, 0.5)
