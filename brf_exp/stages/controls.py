"""Planted worlds run through both tests: what must be found is found, what must not be found is not.

Cached under runs/controls by everything that determines them.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import EvaluationConfig, PhaseConfig
from brf_exp.maths.decisions import SUPPORTED, Gates
from brf_exp.maths.distribution import GapDistribution, default_scale, gap_distribution
from brf_exp.maths.documents import assign_folds, circular_shifts, positions_within
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.gate import gate_cells
from brf_exp.maths.specs import RIVAL
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.worlds import GapWorld, TokenWorld, WorldShape, gap_world, token_world, world_shape
from brf_exp.stages.covariates import Covariates, FeatureArray
from brf_exp.stages.fusion_source import WorldSource
from brf_exp.stages.phase_test import Gaps, PhaseTest, gaps_in_memory, residuals
from brf_exp.stages.rule_test import RuleSettings, folds_of, run_rules
from brf_exp.storage.runs import RESULTS, building, content_key, locked, read_json, write_json
from brf_exp.storage.scratch import Scratch

CONTROLS_SCHEMA = 4
GAIN_FACTOR = 4.0


def shape_of(gaps: Gaps) -> WorldShape:
    """Marginals and autocorrelation of a pair's gaps, the latter on normal scores."""
    return world_shape(gaps.distributions, gaps.autocorrelation())


def coherence_controls(
    shape: WorldShape, *, delta: float, evaluation: EvaluationConfig, seed: int, runs_dir: Path
) -> dict[str, Any]:
    """Verdicts on the planted gap world (must be supported) and its twin (must not be)."""
    return _cached(
        "coherence",
        shape,
        _determines(evaluation, delta, seed),
        runs_dir,
        lambda: {
            name: _phase_world(
                gap_world(shape, planted=planted, rng=np.random.default_rng([seed, 61, planted])),
                delta,
                evaluation,
                seed,
            )
            for name, planted in (("planted", True), ("twin", False))
        },
    )


def discrimination_controls(
    shape: WorldShape, *, delta_nats: float, evaluation: EvaluationConfig, seed: int, runs_dir: Path
) -> dict[str, Any]:
    """Verdicts on the world where Born Rule Fusion is the truth (must be supported) and its phase-free twin."""

    def both() -> dict[str, Any]:
        least = GAIN_FACTOR * delta_nats
        try:
            worlds = {
                name: token_world(shape, planted=planted, least_gain_nats=least, rng=np.random.default_rng([seed, 71]))
                for name, planted in (("planted", True), ("twin", False))
            }
        except ValueError as error:
            return {"planted": {"verdict": "not built", "reason": str(error)}, "twin": {"verdict": "not built"}}
        return {name: _token_world(world, delta_nats, evaluation, seed) for name, world in worlds.items()}

    return _cached("discrimination", shape, _determines(evaluation, delta_nats, seed), runs_dir, both)


def controls_state(controls: dict[str, Any] | None) -> str:
    """`passed`, `failed` or `not run`: the planted effect is found and the twin's is not."""
    if controls is None:
        return "not run"
    found = controls["planted"]["verdict"] == SUPPORTED and controls["twin"]["verdict"] != SUPPORTED
    return "passed" if found and controls["twin"]["verdict"] != "not built" else "failed"


def _determines(evaluation: EvaluationConfig, delta: float, seed: int) -> dict[str, Any]:
    return {"schema": CONTROLS_SCHEMA, "evaluation": asdict(evaluation), "delta": delta, "seed": seed}


def _cached(kind: str, shape: WorldShape, determines: dict[str, Any], runs_dir: Path, make: Any) -> dict[str, Any]:
    # Rounded, so that the last bit of a quantile does not make another world's key.
    quantiles = [[float(f"{value:.9g}") for value in row] for row in shape.gap_quantiles]
    key = content_key({**determines, "kind": kind, "quantiles": quantiles, "rho": f"{shape.autocorrelation:.9g}"})
    final = runs_dir / "controls" / f"{kind}-{key[:16]}"
    with locked(final):
        if not (final / RESULTS).is_file():
            with building(final) as partial:
                write_json(partial / RESULTS, {**make(), "autocorrelation": shape.autocorrelation})
    found: dict[str, Any] = read_json(final / RESULTS)
    return found


