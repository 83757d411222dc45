"""Scores of rules on top-k rows against those on full distributions: accuracy, sums of losses, contrasts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brf_exp.config import EvaluationConfig
from brf_exp.maths import fusion
from brf_exp.maths.fusion import equal_weights
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.rules import fuse
from brf_exp.maths.specs import CANDIDATE, RuleSpec, brf_spec, control_specs, phase_free_specs, untuned_specs
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.tuning import ScoredRule, TunedRule, score, untuned
from brf_exp.stages.accuracy import right_bounds
from brf_exp.stages.rule_scores import RuleScores

N, V = 120, 7
OFFSETS = np.arange(0, N + 1, 10)
FOLDS = np.arange(12) % 3
TEMPERATURES = (1.0, 0.5, 2.0)
SPECS = [
    *phase_free_specs(2, complete=True),
    brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=2, default_scale=None),
    *control_specs("arctan", 1.3, n_models=2, default_scale=None),
]


def _log_p(n_models: int, temperature: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(n_models).normal(0, 2, (n_models, N, V)) / temperature
    return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)


def _rows(n_models: int, k: int) -> FusionRows:
    targets = np.random.default_rng(5).integers(0, V, N)

    def known(temperature: float) -> Any:
        log_p = _log_p(n_models, temperature)
        order = np.argsort(-log_p, axis=2)[:, :, :k]
        ranked = list(np.take_along_axis(log_p, order, axis=2))
        exact = log_p[:, np.arange(N), targets]
        return known_tokens(
            list(order), ranked, target_ids=targets, target_log_p=exact, complete=k == V, vocabulary_size=V
        )

    log_p = _log_p(n_models)
    best = np.sort(log_p, axis=2)
    gaps = best[:, :, -1] - best[:, :, -2]
    return FusionRows(
        known=known(1.0),
        gaps=gaps,
        shifted_gaps=gaps[:, ::-1],
        ranks=gaps,
        shifted_ranks=gaps,
        random_phases=np.random.default_rng(6).uniform(0, 2 * np.pi, (n_models, N)),
        offsets=OFFSETS,
        entropies=-(np.exp(log_p) * log_p).sum(axis=2),
        at_temperatures={t: known(t) for t in TEMPERATURES[1:]},
    )


@pytest.fixture(scope="module")
def rows_of() -> Callable[[int, int], FusionRows]:
    made = {(m, k): _rows(m, k) for m in (2, 3) for k in (3, V)}
    return lambda n_models, k: made[n_models, k]


def _scored(spec: RuleSpec, rows: FusionRows, turn: int = 0) -> ScoredRule:
    """Folds with parameters and temperatures of their own; `turn` gives every fold the next one's temperature."""
    candidates = [spec.candidates[place] for place in (3, 16, 33)]
    temperatures = TEMPERATURES[turn:] + TEMPERATURES[:turn]
    parameters = {f: {**p, "temperature": t} for f, (p, t) in enumerate(zip(candidates, temperatures, strict=True))}
    return score(TunedRule(spec, parameters), rows, FOLDS)


def _is_right(scored: ScoredRule, rows: FusionRows) -> np.ndarray:
    """Whether the realised token has the largest fused probability, from full distributions."""
    right = np.empty(N, dtype=bool)
    for mine, parameters in scored.parts(rows):
        given = {k: v for k, v in parameters.items() if k not in ("weight", "temperature", "scale")}
        log_p = _log_p(rows.n_models, parameters["temperature"])[:, mine]
        if scored.spec.phases is not None:
            given["phases_rad"] = scored.spec.phases(rows.take(mine), parameters.get("scale"))
        weight = parameters.get("weight", 0.5)
        weights = np.array(weight if isinstance(weight, tuple) else [weight, 1 - weight])
        p = fuse(scored.spec.rule, log_p, weights=weights, **given).p
        right[mine] = p.argmax(axis=1) == rows.known.shared_ids[mine, 0]
    return right


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_whole_vocabularies_give_the_answer(rows_of: Callable[[int, int], FusionRows], spec: RuleSpec) -> None:
    rows = rows_of(2, V)
    scored = _scored(spec, rows)
    right = _is_right(scored, rows)
    assert 0.05 < right.mean() < 0.6
    np.testing.assert_array_equal(right_bounds(scored, rows), np.stack([right, right]))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_top_rows_leave_an_interval(rows_of: Callable[[int, int], FusionRows], spec: RuleSpec) -> None:
    scored = _scored(spec, rows_of(2, V))
    right = _is_right(scored, rows_of(2, V))
    surely, possibly = right_bounds(_scored(spec, rows_of(2, 3)), rows_of(2, 3))
    assert right[surely].all() and possibly[right].all()


