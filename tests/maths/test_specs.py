from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths.documents import spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.phases import MAPS
from brf_exp.maths.rules import RULES
from brf_exp.maths.specs import (
    BUDGET,
    CANDIDATE,
    N_WEIGHTS,
    OTHER_MAP,
    RuleSpec,
    at_temperatures,
    brf_spec,
    control_specs,
    grid,
    phase_free_specs,
    temperature_of,
    untuned_specs,
    weight_choices,
    weight_of,
)
from brf_exp.maths.topk_rules import coherent_losses, log_linear_losses, token_phase_losses

TUNED = {"linear", "log_linear", "power_mean", "lin_log_mixture", "constant_coherence", "product"}
CONTROLS = {"brf_zero", "brf_flipped", "brf_uniform", "brf_shifted"}
ROUTES = {"route_max_prob", "route_gap", "route_entropy"}


def _all_specs(n_models: int = 2, *, complete: bool = False) -> list[RuleSpec]:
    made = {"n_models": n_models, "default_scale": 1.0}
    maps = [brf_spec(f"brf_{name}", name, None, role=OTHER_MAP, **made) for name in (*MAPS, "table")]
    return [
        brf_spec("brf", "arctan", None, role=CANDIDATE, **made),
        *phase_free_specs(n_models, complete=complete),
        *untuned_specs(n_models, has_entropies=True),
        *control_specs("arctan", None, **made),
        *maps,
    ]


@pytest.mark.parametrize("n_models", [2, 3, 4])
def test_every_tuned_rule_has_the_same_budget(n_models: int) -> None:
    specs = _all_specs(n_models, complete=True)
    assert {len(spec.candidates) for spec in specs if spec.candidates} == {BUDGET}
    fixed = {spec.name for spec in specs if not spec.candidates}
    assert fixed == {*(f"model_{'abcd'[i]}" for i in range(n_models)), *ROUTES, "oracle"}
    for spec in specs:
        assert len({tuple(sorted(p.items())) for p in spec.candidates}) == len(spec.candidates), spec.name
        for parameters in spec.candidates:
            weights = weight_of(parameters)
            if n_models > 2 and "weight" in parameters:
                assert weights.shape == (n_models,) and weights.min() > 0 and weights.sum() == pytest.approx(1)


def test_temperatures_multiply_every_budget_alike() -> None:
    temperatures = (1.0, 0.5, 0.7, 2.0)
    for plain in _all_specs(complete=True):
        spec = at_temperatures(plain, temperatures)
        assert len(spec.candidates) == 4 * len(plain.candidates)
        assert replace(spec, candidates=()) == replace(plain, candidates=())
        for temperature in temperatures if plain.candidates else ():
            mine = [p for p in spec.candidates if temperature_of(p) == temperature]
            assert [{k: v for k, v in p.items() if k != "temperature"} for p in mine] == list(plain.candidates)
        assert at_temperatures(plain, (1.0,)) is plain


def test_roles() -> None:
    roles = {spec.name: spec.role for spec in _all_specs()}
    assert roles["oracle"] == "oracle" and roles["model_a"] == roles["model_b"] == "model"
    assert {name for name, role in roles.items() if role == "rival"} == {*TUNED, "contrastive", *ROUTES, *CONTROLS}
    assert "route_entropy" not in {spec.name for spec in untuned_specs(2, has_entropies=False)}


def test_contrastive_is_tuned_on_whole_vocabularies_of_two_models() -> None:
    assert {spec.name: len(spec.candidates) for spec in phase_free_specs(2)}["contrastive"] == 0
    assert {spec.name: len(spec.candidates) for spec in phase_free_specs(2, complete=True)}["contrastive"] == BUDGET
    assert {spec.name for spec in phase_free_specs(3, complete=True)} == TUNED


@pytest.mark.parametrize("spec", _all_specs(complete=True) + _all_specs(3, complete=True), ids=lambda s: s.name)
def test_defaults_and_candidates_can_be_scored(spec: RuleSpec, rows: FusionRows, three_models: FusionRows) -> None:
    is_pair = isinstance(spec.defaults.get("weight", 0.5), float) and not spec.name.startswith("model_")
    use = rows if is_pair else three_models
    if spec.name == "brf_table":
        return
    parameters = [spec.defaults, *spec.candidates[::17]]
    for given in parameters:
        chosen = {k: v for k, v in given.items() if k != "scale_factor"}
        if spec.scaled:
            chosen["scale"] = 1.5
        losses = spec.losses(use, chosen)
        assert losses.bounds.shape == (2, use.n)
        coherence = spec.coherence(use, chosen)
        assert (coherence is None) is (spec.phases is None)


