"""The Phase Coherence Test of every pair of models in matched captures: data in, results in memory out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig, EvaluationConfig
from brf_exp.maths.decisions import Gates, undecided
from brf_exp.maths.distribution import GapDistribution, gap_distribution
from brf_exp.maths.documents import assign_folds, cut_into_blocks, document_chunks, lengths_of
from brf_exp.maths.kuramoto import KuramotoResult, kuramoto
from brf_exp.maths.pairing import true_pairing
from brf_exp.maths.phases import MAPS, PARAMETRIC_MAPS, PhaseTable, Phasors
from brf_exp.maths.secondary import (
    DocumentPermutation,
    HarmonicResult,
    document_permutation,
    harmonics,
    sign_flip_pvalue,
)
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.controls import coherence_controls, controls_state, shape_of
from brf_exp.stages.covariates import token_covariates
from brf_exp.stages.gap_rows import GapRows, read_gap_rows
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.phase_maps import load_table
from brf_exp.stages.phase_test import ALPHA, Gaps, MapResult, PhaseTest, Residuals, residuals, uniform_ranks
from brf_exp.storage.captures import DocumentIndex
from brf_exp.storage.scratch import SCRATCH, Scratch

N_PSEUDO_DOCUMENTS = 20
MAX_PSEUDO_ROWS = 65536
SCALE_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
N_KURAMOTO_SHIFTS = 100
# With several pairs the levels are lower, and p-values of counted draws must be able to get there.
MAX_REPAIRING_FACTOR = 10
# Data that define no phases: nothing is computed from them.
IMPOSSIBLE = ("constant gaps", "documents of one token")


@dataclass(frozen=True)
class PhaseData:
    """Matched rows with each model's distribution of gaps and its ranks (M, n)."""

    rows: GapRows
    distributions: list[GapDistribution]
    ranks: np.ndarray
    pseudo_documents: bool
    identical: tuple[tuple[str, str], ...]
    proxy_is_tested: bool
    scratch: Scratch

    def gaps_of(self, first: int, second: int) -> Gaps:
        """Gaps and ranks of two models."""
        chosen = (first, second)
        return Gaps(
            [self.rows.gaps[model] for model in chosen],
            [self.ranks[model] for model in chosen],
            [self.distributions[model] for model in chosen],
            self.rows.offsets,
        )


@dataclass(frozen=True)
class Secondary:
    """Statistics of the primary map that decide nothing; None where a test does not exist for these data."""

    harmonics: list[HarmonicResult]
    document_permutation: DocumentPermutation | None
    sign_flip_pvalue: float


@dataclass(frozen=True)
class PairTest:
    """All that was found for one pair of models: every map, the primary first, and every map at other scales."""

    models: tuple[int, int]
    test: PhaseTest
    maps: list[MapResult]
    specification: list[tuple[float | None, MapResult]]
    left: Residuals | None
    proxies: list[str]
    secondary: Secondary | None

    @property
    def primary(self) -> MapResult:
        """The map that decides."""
        return self.maps[0]


def read_phase_data(config: AnalysisStageConfig, inputs: PairInputs) -> PhaseData:
    """One pass over the captures; a single document is cut into pseudo-documents."""
    scratch = Scratch(Path(config.runs_dir) / SCRATCH, memory_mb=config.memory_mb)
    rows, pseudo = read_gap_rows(inputs, scratch), inputs.pseudo_documents
    if len(rows.documents.doc_ids) == 1:
        rows, pseudo = replace(rows, documents=_pseudo_documents(int(rows.offsets[-1]))), True
    pieces = [slice(int(rows.offsets[d.start]), int(rows.offsets[d.stop])) for d in document_chunks(rows.offsets)]
    distributions = [gap_distribution(row[piece] for piece in pieces) for row in rows.gaps]
    ranks = uniform_ranks(rows.gaps, distributions, rows.offsets, scratch, seed=config.seed)
    return PhaseData(rows, distributions, ranks, pseudo, inputs.identical, inputs.proxy_is_tested, scratch)