@pytest.mark.parametrize("n_models", [2, 3])
def test_a_phase_per_token_is_right_where_it_must_be(rows_of: Callable[[int, int], FusionRows], n_models: int) -> None:
    """Whatever the phases of the tokens that not all models list; here their own."""
    made = {"n_models": n_models, "default_scale": None, "scope": "token"}
    for spec in (
        brf_spec("brf", "arctan", 1.3, role=CANDIDATE, **made),
        *(spec for spec in control_specs("arctan", 1.3, **made) if spec.name in ("brf_shifted", "brf_flipped")),
    ):
        rows, cut = rows_of(n_models, V), rows_of(n_models, 3)
        phases = spec.shared_phases(rows, {"scale": 1.3})
        scores = fusion.born_numerator(rows.known.shared, equal_weights(n_models), phases_rad=phases)
        right = scores.argmax(axis=1) == 0
        assert 0.05 < right.mean() < 0.7
        np.testing.assert_array_equal(right_bounds(score(untuned(spec), rows, None), rows), np.stack([right, right]))
        surely, possibly = right_bounds(score(untuned(spec), cut, None), cut)
        assert right[surely].all() and possibly[right].all() and surely.sum() < possibly.sum()


@pytest.mark.parametrize("name", ["brf", "brf_shifted", "brf_flipped", "lin_log_mixture"])
def test_three_models_with_phases_or_a_mixture(rows_of: Callable[[int, int], FusionRows], name: str) -> None:
    brf = brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=3, default_scale=None)
    specs = [brf, *control_specs("arctan", 1.3, n_models=3, default_scale=None), *phase_free_specs(3)]
    (spec,) = [spec for spec in specs if spec.name == name]
    scored = _scored(spec, rows_of(3, V))
    right = _is_right(scored, rows_of(3, V))
    assert 0.05 < right.mean() < 0.7
    np.testing.assert_array_equal(right_bounds(scored, rows_of(3, V)), np.stack([right, right]))
    surely, possibly = right_bounds(_scored(spec, rows_of(3, 3)), rows_of(3, 3))
    assert right[surely].all() and possibly[right].all() and surely.sum() < possibly.sum()


@pytest.mark.parametrize("name", ["linear", "log_linear", "product", "power_mean", "constant_coherence"])
def test_three_models(rows_of: Callable[[int, int], FusionRows], name: str) -> None:
    (spec,) = [spec for spec in phase_free_specs(3) if spec.name == name]
    scored = _scored(spec, rows_of(3, V))
    right = np.empty(N, dtype=bool)
    for mine, parameters in scored.parts(rows_of(3, V)):
        given = {k: v for k, v in parameters.items() if k not in ("weight", "temperature")}
        weights = np.array(parameters["weight"]) if "weight" in parameters else None
        p = fuse(name, _log_p(3, parameters["temperature"])[:, mine], weights=weights, **given).p
        right[mine] = p.argmax(axis=1) == rows_of(3, V).known.shared_ids[mine, 0]
    np.testing.assert_array_equal(right_bounds(scored, rows_of(3, V)), np.stack([right, right]))
    surely, possibly = right_bounds(_scored(spec, rows_of(3, 3)), rows_of(3, 3))
    assert right[surely].all() and possibly[right].all()