def test_exponents_of_products_reach_below_one() -> None:
    (spec,) = [spec for spec in phase_free_specs(2) if spec.name == "product"]
    exponents = [p["exponent"] for p in spec.candidates]
    assert exponents == sorted(exponents) and {0.5, 1.0, 2.0} <= set(exponents)
    assert np.diff(exponents).max() < 0.05


def test_a_grid_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^every rule is tuned with 105 candidates, got 6 for \['weight', 'order'\]$"):
        grid({"weight": (0.1, 0.2), "order": (1.0, 2.0, 3.0)})


@pytest.mark.parametrize("n", [5, N_WEIGHTS, BUDGET])
def test_weights_spread_over_the_simplex(n: int) -> None:
    points = np.array(weight_choices(3, n))
    np.testing.assert_allclose(points[0], 1 / 3)
    np.testing.assert_allclose(points.sum(axis=1), 1)
    assert np.unique(points, axis=0).shape == (n, 3)
    # Every model is the largest, and is nearly left out, somewhere.
    assert set(points[1:].argmax(axis=1)) == {0, 1, 2}
    assert (points.min(axis=0) < {5: 0.2, N_WEIGHTS: 0.1, BUDGET: 0.05}[n]).all()
    assert points.tolist() == np.array(weight_choices(3, n)).tolist()
    pair = weight_choices(2, n)
    np.testing.assert_allclose(np.sort(pair), 1 - np.sort(pair)[::-1])


def test_controls(rows: FusionRows) -> None:
    specs = {spec.name: spec for spec in control_specs("arctan", 1.0, n_models=2, default_scale=1.0)}
    parameters = {"scale": 1.0, "weight": 0.5}
    candidate = brf_spec("brf", "arctan", 1.0, role=CANDIDATE, n_models=2, default_scale=1.0)
    plain = candidate.coherence(rows, parameters)
    np.testing.assert_array_equal(specs["brf_zero"].coherence(rows, parameters), 1.0)
    np.testing.assert_allclose(specs["brf_flipped"].coherence(rows, parameters), -plain)
    random = np.cos(rows.random_phases[0] - rows.random_phases[1])
    np.testing.assert_array_equal(specs["brf_uniform"].coherence(rows, parameters)[0], random)
    phi = 2 * np.arctan(rows.shifted_gaps)
    np.testing.assert_allclose(specs["brf_shifted"].coherence(rows, parameters)[0], np.cos(phi[0] - phi[1]))


def test_quantile_map_uses_the_ranks(rows: FusionRows) -> None:
    made = {"n_models": 2, "default_scale": 1.0}
    spec = brf_spec("brf_quantile", "quantile", None, role=OTHER_MAP, **made)
    phi = 2 * np.pi * rows.ranks
    np.testing.assert_allclose(spec.coherence(rows, {})[0], np.cos(phi[0] - phi[1]))
    (shifted,) = [s for s in control_specs("quantile", None, **made) if s.name == "brf_shifted"]
    phi = 2 * np.pi * rows.shifted_ranks
    np.testing.assert_allclose(shifted.coherence(rows, {})[0], np.cos(phi[0] - phi[1]))