def _pseudo_documents(n_rows: int) -> DocumentIndex:
    """Blocks of one long document: at least 20, of at least two rows, and short enough for a transform."""
    n_blocks = max(N_PSEUDO_DOCUMENTS, -(-n_rows // MAX_PSEUDO_ROWS))
    offsets = cut_into_blocks(n_rows, max(1, min(n_blocks, n_rows // 2)))
    return DocumentIndex(tuple(str(block) for block in range(offsets.size - 1)), offsets)


def phase_test_of(
    data: PhaseData, config: AnalysisStageConfig, controls: dict[str, Any] | None, n_pairs: int
) -> PhaseTest:
    """The settings of every pair's test: with several pairs, levels are divided among them (Bonferroni)."""
    evaluation = config.evaluation
    level = 1 - (1 - evaluation.confidence_level) / n_pairs
    return PhaseTest(
        gates=Gates(
            n_documents=len(data.rows.documents.doc_ids),
            min_documents=evaluation.min_documents,
            controls=controls_state(controls) if evaluation.controls or controls else "not run",
            failed=failed_gate(data),
        ),
        delta=config.claims.delta,
        pseudo_documents=data.pseudo_documents,
        evaluation=replace(
            evaluation,
            confidence_level=level,
            n_repairings=evaluation.n_repairings * min(n_pairs, MAX_REPAIRING_FACTOR),
        ),
        seed=config.seed,
        alpha=ALPHA / n_pairs,
    )


def failed_gate(data: PhaseData) -> str:
    """The first property of the data that the tests do not cover, or an empty string."""
    lengths = lengths_of(data.rows.offsets)
    if any(distribution.largest_atom == 1 for distribution in data.distributions):
        return "constant gaps"
    if lengths.max() == 1:
        return "documents of one token"
    if data.identical:
        return "identical models"
    if data.proxy_is_tested:
        return "proxy under test"
    rho = max(data.gaps_of(first, second).autocorrelation() for first, second in pairs_of(data))
    return "document length" if float(np.median(lengths)) < 5 / (1 - min(rho, 0.999)) else ""


def pairs_of(data: PhaseData) -> list[tuple[int, int]]:
    """All pairs of models, by their places."""
    return list(combinations(range(len(data.rows.models)), 2))


def planted_controls(data: PhaseData, config: AnalysisStageConfig) -> dict[str, Any]:
    """The planted worlds, shaped like the first pair."""
    return coherence_controls(
        shape_of(data.gaps_of(0, 1)),
        delta=config.claims.delta,
        evaluation=config.evaluation,
        seed=config.seed,
        runs_dir=Path(config.runs_dir),
    )


def pair_test_of(
    data: PhaseData,
    first: int,
    second: int,
    test: PhaseTest,
    config: AnalysisStageConfig,
    step: Callable[[str], None],
) -> PairTest:
    """The whole test of one pair of models."""
    phase, table, gaps = config.phase, load_table(config.phase), data.gaps_of(first, second)
    names = [phase.name, *(name for name in MAPS if name != phase.name)]
    if test.gates.failed in IMPOSSIBLE:
        return _nothing(test, first, second, names, test.gates.failed)
    step("residuals")
    try:
        left = pair_residuals(data, gaps, first, second, config, test.evaluation)
    except UndefinedStatisticError as error:
        return _nothing(test, first, second, names, error.reason)
    maps = []
    for name in names:
        step(f"map {name}")
        scale = phase.scale if name == phase.name else None
        maps.append(test.run(name, gaps, left, scale=scale, table=table))
    step("other scales")
    specification = _specification(test, gaps, left, maps, table)
    if left is not None and (first, second) != (0, 1):
        left = left.without_rows()  # tables keep the first pair's
    return PairTest(
        models=(first, second),
        test=test,
        maps=maps,
        specification=specification,
        left=left,
        proxies=[signals.model for signals in data.rows.proxies_of(first, second)],
        secondary=_secondary(test, gaps, maps[0], table),
    )


def _nothing(test: PhaseTest, first: int, second: int, names: list[str], reason: str) -> PairTest:
    """The result where the data define no test."""
    verdict = undecided(test.gates, reason)
    maps = [MapResult(name, None, None, None, None, None, None, verdict) for name in names]
    return PairTest((first, second), test, maps, [], None, [], None)


def pair_residuals(
    data: PhaseData, gaps: Gaps, first: int, second: int, config: AnalysisStageConfig, evaluation: EvaluationConfig
) -> Residuals | None:
    """Residual gaps, where there is another model to tell how hard a token is, and documents to fit on."""
    proxies = data.rows.proxies_of(first, second)
    n_documents = len(data.rows.documents.doc_ids)
    if not proxies or n_documents < 2:
        return None
    folds = assign_folds(data.rows.documents.doc_ids, min(evaluation.n_folds, n_documents), config.seed)
    if np.unique(folds).size < 2:
        return None
    covariates = token_covariates(data.rows, proxies, folds)
    return residuals(gaps, [covariates, covariates], evaluation, data.scratch, seed=config.seed)


def _specification(
    test: PhaseTest, gaps: Gaps, left: Residuals | None, maps: list[MapResult], table: PhaseTable | None
) -> list[tuple[float | None, MapResult]]:
    """Every map at multiples of its scale; the negative control is the one measured at the scale itself."""
    found: list[tuple[float | None, MapResult]] = []
    for result in maps:
        if result.name not in PARAMETRIC_MAPS or result.scale is None or result.plain is None:
            found.append((None, result))
            continue
        for factor in SCALE_FACTORS:
            scaled = result
            if factor != 1:
                rate = result.negative_control_rate
                scale = factor * result.scale
                scaled = test.run(result.name, gaps, left, scale=scale, table=table, negative_control=rate)
            found.append((factor, scaled))
    return found


def _secondary(test: PhaseTest, gaps: Gaps, primary: MapResult, table: PhaseTable | None) -> Secondary | None:
    """What is reported beside the primary map's decision."""
    if primary.plain is None:
        return None
    phasors = gaps.phasors(primary.name, primary.scale, table)
    try:
        permutation = document_permutation(*phasors, gaps.offsets)
    except UndefinedStatisticError:
        permutation = None
    flip = sign_flip_pvalue(
        primary.plain.pairing,
        null_value=primary.plain.repairing.mean,
        null_variance=primary.plain.repairing.mean_variance(),
        n_resamples=test.evaluation.n_resamples,
        rng=np.random.default_rng([test.seed, 33]),
    )
    return Secondary(harmonics(*phasors, gaps.offsets), permutation, flip)


def kuramoto_of(data: PhaseData, tested: list[PairTest], config: AnalysisStageConfig) -> KuramotoResult | None:
    """Order of all models' phases together, under the primary map at the first pair's scale; None where undefined."""
    primary, table = tested[0].primary, load_table(config.phase)
    if primary.plain is None:
        return None
    rows = data.ranks if primary.name == "quantile" else data.rows.gaps
    phasors = [Phasors(primary.name, row, primary.scale, table) for row in rows]
    offsets = data.rows.offsets
    pairings = [true_pairing(phasors[first], phasors[second], offsets) for first, second in pairs_of(data)]
    try:
        return kuramoto(
            phasors,
            pairings,
            offsets,
            n_shifts=N_KURAMOTO_SHIFTS,
            confidence_level=config.evaluation.confidence_level,
            n_resamples=config.evaluation.n_resamples,
            rng=np.random.default_rng([config.seed, 34]),
        )
    except UndefinedStatisticError:
        return None
