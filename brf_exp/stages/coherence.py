"""Stage `coherence`: the Phase Coherence Test of a pair, over all phase maps."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig, CoherenceStageConfig, PhaseConfig
from brf_exp.errors import InputError
from brf_exp.maths import circular
from brf_exp.maths.coherence import CoherenceResult
from brf_exp.maths.decisions import Gates
from brf_exp.maths.documents import Offsets, assign_folds, autocorrelation, cut_into_blocks, positions_within
from brf_exp.maths.phases import MAPS, PhaseTable, normal_scores, tie_fraction
from brf_exp.stages import progress
from brf_exp.stages.controls import coherence_controls, controls_state, shape_of
from brf_exp.stages.covariates import covariates
from brf_exp.stages.finish import once
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.stages.phase_test import Covariates, MapResult, Residuals, is_robust, residuals, run_map
from brf_exp.stages.sentences import coherence_sentence, scope
from brf_exp.storage.runs import content_key, stage_folder
from brf_exp.storage.tables import read_csv

COHERENCE_SCHEMA = 1
N_PSEUDO_DOCUMENTS = 20


def run(config: CoherenceStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    return coherence_of(config, resolve_pair(config))


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


def analysis_identity(config: AnalysisStageConfig, inputs: PairInputs) -> dict[str, Any]:
    """What both tests' results depend on."""
    return {
        "inputs": inputs.identity(),
        "phase": phase_identity(config.phase),
        "evaluation": asdict(config.evaluation),
        "seed": config.seed,
    }


def phase_identity(phase: PhaseConfig) -> dict[str, Any]:
    """What determines a phase map: name, scale, and a table's values rather than its path."""
    table = load_table(phase)
    values = None if table is None else [table.gaps.tolist(), table.phases_rad.tolist()]
    return {"name": phase.name, "scale": phase.scale, "table": values}