def test_a_candidate_is_scored_at_its_temperature(tempered_rows: FusionRows) -> None:
    specs = {spec.name: spec for spec in phase_free_specs(2)}
    for temperature in (1.0, 0.5, 2.0):
        known = tempered_rows.known_at(temperature)
        found = specs["log_linear"].losses(tempered_rows, {"weight": 0.3, "temperature": temperature})
        np.testing.assert_array_equal(found.bounds, log_linear_losses(known, weight=0.3).bounds)
    # Phases are of the gaps in logits, whatever the temperature.
    brf = brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=2, default_scale=None)
    phi = 2 * np.arctan(tempered_rows.gaps / 1.3)
    found = brf.losses(tempered_rows, {"weight": 0.3, "scale": 1.3, "temperature": 2.0})
    expected = coherent_losses(tempered_rows.known_at(2.0), coherence=np.cos(phi[0] - phi[1]), weight=0.3)
    np.testing.assert_array_equal(found.bounds, expected.bounds)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_token_phases_are_of_the_logits(tempered_rows: FusionRows, temperature: float) -> None:
    """Every token's phase is the map of z_(1) - z_t, read off log-probabilities at temperature 1."""
    rows = tempered_rows
    spec = brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=2, default_scale=None, scope="token")
    found = spec.losses(rows, {"weight": 0.3, "scale": 1.3, "temperature": temperature})
    with np.errstate(invalid="ignore"):
        phi = np.nan_to_num(2 * np.arctan((rows.known.max_log_p[:, :, None] - rows.known.shared) / 1.3))
    known = rows.known_at(temperature)
    expected = token_phase_losses(known, phases_rad=phi, weight=0.3)
    np.testing.assert_allclose(found.bounds, expected.bounds, rtol=1e-9)
    assert np.abs(found.bounds - coherent_losses(known, coherence=1.0, weight=0.3).bounds).max() > 0.1


def test_token_phases_of_controls(rows: FusionRows) -> None:
    made = {"n_models": 2, "default_scale": 1.0}
    specs = {s.name: s for s in control_specs("arctan", 1.3, **made, scope="token")}
    plain = brf_spec("brf", "arctan", 1.3, role=CANDIDATE, **made, scope="token")
    parameters = {"weight": 0.5, "scale": 1.3}
    own = plain.losses(rows, parameters).middle
    gaps = rows.known.max_log_p[:, :, None] - rows.known.shared
    with np.errstate(invalid="ignore"):
        phi = np.where(np.isfinite(gaps), 2 * np.arctan(gaps / 1.3), 0.0)
    flipped = token_phase_losses(rows.known, phases_rad=phi + np.array([np.pi, 0])[:, None, None])
    np.testing.assert_allclose(specs["brf_flipped"].losses(rows, parameters).bounds, flipped.bounds, rtol=1e-9)
    turn = 2 * (np.arctan(rows.shifted_gaps / 1.3) - np.arctan(rows.gaps / 1.3))
    shifted = token_phase_losses(rows.known, phases_rad=phi + turn[:, :, None])
    np.testing.assert_allclose(specs["brf_shifted"].losses(rows, parameters).bounds, shifted.bounds, rtol=1e-9)
    assert np.abs(own - specs["brf_flipped"].losses(rows, parameters).middle).max() > 0.1
    zero = coherent_losses(rows.known, coherence=1.0)
    np.testing.assert_allclose(specs["brf_zero"].losses(rows, parameters).bounds, zero.bounds)


def test_the_quantile_map_has_no_token_phases(rows: FusionRows) -> None:
    spec = brf_spec("brf", "quantile", None, role=CANDIDATE, n_models=2, default_scale=None, scope="token")
    with pytest.raises(ValueError, match=r"^phase map `quantile` knows the gaps of positions only: set phase\.scope="):
        spec.losses(rows, {"weight": 0.5})


def test_every_rule_of_the_registry_is_a_spec_or_scored_on_its_own() -> None:
    assert {spec.name for spec in phase_free_specs(2)} | {"majority_vote", "routing", "brf"} == set(RULES)


def test_rows_taken_are_those_rows(tempered_rows: FusionRows) -> None:
    rows = tempered_rows
    chosen = np.flatnonzero(spread(np.arange(20) % 3 == 1, rows.offsets))
    part = rows.take(chosen)
    assert part.n == chosen.size and part.n_models == 2
    for name in ("gaps", "shifted_gaps", "ranks", "shifted_ranks", "random_phases", "entropies"):
        np.testing.assert_array_equal(getattr(part, name), getattr(rows, name)[:, chosen])
    np.testing.assert_array_equal(part.cells, rows.cells[chosen])
    for temperature in (1.0, 0.5, 2.0):
        mine, whole = part.known_at(temperature), rows.known_at(temperature)
        np.testing.assert_array_equal(mine.shared, whole.shared[:, chosen])
        np.testing.assert_array_equal(mine.overlaps, whole.overlaps[:, :, chosen])
    assert replace(rows, entropies=None, cells=None).take(chosen).entropies is None