@pytest.mark.parametrize("n_models", [2, 3])
def test_rules_that_take_a_models_own_top_token(rows_of: Callable[[int, int], FusionRows], n_models: int) -> None:
    rows = rows_of(n_models, 3)
    log_p, targets = _log_p(n_models), rows.known.shared_ids[:, 0]
    right = log_p.argmax(axis=2) == targets
    confidences = {
        "route_max_prob": log_p.max(axis=2),
        "route_gap": rows.gaps,
        "route_entropy": -rows.entropies,
        "oracle": log_p[:, np.arange(N), targets],
    }
    expected = {f"model_{'abc'[model]}": right[model] for model in range(n_models)}
    expected |= {name: right[found.argmax(axis=0), np.arange(N)] for name, found in confidences.items()}
    specs = {spec.name: spec for spec in untuned_specs(n_models, has_entropies=True)}
    assert set(expected) == set(specs)
    for name, spec in specs.items():
        found = right_bounds(score(untuned(spec), rows, None), rows)
        np.testing.assert_array_equal(found, np.stack([expected[name]] * 2), err_msg=name)
    without = replace(rows, entropies=None)
    entropy = ScoredRule(untuned(specs["route_entropy"]), score(untuned(specs["route_gap"]), rows, None).losses)
    assert right_bounds(entropy, without) is None


def _scores(rows: FusionRows, specs: list[RuleSpec], n_documents: int = 12) -> RuleScores:
    """Scores of rules, neighbours at different temperatures, in chunks of so many documents."""
    tuned = {spec.name: _scored(spec, rows, place % 3).tuned for place, spec in enumerate(specs)}
    scores = RuleScores(rows.offsets, tuned, EvaluationConfig())
    for first in range(0, 12, n_documents):
        last = min(first + n_documents, 12)
        chunk = replace(rows.take(np.arange(10 * first, 10 * last)), offsets=OFFSETS[first : last + 1] - 10 * first)
        scores.add(chunk, slice(first, last), {name: score(t, chunk, FOLDS[first:last]) for name, t in tuned.items()})
    return scores


@pytest.mark.parametrize("n_models", [2, 3])
def test_top_rows_contain_the_exact_losses_and_contrasts(
    rows_of: Callable[[int, int], FusionRows], n_models: int
) -> None:
    made = {"n_models": n_models, "default_scale": None}
    specs = [
        brf_spec("brf", "arctan", 1.3, role=CANDIDATE, **made),
        *phase_free_specs(n_models, complete=True),
        *control_specs("arctan", 1.3, **made),
    ]
    exact, cut = _scores(rows_of(n_models, V), specs), _scores(rows_of(n_models, 3), specs)
    references = exact.contrasts.defined("brf")
    # Three models' normaliser may be 0 at a negative coherence of all pairs.
    missing = {spec.name for spec in specs[1:]} - set(references)
    assert missing <= ({"constant_coherence"} if n_models == 3 else set())
    closed = cut.contrasts.defined("brf")
    # So may that of three models' opposed phases, as far as the top rows tell.
    assert set(references) - set(closed) <= ({"contrastive"} if n_models == 2 else {"brf_uniform", "brf_flipped"})
    lower, upper = cut.contrasts.of("brf", closed)
    for ends in exact.contrasts.of("brf", closed):
        assert (lower <= ends + 1e-9).all() and (upper >= ends - 1e-9).all()
    for spec in (spec for spec in specs if spec.name not in missing):
        low, high = cut.mean_loss(spec.name)
        np.testing.assert_allclose(*exact.mean_loss(spec.name), atol=1e-6)
        assert low - 1e-9 <= exact.mean_loss(spec.name)[0] <= high + 1e-9
        if n_models == 2 and spec.name == "contrastive":
            assert np.isinf(high)


@pytest.mark.parametrize("n_documents", [1, 5])
def test_chunks_change_no_digit(rows_of: Callable[[int, int], FusionRows], n_documents: int) -> None:
    whole, parts = _scores(rows_of(2, 3), SPECS), _scores(rows_of(2, 3), SPECS, n_documents)
    np.testing.assert_array_equal(whole.overlap(), parts.overlap())
    closed = whole.contrasts.defined("brf")
    np.testing.assert_array_equal(whole.contrasts.of("brf", closed), parts.contrasts.of("brf", closed))
    for spec in SPECS:
        np.testing.assert_array_equal(whole.mean_loss(spec.name), parts.mean_loss(spec.name))
        assert whole.n_undefined[spec.name] == parts.n_undefined[spec.name]
        np.testing.assert_array_equal(whole.accuracy(spec.name), parts.accuracy(spec.name))
