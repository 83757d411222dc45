"""What the Phase Coherence Test writes down: results.json and the tables that figures read."""

from dataclasses import asdict
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths import circular
from brf_exp.maths.coherence import CoherenceResult
from brf_exp.maths.decisions import joint_verdict
from brf_exp.maths.documents import positions_within
from brf_exp.maths.kuramoto import KuramotoResult
from brf_exp.maths.phases import phases
from brf_exp.maths.resampling import RatioTest, effective_df, holm
from brf_exp.stages import planning
from brf_exp.stages.pair_test import PairTest, PhaseData
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.phase_maps import load_table
from brf_exp.stages.phase_test import MapResult, is_robust
from brf_exp.stages.sentences import coherence_sentence, joint_sentence, scope
from brf_exp.stages.subject import tested_subject

COHERENCE_SCHEMA = 2
# Positions whose gaps and phases are kept for figures and notebooks: whole documents, evenly spaced.
MAX_TABLE_POSITIONS = 2**20


def coherence_summary(
    inputs: PairInputs,
    config: AnalysisStageConfig,
    data: PhaseData,
    tested: list[PairTest],
    together: KuramotoResult | None,
    controls: dict[str, Any] | None,
) -> dict[str, Any]:
    """results.json: the first pair of models at the top level, and every pair where there are more than two models."""
    first, test = tested[0], tested[0].test
    verdicts = [pair.primary.verdict for pair in tested]
    where = scope(inputs.name, inputs.corpus_name, first.primary.name)
    verdict = joint_verdict(test.gates, verdicts)
    sentence = coherence_sentence(verdict, where) if len(tested) == 1 else joint_sentence(verdicts, verdict, where)
    summary = {
        "schema": 1,
        "stage": "coherence",
        "pair": inputs.name,
        "corpus": inputs.corpus_name,
        "models": list(data.rows.models),
        "tested": tested_subject(inputs),
        "proxy": _proxy_name(first),
        "aligned_share": inputs.aligned.share_aligned if inputs.aligned else None,
        "aligned_positions": _aligned_positions(inputs),
        "identical_models": [list(names) for names in data.identical],
        "lineage": inputs.lineage,
        "n_positions": int(data.rows.offsets[-1]),
        "n_documents": len(data.rows.documents.doc_ids),
        "effective_df": effective_df(np.diff(data.rows.offsets)) if data.rows.offsets.size > 2 else None,
        "pseudo_documents": data.pseudo_documents,
        "tie_fractions": [distribution.tie_fraction for distribution in data.distributions],
        "largest_ties": [distribution.largest_atom for distribution in data.distributions],
        "median_gaps": [float(distribution.quantile(0.5)) for distribution in data.distributions],
        **_pair_summary(first),
        "gates": asdict(test.gates),
        "controls": controls,
        "delta": config.claims.delta,
        "confidence_level": test.evaluation.confidence_level,
        "alpha": test.alpha,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "sentence": sentence,
        "robust": all(is_robust(pair.maps, alpha=test.alpha) for pair in tested),
        "planning": planning.plan(first.primary, delta=config.claims.delta, alpha=test.alpha),
    }
    if len(tested) > 1:
        summary["pairs"] = [_named_pair(pair, data, inputs) for pair in tested]
        summary["kuramoto"] = _kuramoto_summary(together)
    return summary


def _aligned_positions(inputs: PairInputs) -> dict[str, Any] | None:
    """How many positions of different tokenizers were matched, and their share of each model's; or None."""
    found = inputs.aligned_rows
    return found and {name: found[name] for name in ("by", "n_positions", "share")}


def _proxy_name(pair: PairTest) -> str | None:
    return ", ".join(pair.proxies) or None


