"""Stage `coherence`: the Phase Coherence Test of two models or more, over all phase maps and their scales."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from brf_exp.config import AnalysisStageConfig, CoherenceStageConfig
from brf_exp.maths.decisions import Gates
from brf_exp.maths.phases import MAPS
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages import planning, progress
from brf_exp.stages.coherence_results import COHERENCE_SCHEMA, coherence_summary, coherence_tables
from brf_exp.stages.finish import once
from brf_exp.stages.pair_test import (
    IMPOSSIBLE,
    failed_gate,
    kuramoto_of,
    pair_residuals,
    pair_test_of,
    pairs_of,
    phase_test_of,
    planted_controls,
    read_phase_data,
)
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.stages.phase_maps import load_table, phase_identity
from brf_exp.storage.runs import content_key, stage_folder


def run(config: CoherenceStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    inputs = resolve_pair(config)
    return planning_of(config, inputs) if config.planning else coherence_of(config, inputs)


def coherence_of(config: AnalysisStageConfig, inputs: PairInputs, folder: Path | None = None) -> Path:
    """Test a pair that is already resolved; `folder` overrides where the results go."""
    determines = {"schema": COHERENCE_SCHEMA, **analysis_identity(config, inputs), "delta": config.claims.delta}
    final = folder or stage_folder(Path(config.runs_dir), "coherence", inputs.name, content_key(determines))
    return once(
        final,
        stage="coherence",
        subject=inputs.name,
        determines=determines,
        config=config,
        make=lambda: _test(config, inputs),
    )


def planning_of(config: CoherenceStageConfig, inputs: PairInputs) -> Path:
    """Sample sizes from a pair's standard errors, printed; neither effect nor verdict is looked at."""
    determines = {"schema": planning.PLANNING_SCHEMA, **analysis_identity(config, inputs), "delta": config.claims.delta}
    final = stage_folder(Path(config.runs_dir), "planning", inputs.name, content_key(determines))

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        data = read_phase_data(config, inputs)
        test = phase_test_of(
            data, replace(config, evaluation=replace(config.evaluation, controls=False)), None, len(pairs_of(data))
        )
        if test.gates.failed in IMPOSSIBLE:
            raise UndefinedStatisticError(test.gates.failed)
        # No gate stands before a plan, and the verdict's reason is then why there is nothing to plan from.
        test, gaps = replace(test, gates=Gates(test.gates.n_documents, min_documents=0)), data.gaps_of(0, 1)
        left = pair_residuals(data, gaps, 0, 1, config, test.evaluation)
        settings: dict[str, Any] = {"scale": config.phase.scale, "table": load_table(config.phase)}
        primary = test.run(config.phase.name, gaps, left, **settings, negative_control=0.0)
        return planning.summary(
            inputs.name, inputs.corpus_name, primary, delta=config.claims.delta, alpha=test.alpha
        ), {}

    made = once(final, stage="planning", subject=inputs.name, determines=determines, config=config, make=make)
    planning.show(made)
    return made


def analysis_identity(config: AnalysisStageConfig, inputs: PairInputs) -> dict[str, Any]:
    """What both tests' results depend on."""
    return {
        "inputs": inputs.identity(),
        "phase": phase_identity(config.phase),
        "evaluation": asdict(config.evaluation),
        "seed": config.seed,
    }


def _test(config: AnalysisStageConfig, inputs: PairInputs) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    n_models = len(inputs.captures)
    n_pairs = n_models * (n_models - 1) // 2
    with progress.steps("coherence", 2 + n_pairs * (2 + len(MAPS)), enabled=config.progress) as step:
        step("read gaps")
        data = read_phase_data(config, inputs)
        controls = None
        if config.evaluation.controls and failed_gate(data) not in IMPOSSIBLE:
            step("planted controls")
            controls = planted_controls(data, config)
        test = phase_test_of(data, config, controls, n_pairs)
        tested = [pair_test_of(data, first, second, test, config, step) for first, second in pairs_of(data)]
        together = kuramoto_of(data, tested, config) if n_models > 2 else None
    summary = coherence_summary(inputs, config, data, tested, together, controls)
    return summary, coherence_tables(config, data, tested[0])
