"""Stage `discriminate`: the Cross-Term Discrimination Test of two models or more, against every rule and control."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brf_exp.config import DiscriminateStageConfig, ScoringConfig, Split
from brf_exp.errors import ConfigError
from brf_exp.maths.decisions import Gates
from brf_exp.maths.distribution import GapDistribution, gap_distribution
from brf_exp.maths.documents import document_chunks
from brf_exp.stages import progress
from brf_exp.stages.agreement import agreement_of
from brf_exp.stages.coherence import analysis_identity
from brf_exp.stages.controls import controls_state, discrimination_controls, shape_of
from brf_exp.stages.discrimination_results import DISCRIMINATION_SCHEMA, discrimination_summary
from brf_exp.stages.finish import once
from brf_exp.stages.fusion_source import CaptureSource, fewer_logits, stored_temperatures
from brf_exp.stages.gap_rows import read_gap_rows
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.stages.phase_maps import load_table
from brf_exp.stages.phase_test import Gaps, uniform_ranks
from brf_exp.stages.recapture import Recapture, n_leading_documents, recaptured, require_temperatures
from brf_exp.stages.rule_gates import NO_WORLD, Ground, ground_of
from brf_exp.stages.rule_test import OtherRows, RuleSettings, run_rules
from brf_exp.stages.unnormalised import require_columns, unnormalised_summary, without_normaliser
from brf_exp.storage.runs import content_key, stage_folder
from brf_exp.storage.schema import DISCRIMINATION_COLUMNS
from brf_exp.storage.scratch import SCRATCH, Scratch


def run(config: DiscriminateStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    inputs = resolve_pair(config)
    return discrimination_of(config, inputs, recaptured(config, inputs))


def discrimination_of(config: ScoringConfig, inputs: PairInputs, again: Recapture, folder: Path | None = None) -> Path:
    """Test a pair that is already resolved; `folder` overrides where the results go."""
    evaluation = config.evaluation
    if evaluation.split is Split.NONE and evaluation.tune:
        raise ConfigError("`evaluation.tune` must be false with evaluation.split=none. Add evaluation.tune=false.")
    if config.phase.scope == "token" and config.phase.name == "quantile":
        raise ConfigError("`phase.scope` must be position with phase=quantile, got token. Choose another phase map.")
    for capture in inputs.captures:
        require_columns(capture)
    if again.inputs is not None and not without_normaliser(inputs.captures):
        for capture in again.inputs.captures:
            capture.require([*DISCRIMINATION_COLUMNS, "id_1"], purpose="discriminate")
    determines = {
        "schema": DISCRIMINATION_SCHEMA,
        **analysis_identity(config, inputs),
        "scope": config.phase.scope,
        "recapture": again.identity(),
    }
    final = folder or stage_folder(Path(config.runs_dir), "discriminate", inputs.name, content_key(determines))
    return once(
        final,
        stage="discriminate",
        subject=inputs.name,
        determines=determines,
        config=config,
        make=lambda: _test(config, inputs, again),
    )


def source_of(
    config: ScoringConfig,
    inputs: PairInputs,
    distributions: Sequence[GapDistribution] | None = None,
    temperatures: tuple[float, ...] | None = None,
) -> CaptureSource:
    """The pair's rows, ready to be read chunk by chunk: gaps and ranks of all positions are read first.

    `distributions` and `temperatures` are those of the rows that rules were tuned on, where these are others.
    """
    scratch = Scratch(Path(config.runs_dir) / SCRATCH, memory_mb=config.memory_mb)
    gaps = read_gap_rows(inputs.tested_only(), scratch)
    if distributions is None:
        pieces = [slice(int(gaps.offsets[d.start]), int(gaps.offsets[d.stop])) for d in document_chunks(gaps.offsets)]
        distributions = [gap_distribution(row[piece] for piece in pieces) for row in gaps.gaps]
    if temperatures is None:
        temperatures = stored_temperatures(inputs.captures) if config.evaluation.tune else (1.0,)
    return CaptureSource(
        captures=inputs.captures,
        gaps=gaps,
        ranks=uniform_ranks(gaps.gaps, distributions, gaps.offsets, scratch, seed=config.seed),
        distributions=distributions,
        temperatures=temperatures,
        memory_mb=config.memory_mb,
        seed=config.seed,
        table=load_table(config.phase),
    )


def _other_rows(config: ScoringConfig, source: CaptureSource, again: Recapture) -> OtherRows:
    """The second capture's documents, and the pair's with a half and a quarter of the logits."""
    second = None
    if again.inputs is not None:
        require_temperatures(again.inputs, source.temperatures)
        whole = source_of(config, again.inputs, source.distributions, source.temperatures)
        second = whole.leading(n_leading_documents(source.gaps, whole.gaps))
    return OtherRows(second, {k: source.truncated(k) for k in fewer_logits(source.k)})


def _test(
    config: ScoringConfig, inputs: PairInputs, again: Recapture
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    evaluation = config.evaluation
    with progress.steps("discriminate", 6, enabled=config.progress) as step:
        step("read gaps")
        source = source_of(config, inputs)
        ground, controls = ground_of(config, inputs, source), None
        if evaluation.controls and evaluation.tune and ground.failed not in NO_WORLD:
            step("planted controls")
            controls = _controls(config, source)
        settings = _settings(config, inputs, source, ground, controls)
        agreement = agreement_of(source, config, ground.median_gap)
        if without_normaliser(inputs.captures):
            step("bound")
            return unnormalised_summary(inputs, config, settings.gates, ground, agreement, controls), {}
        other = _other_rows(config, source, again)
        result = run_rules(source, settings, own_scale=ground.scale, other=other, on_step=step)
    summary = discrimination_summary(
        inputs, config, settings, result, ground, agreement, controls=controls, again=again
    )
    return summary, result.tables.tables()


def _controls(config: ScoringConfig, source: CaptureSource) -> dict[str, Any]:
    """The planted worlds, shaped like the first two models."""
    rows = source.gaps
    first = Gaps(list(rows.gaps[:2]), list(source.ranks[:2]), source.distributions[:2], rows.offsets)
    return discrimination_controls(
        shape_of(first),
        delta_nats=config.evaluation.delta_nats,
        evaluation=config.evaluation,
        seed=config.seed,
        runs_dir=Path(config.runs_dir),
    )


def _settings(
    config: ScoringConfig, inputs: PairInputs, source: CaptureSource, ground: Ground, controls: dict[str, Any] | None
) -> RuleSettings:
    evaluation = config.evaluation
    return RuleSettings(
        n_models=len(inputs.captures),
        phase=config.phase,
        folds=ground.folds,
        default_scale=ground.scale,
        all_maps=True,
        gates=Gates(
            n_documents=source.offsets.size - 1,
            min_documents=evaluation.min_documents,
            controls=controls_state(controls),
            failed=ground.failed,
        ),
        delta_nats=evaluation.delta_nats,
        evaluation=evaluation,
        seed=config.seed,
        k=source.k,
        temperatures=source.temperatures,
        has_entropies=all("entropy" in capture.columns for capture in inputs.captures),
        vocabulary_size=source.vocabulary_size,
        complete=source.complete,
    )