def _named_pair(pair: PairTest, data: PhaseData, inputs: PairInputs) -> dict[str, Any]:
    """One pair of several, with its own verdict."""
    names = [data.rows.models[model] for model in pair.models]
    where = scope("-".join(names), inputs.corpus_name, pair.primary.name)
    return {
        "models": names,
        "proxy": _proxy_name(pair),
        **_pair_summary(pair),
        "verdict": pair.primary.verdict.verdict,
        "reason": pair.primary.verdict.reason,
        "sentence": coherence_sentence(pair.primary.verdict, where),
        "robust": is_robust(pair.maps, alpha=pair.test.alpha),
    }


def _pair_summary(pair: PairTest) -> dict[str, Any]:
    left, primary = pair.left, pair.primary
    return {
        "primary": primary.name,
        "phases": {result.name: _map_summary(result) for result in pair.maps},
        "specification": _specification(pair),
        "negative_control_rate": primary.negative_control_rate,
        "negative_control": "P1, P2 and reliability" if left else "P1",
        "rank_correlation": ratio_summary(left.rank_correlation) if left else None,
        "reliability_curve": [asdict(point) for point in left.reliability] if left else None,
        "secondary": _secondary(pair),
    }


def _map_summary(result: MapResult) -> dict[str, Any]:
    rayleigh, plain = result.rayleigh, result.plain
    circle = dict.fromkeys(("resultant_length", "mean_direction_rad", "rayleigh_z", "rayleigh_pvalue"))
    ppc = None
    if rayleigh is not None:
        circle = {
            "resultant_length": rayleigh.resultant_length,
            "mean_direction_rad": rayleigh.mean_direction_rad,
            "rayleigh_z": rayleigh.statistic,
            "rayleigh_pvalue": rayleigh.pvalue,
        }
        ppc = circular.pairwise_phase_consistency(rayleigh.n, rayleigh.resultant_length)
    return {
        "scale": result.scale,
        **circle,
        "rayleigh_log_pvalue": rayleigh.log_pvalue if rayleigh else None,
        "v_test_pvalue": result.v_pvalue,
        "ppc": ppc,
        "negative_control_rate": result.negative_control_rate,
        "verdict": result.verdict.verdict,
        "reason": result.verdict.reason,
        **_coherence_summary(plain),
        "residual": _coherence_summary(result.residual) if result.residual else None,
    }


def _coherence_summary(result: CoherenceResult | None) -> dict[str, Any]:
    names = "resultant_length_independent nulls null excess excess_raw excess_interval excess_share"
    names += " excess_share_interval minimum_detectable_share document_test effective_n"
    if result is None:
        return dict.fromkeys(names.split())
    shift, repairing = result.shift, result.repairing
    nulls = {
        "shift": {
            "n": 0,
            "mean": shift.mean,
            "pvalue": shift.pvalue,
            "log_pvalue": shift.log_pvalue,
            "statistic": shift.statistic,
            "df": shift.df,
        },
        "repairing": {"n": repairing.n, "mean": repairing.mean, "pvalue": repairing.pvalue},
    }
    return {
        "resultant_length_independent": result.resultant_length_independent,
        "nulls": nulls,
        "null": {"kind": result.null_kind, **nulls[result.null_kind]},
        "excess": result.excess,
        "excess_raw": result.excess_raw,
        "excess_interval": list(result.interval),
        "excess_share": result.excess / result.possible,
        "excess_share_interval": list(result.share_interval),
        "minimum_detectable_share": result.minimum_detectable_share,
        "document_test": ratio_summary(result.test),
        "effective_n": result.effective_n,
    }


def ratio_summary(test: RatioTest) -> dict[str, Any]:
    """A ratio's test as JSON."""
    return {**asdict(test), "interval": list(test.interval)}


def _specification(pair: PairTest) -> list[dict[str, Any]]:
    """Every map and scale: effect beyond what is trivial, with and without difficulty, and the verdict there."""
    tested = [(factor, result) for factor, result in pair.specification if result.plain is not None]
    if not tested:
        return []
    adjusted = holm(np.array([result.plain.pvalue for _, result in tested if result.plain]))
    return [_specified(factor, result, p) for (factor, result), p in zip(tested, adjusted, strict=True)]


