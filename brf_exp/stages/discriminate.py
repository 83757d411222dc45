"""Stage `discriminate`: the Cross-Term Discrimination Test of a pair, against every rule and control."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig, DiscriminateStageConfig, Split
from brf_exp.errors import ConfigError
from brf_exp.maths.decisions import Gates
from brf_exp.maths.documents import assign_folds
from brf_exp.maths.phases import MAPS, circular_shift
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.tuning import PairRows
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages import progress
from brf_exp.stages.coherence import analysis_identity
from brf_exp.stages.controls import controls_state, discrimination_controls, shape_of
from brf_exp.stages.discrimination_results import (
    DISCRIMINATION_SCHEMA,
    discrimination_summary,
    discrimination_tables,
)
from brf_exp.stages.finish import once
from brf_exp.stages.gap_rows import check_rows
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.stages.phase_maps import load_table
from brf_exp.stages.phase_test import gaps_in_memory
from brf_exp.stages.rule_test import run_rules
from brf_exp.storage.captures import Capture
from brf_exp.storage.runs import content_key, stage_folder
from brf_exp.storage.schema import DISCRIMINATION_COLUMNS


def run(config: DiscriminateStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    return discrimination_of(config, resolve_pair(config))


def discrimination_of(config: AnalysisStageConfig, inputs: PairInputs, folder: Path | None = None) -> Path:
    """Test a pair that is already resolved; `folder` overrides where the results go."""
    evaluation = config.evaluation
    if evaluation.split is Split.NONE and evaluation.tune:
        raise ConfigError("`evaluation.tune` must be false with evaluation.split=none. Add evaluation.tune=false.")
    inputs = replace(inputs, captures=inputs.captures[:2])  # the rules fuse two models
    for capture in inputs.captures:
        capture.require([*DISCRIMINATION_COLUMNS, "id_1"], purpose="discriminate")
    determines = {"schema": DISCRIMINATION_SCHEMA, **analysis_identity(config, inputs)}
    final = folder or stage_folder(Path(config.runs_dir), "discriminate", inputs.name, content_key(determines))
    return once(
        final,
        stage="discriminate",
        subject=inputs.name,
        determines=determines,
        config=config,
        make=lambda: _test(config, inputs),
    )


def _log_p(capture: Capture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids (n, k), their log-probabilities, and the realised token's (n,)."""
    ids, logits = capture.top_k()
    rows = capture.read(["logsumexp", "target_logit"])
    normaliser = rows["logsumexp"]
    return ids, logits.astype(np.float64) - normaliser[:, None], rows["target_logit"] - normaliser


def pair_rows(inputs: PairInputs, config: AnalysisStageConfig) -> PairRows:
    """Everything the rules are scored on."""
    gaps, offsets = inputs.gaps(), inputs.documents.offsets
    (ids_a, log_p_a, target_a), (ids_b, log_p_b, target_b) = (_log_p(capture) for capture in inputs.captures)
    known = known_tokens(
        (ids_a, ids_b),
        (log_p_a, log_p_b),
        target_ids=inputs.captures[0].read(["token_id"])["token_id"],
        target_log_p=np.stack([target_a, target_b]),
    )
    rng = np.random.default_rng([config.seed, 101])
    ranks = 2 * np.pi * np.stack(list(gaps_in_memory(gaps, offsets, seed=config.seed).ranks))
    entropies = None
    if all("entropy" in capture.columns for capture in inputs.captures):
        entropies = np.stack([c.read(["entropy"])["entropy"].astype(np.float64) for c in inputs.captures])
    return PairRows(
        known=known,
        gaps=gaps,
        shifted_gaps=np.stack([circular_shift(row, offsets, rng) for row in gaps]),
        random_coherence=np.cos(rng.uniform(0, 2 * np.pi, gaps.shape[1])),
        offsets=offsets,
        entropies=entropies,
        quantile_phases=ranks,
        shifted_quantile_phases=np.stack([circular_shift(row, offsets, rng) for row in ranks]),
        table=load_table(config.phase),
    )


def _test(config: AnalysisStageConfig, inputs: PairInputs) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    evaluation, seed = config.evaluation, config.seed
    with progress.steps("discriminate", 16 + len(MAPS), enabled=config.progress) as step:
        step("align top-k")
        check_rows(inputs)
        rows = pair_rows(inputs, config)
        doc_ids = inputs.documents.doc_ids
        folds = assign_folds(doc_ids, evaluation.n_folds, seed) if evaluation.tune else None
        if folds is not None and np.unique(folds).size < 2:
            raise UndefinedStatisticError("documents", "rules are tuned on other documents, and all are in one fold")
        controls = None
        if evaluation.controls and evaluation.tune:
            step("planted controls")
            controls = discrimination_controls(
                shape_of(gaps_in_memory(rows.gaps, rows.offsets, seed=seed)),
                delta_nats=evaluation.delta_nats,
                evaluation=evaluation,
                seed=seed,
                runs_dir=Path(config.runs_dir),
            )
        gates = Gates(
            n_documents=len(doc_ids),
            min_documents=evaluation.min_documents,
            controls=controls_state(controls),
            failed="" if evaluation.tune else "not tuned",
        )
        result = run_rules(
            rows,
            config.phase,
            folds=folds,
            all_maps=True,
            gates=gates,
            delta_nats=evaluation.delta_nats,
            evaluation=evaluation,
            seed=seed,
            on_rule=step,
        )
    summary = discrimination_summary(inputs, config, rows, result, gates=gates, controls=controls, folds=folds)
    return summary, discrimination_tables(rows, result, config)