def load_table(phase: PhaseConfig) -> PhaseTable | None:
    """The user's own phase map, where `phase=table`."""
    if phase.name != "table":
        return None
    if not phase.table or not Path(phase.table).is_file():
        raise InputError(f"`phase.table` must be a CSV file with columns gap,phase, got {phase.table!r}.")
    try:
        rows = read_csv(Path(phase.table), ["gap", "phase"])
        return PhaseTable(rows["gap"], rows["phase"])
    except (KeyError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise InputError(f"`phase.table` must be a CSV file with columns gap,phase: {phase.table}: {text}.") from error


def _test(config: AnalysisStageConfig, inputs: PairInputs) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    gaps, offsets, pseudo = inputs.gaps(), inputs.documents.offsets, inputs.pseudo_documents
    if offsets.size == 2:
        offsets, pseudo = cut_into_blocks(gaps.shape[1], N_PSEUDO_DOCUMENTS), True
    evaluation, seed = config.evaluation, config.seed
    with progress.steps("coherence", 3 + len(MAPS), enabled=config.progress) as step:
        step("planted controls")
        controls = None
        if evaluation.controls:
            shape = shape_of(gaps, offsets, seed)
            controls = coherence_controls(
                shape, delta=config.claims.delta, evaluation=evaluation, seed=seed, runs_dir=Path(config.runs_dir)
            )
        gates = _gates(gaps, offsets, controls, config)
        step("residuals")
        left = _residuals(inputs, gaps, offsets, config)
        table = load_table(config.phase)
        results = []
        for name in (config.phase.name, *[m for m in MAPS if m != config.phase.name]):
            step(f"map {name}")
            results.append(
                run_map(
                    name,
                    gaps,
                    offsets,
                    left,
                    scale=config.phase.scale if name == config.phase.name else None,
                    table=table,
                    gates=gates,
                    delta=config.claims.delta,
                    pseudo_documents=pseudo,
                    evaluation=evaluation,
                    seed=seed,
                )
            )
    summary = _summary(inputs, config, results, left, gates, controls, gaps, offsets, pseudo)
    return summary, _tables(gaps, offsets, left, results)


def _gates(gaps: np.ndarray, offsets: Offsets, controls: dict[str, Any] | None, config: AnalysisStageConfig) -> Gates:
    rho = max(
        autocorrelation(normal_scores(row, np.random.default_rng([config.seed, 91, m])), offsets)
        for m, row in enumerate(gaps)
    )
    least = 5 / (1 - min(rho, 0.999))
    too_short = float(np.median(np.diff(offsets))) < least
    return Gates(
        n_documents=offsets.size - 1,
        min_documents=config.evaluation.min_documents,
        controls=controls_state(controls),
        failed="document length" if too_short else "",
    )


def _residuals(inputs: PairInputs, gaps: np.ndarray, offsets: Offsets, config: AnalysisStageConfig) -> Residuals | None:
    """Residual gaps, where there is a third model to tell how hard a token is."""
    if inputs.proxy is None:
        return None
    first = inputs.captures[0]
    token_id = first.read(["token_id"])["token_id"].astype(np.int64) if "token_id" in first.columns else None
    features, categorical = covariates(inputs.proxy, token_id, offsets)
    names = [f"{d}" for d in range(offsets.size - 1)]
    if offsets.size - 1 == len(inputs.documents.doc_ids):
        names = list(inputs.documents.doc_ids)
    folds = assign_folds(names, config.evaluation.n_folds, config.seed)
    return residuals(gaps, Covariates(features, categorical, folds), offsets, config.evaluation, seed=config.seed)


def _summary(
    inputs: PairInputs,
    config: AnalysisStageConfig,
    results: list[MapResult],
    left: Residuals | None,
    gates: Gates,
    controls: dict[str, Any] | None,
    gaps: np.ndarray,
    offsets: Offsets,
    pseudo: bool,
) -> dict[str, Any]:
    primary = results[0]
    corpus = inputs.corpus_name
    return {
        "schema": COHERENCE_SCHEMA,
        "stage": "coherence",
        "pair": inputs.name,
        "corpus": corpus,
        "models": [capture.model_name for capture in inputs.captures],
        "proxy": inputs.proxy.model_name if inputs.proxy else None,
        "lineage": inputs.lineage,
        "n_positions": int(gaps.shape[1]),
        "n_documents": int(offsets.size - 1),
        "pseudo_documents": pseudo,
        "tie_fractions": [tie_fraction(row) for row in gaps],
        "median_gaps": [float(np.median(row)) for row in gaps],
        "phases": {result.name: _map_summary(result) for result in results},
        "negative_control_rate": primary.negative_control_rate,
        "negative_control": "P1 and P2" if left else "P1",
        "rank_correlation": _ratio_summary(left.rank_correlation) if left else None,
        "reliability_curve": [asdict(point) for point in left.reliability] if left else None,
        "gates": asdict(gates),
        "controls": controls,
        "delta": config.claims.delta,
        "primary": primary.name,
        "verdict": primary.verdict.verdict,
        "reason": primary.verdict.reason,
        "sentence": coherence_sentence(primary.verdict, scope(inputs.name, corpus, primary.name)),
        "robust": is_robust(results),
    }


def _map_summary(result: MapResult) -> dict[str, Any]:
    rayleigh = result.rayleigh
    return {
        "scale": result.scale,
        "resultant_length": rayleigh.resultant_length,
        "mean_direction_rad": rayleigh.mean_direction_rad,
        "rayleigh_z": rayleigh.statistic,
        "rayleigh_pvalue": rayleigh.pvalue,
        "rayleigh_log_pvalue": rayleigh.log_pvalue,
        "v_test_pvalue": result.v_pvalue,
        "ppc": circular.pairwise_phase_consistency(rayleigh.n, rayleigh.resultant_length),
        "harmonic_lengths": result.harmonics,
        "negative_control_rate": result.negative_control_rate,
        "verdict": result.verdict.verdict,
        "reason": result.verdict.reason,
        **_coherence_summary(result.plain),
        "residual": _coherence_summary(result.residual) if result.residual else None,
    }


def _coherence_summary(result: CoherenceResult) -> dict[str, Any]:
    nulls = {
        "shift": {
            "n": 0,
            "mean": result.shift.mean,
            "pvalue": result.shift.pvalue,
            "log_pvalue": -result.shift.statistic / 2,
        },
        "repairing": {
            "n": result.repairing.n,
            "mean": result.repairing.mean,
            "pvalue": result.repairing.pvalue,
        },
    }
    return {
        "resultant_length_independent": result.resultant_length_independent,
        "nulls": nulls,
        "null": {"kind": result.null_kind, **nulls[result.null_kind]},
        "excess": result.excess,
        "excess_raw": result.excess_raw,
        "excess_interval": list(result.interval),
        "excess_share_interval": list(result.share_interval),
        "minimum_detectable_share": result.minimum_detectable_share,
        "document_test": _ratio_summary(result.test),
        "effective_n": result.effective_n,
    }


def _ratio_summary(test: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(test).items() if name != "interval"} | {
        "interval": list(test.interval)
    }


def _tables(
    gaps: np.ndarray, offsets: Offsets, left: Residuals | None, results: list[MapResult]
) -> dict[str, dict[str, Any]]:
    """What figures and notebooks read: per position, and the re-pairing draws of the primary map."""
    primary = results[0]
    positions = {
        "document": np.repeat(np.arange(offsets.size - 1, dtype=np.int32), np.diff(offsets)),
        "position": positions_within(offsets).astype(np.int32),
        "gap_a": gaps[0],
        "gap_b": gaps[1],
        "phase_a_rad": primary.phases_rad[0],
        "phase_b_rad": primary.phases_rad[1],
    }
    if left is not None:
        positions |= {"residual_gap_a": left.gaps[0], "residual_gap_b": left.gaps[1]}
    draws = {"excess": primary.plain.repairing.draws}
    if primary.residual is not None:
        draws["residual_excess"] = primary.residual.repairing.draws
    return {"positions": positions, "repairings": draws}