def _specified(factor: float | None, result: MapResult, adjusted: float) -> dict[str, Any]:
    plain, residual = result.plain, result.residual
    assert plain is not None
    return {
        "map": result.name,
        "scale": result.scale,
        "scale_factor": factor,
        "share": plain.excess / plain.possible,
        "share_interval": list(plain.share_interval),
        "pvalue": plain.pvalue,
        "pvalue_adjusted": float(adjusted),
        "residual_share": residual.excess / residual.possible if residual else None,
        "residual_share_interval": list(residual.share_interval) if residual else None,
        "verdict": result.verdict.verdict,
        "reason": result.verdict.reason,
    }


def _secondary(pair: PairTest) -> dict[str, Any] | None:
    found, plain = pair.secondary, pair.primary.plain
    if found is None or plain is None:
        return None
    pairing, permutation = plain.pairing, found.document_permutation
    return {
        "cluster_ppc": circular.cluster_ppc(pairing.sums[0], pairing.lengths),
        "cluster_ppc_excess": circular.cluster_ppc(pairing.excess, pairing.lengths),
        "sign_flip_pvalue": found.sign_flip_pvalue,
        "document_permutation": asdict(permutation) if permutation else None,
        "harmonics": [asdict(harmonic) for harmonic in found.harmonics],
    }


def _kuramoto_summary(found: KuramotoResult | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "mean": found.mean,
        "shifted_mean": found.shifted_mean,
        "n_shifts": found.n_shifts,
        "excess_squared": ratio_summary(found.excess_squared),
        "shift_pvalue": found.shift_pvalue,
        "counts": found.counts,
        "shifted_counts": found.shifted_counts,
    }


def coherence_tables(config: AnalysisStageConfig, data: PhaseData, first: PairTest) -> dict[str, dict[str, Any]]:
    """Per position of the first pair, and the re-pairing draws of its primary map."""
    primary = first.primary
    tables = {"positions": _positions(config, data, first)}
    if primary.plain is not None:
        draws = {"excess": primary.plain.repairing.draws}
        if primary.residual is not None:
            draws["residual_excess"] = primary.residual.repairing.draws
        tables["repairings"] = draws
    return tables


def _positions(config: AnalysisStageConfig, data: PhaseData, first: PairTest) -> dict[str, Any]:
    """Gaps, phases and residual gaps of at most MAX_TABLE_POSITIONS positions."""
    rows, documents = _sampled(data)
    gaps = [data.rows.gaps[model][rows] for model in first.models]
    columns = {
        "document": documents,
        "position": _places(data)[rows],
        "gap_a": gaps[0],
        "gap_b": gaps[1],
    }
    primary = first.primary
    if primary.plain is not None:
        table = load_table(config.phase)
        ranks = [data.ranks[model][rows] for model in first.models]
        for name, gap, rank in zip("ab", gaps, ranks, strict=True):
            columns[f"phase_{name}_rad"] = phases(primary.name, gap, scale=primary.scale, table=table, ranks=rank)
    if first.left is not None:
        for name, values in zip("ab", first.left.gaps.values, strict=True):
            columns[f"residual_gap_{name}"] = values[rows]
    return columns


def _sampled(data: PhaseData) -> tuple[Any, np.ndarray]:
    """Rows that tables keep, and the document of each."""
    offsets = data.rows.offsets
    lengths, n = np.diff(offsets), int(offsets[-1])
    numbers = np.arange(lengths.size, dtype=np.int32)
    if n <= MAX_TABLE_POSITIONS:
        return slice(0, n), np.repeat(numbers, lengths)
    keep = max(1, int(lengths.size * MAX_TABLE_POSITIONS / n))
    chosen = np.linspace(0, lengths.size - 1, keep).round().astype(np.int64)
    rows = np.concatenate([np.arange(offsets[d], offsets[d + 1]) for d in chosen])
    return rows, np.repeat(numbers[chosen], lengths[chosen])


def _places(data: PhaseData) -> np.ndarray:
    return positions_within(data.rows.offsets).astype(np.int32)