def _phase_world(world: GapWorld, delta: float, evaluation: EvaluationConfig, seed: int) -> dict[str, Any]:
    offsets = world.offsets
    position = positions_within(offsets)
    folds = assign_folds([f"world-{d}" for d in range(offsets.size - 1)], evaluation.n_folds, seed)
    features = FeatureArray(np.column_stack([position, world.difficulty]), offsets)
    covariates = Covariates(features, [False, False], folds)
    gaps = gaps_in_memory(world.gaps, offsets, seed=seed)
    left = residuals(gaps, [covariates, covariates], evaluation, Scratch.in_memory(), seed=seed)
    test = PhaseTest(Gates(offsets.size - 1, evaluation.min_documents), delta, False, evaluation, seed)
    result = test.run("arctan", gaps, left)
    assert result.plain is not None and result.residual is not None
    return {
        "verdict": result.verdict.verdict,
        "reason": result.verdict.reason,
        "excess": result.plain.excess,
        "residual_share_interval": list(result.residual.share_interval),
        "negative_control_rate": result.negative_control_rate,
    }


def _token_world(world: TokenWorld, delta_nats: float, evaluation: EvaluationConfig, seed: int) -> dict[str, Any]:
    n_documents = world.offsets.size - 1
    numbers = assign_folds([f"world-{d}" for d in range(n_documents)], evaluation.n_folds, seed)
    distributions = [gap_distribution([row]) for row in world.gaps]
    settings = RuleSettings(
        n_models=2,
        phase=PhaseConfig(),
        folds=folds_of(numbers, world.gaps, world.offsets),
        default_scale=default_scale(distributions),
        all_maps=False,
        gates=Gates(n_documents, evaluation.min_documents),
        delta_nats=delta_nats,
        evaluation=replace(evaluation, tune=True),
        seed=seed,
        k=world.log_p.shape[2],
        complete=True,
    )
    result = run_rules(WorldSource(_world_rows(world, distributions, seed)), settings, own_scale=settings.default_scale)
    primary = result.primary
    rivals = [c for c in primary.contrasts if result.tuned[c.reference].spec.role == RIVAL]
    closest = max(rivals, key=lambda c: c.difference_nats)
    return {
        "verdict": primary.verdict.verdict,
        "reason": primary.verdict.reason,
        "closest_rival": closest.reference,
        "difference_nats": closest.difference_nats,
        "expected_gain_nats": world.expected_gain_nats,
        "spread_exponent": world.spread_exponent,
    }


def _world_rows(world: TokenWorld, distributions: Sequence[GapDistribution], seed: int) -> FusionRows:
    rng = np.random.default_rng([seed, 81])
    order = np.argsort(-world.log_p, axis=2, kind="stable")
    ranked = np.take_along_axis(world.log_p, order, axis=2)
    rows = np.arange(world.targets.size)
    known = known_tokens(
        list(order),
        list(ranked),
        target_ids=world.targets,
        target_log_p=np.stack([model[rows, world.targets] for model in world.log_p]),
        complete=True,
    )
    shifts = [circular_shifts(world.offsets, rng) for _ in world.gaps]
    ranks = np.stack([d.uniform_ranks(row, rng) for d, row in zip(distributions, world.gaps, strict=True)])
    return FusionRows(
        known=known,
        gaps=world.gaps,
        shifted_gaps=np.stack([row[turned] for row, turned in zip(world.gaps, shifts, strict=True)]),
        ranks=ranks,
        shifted_ranks=np.stack([row[turned] for row, turned in zip(ranks, shifts, strict=True)]),
        random_phases=rng.uniform(0, 2 * np.pi, world.gaps.shape),
        offsets=world.offsets,
        cells=gate_cells(world.gaps, distributions),
    )
