"""Stage `discriminate`: the Cross-Term Discrimination Test of two models or more, against every rule and control."""

from pathlib import Path
from typing import Any

from brf_exp.config import AnalysisStageConfig, DiscriminateStageConfig, Split
from brf_exp.errors import ConfigError
from brf_exp.maths.decisions import Gates
from brf_exp.maths.distribution import gap_distribution, scale_of
from brf_exp.maths.documents import assign_folds, document_chunks
from brf_exp.stages import progress
from brf_exp.stages.coherence import analysis_identity
from brf_exp.stages.controls import controls_state, discrimination_controls, shape_of
from brf_exp.stages.discrimination_results import DISCRIMINATION_SCHEMA, discrimination_summary
from brf_exp.stages.finish import once
from brf_exp.stages.fusion_source import CaptureSource, stored_temperatures
from brf_exp.stages.gap_rows import read_gap_rows
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.stages.phase_maps import load_table
from brf_exp.stages.phase_test import Gaps, uniform_ranks
from brf_exp.stages.rule_test import RuleSettings, folds_of, run_rules
from brf_exp.storage.runs import content_key, stage_folder
from brf_exp.storage.schema import DISCRIMINATION_COLUMNS
from brf_exp.storage.scratch import SCRATCH, Scratch


def run(config: DiscriminateStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    return discrimination_of(config, resolve_pair(config))


def discrimination_of(config: AnalysisStageConfig, inputs: PairInputs, folder: Path | None = None) -> Path:
    """Test a pair that is already resolved; `folder` overrides where the results go."""
    evaluation = config.evaluation
    if evaluation.split is Split.NONE and evaluation.tune:
        raise ConfigError("`evaluation.tune` must be false with evaluation.split=none. Add evaluation.tune=false.")
    if config.phase.scope == "token" and config.phase.name == "quantile":
        raise ConfigError("`phase.scope` must be position with phase=quantile, got token. Choose another phase map.")
    for capture in inputs.captures:
        capture.require([*DISCRIMINATION_COLUMNS, "id_1"], purpose="discriminate")
    determines = {
        "schema": DISCRIMINATION_SCHEMA,
        **analysis_identity(config, inputs),
        "scope": config.phase.scope,
    }
    final = folder or stage_folder(Path(config.runs_dir), "discriminate", inputs.name, content_key(determines))
    return once(
        final,
        stage="discriminate",
        subject=inputs.name,
        determines=determines,
        config=config,
        make=lambda: _test(config, inputs),
    )


def source_of(config: AnalysisStageConfig, inputs: PairInputs) -> CaptureSource:
    """The pair's rows, ready to be read chunk by chunk: gaps and ranks of all positions are read first."""
    scratch = Scratch(Path(config.runs_dir) / SCRATCH, memory_mb=config.memory_mb)
    gaps = read_gap_rows(inputs.tested_only(), scratch)
    pieces = [slice(int(gaps.offsets[d.start]), int(gaps.offsets[d.stop])) for d in document_chunks(gaps.offsets)]
    distributions = [gap_distribution(row[piece] for piece in pieces) for row in gaps.gaps]
    return CaptureSource(
        captures=inputs.captures,
        gaps=gaps,
        ranks=uniform_ranks(gaps.gaps, distributions, gaps.offsets, scratch, seed=config.seed),
        distributions=distributions,
        temperatures=stored_temperatures(inputs.captures) if config.evaluation.tune else (1.0,),
        memory_mb=config.memory_mb,
        seed=config.seed,
        table=load_table(config.phase),
    )


def _test(config: AnalysisStageConfig, inputs: PairInputs) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    evaluation, seed = config.evaluation, config.seed
    with progress.steps("discriminate", 5, enabled=config.progress) as step:
        step("read gaps")
        source = source_of(config, inputs)
        controls = None
        if evaluation.controls and evaluation.tune:
            step("planted controls")
            rows = source.gaps
            first = Gaps(list(rows.gaps[:2]), list(source.ranks[:2]), source.distributions[:2], rows.offsets)
            controls = discrimination_controls(
                shape_of(first),
                delta_nats=evaluation.delta_nats,
                evaluation=evaluation,
                seed=seed,
                runs_dir=Path(config.runs_dir),
            )
        settings = _settings(config, inputs, source, controls)
        result = run_rules(source, settings, own_scale=_own_scale(config, source), on_step=step)
    summary = discrimination_summary(inputs, config, settings, result, controls=controls)
    return summary, result.tables.tables()


def _settings(
    config: AnalysisStageConfig, inputs: PairInputs, source: CaptureSource, controls: dict[str, Any] | None
) -> RuleSettings:
    evaluation = config.evaluation
    doc_ids = source.gaps.documents.doc_ids
    default = scale_of("arctan", config.phase.scale, source.distributions)
    assert default is not None
    folds = None
    if evaluation.tune:
        numbers = assign_folds(doc_ids, evaluation.n_folds, config.seed)
        folds = folds_of(numbers, source.gaps.gaps, source.offsets)
    failed = "" if evaluation.tune else "not tuned"
    return RuleSettings(
        n_models=len(inputs.captures),
        phase=config.phase,
        folds=folds,
        default_scale=default,
        all_maps=True,
        gates=Gates(
            n_documents=len(doc_ids),
            min_documents=evaluation.min_documents,
            controls=controls_state(controls),
            failed="identical models" if inputs.identical else failed,
        ),
        delta_nats=evaluation.delta_nats,
        evaluation=evaluation,
        seed=config.seed,
        temperatures=source.temperatures,
        has_entropies=all("entropy" in capture.columns for capture in inputs.captures),
        complete=source.complete,
    )


def _own_scale(config: AnalysisStageConfig, source: CaptureSource) -> float | None:
    return scale_of(config.phase.name, config.phase.scale, source.distributions)
