"""The Phase Coherence Test on gaps and covariates: what `coherence`, its planted worlds and calibration all run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from brf_exp.config import EvaluationConfig
from brf_exp.maths import circular
from brf_exp.maths.coherence import CoherenceResult, Repairings, coherence, rejects_at, share_lower_ends
from brf_exp.maths.decisions import (
    CoherenceEvidence,
    Gates,
    Verdict,
    coherence_verdict,
    undecided,
)
from brf_exp.maths.difficulty import (
    ReliabilityPoint,
    difficulty_sums,
    pair_difficulty_sums,
    partial_rank_correlation,
    reliability_curve,
    survives,
    survives_at,
)
from brf_exp.maths.distribution import GapDistribution, gap_distribution, scale_of
from brf_exp.maths.documents import Offsets, autocorrelation, centred, document_chunks, document_sums
from brf_exp.maths.phases import PhaseTable, Phasors
from brf_exp.maths.resampling import RatioTest, holm
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.covariates import Covariates, cross_fitted_prediction
from brf_exp.storage.scratch import Scratch

ALPHA = 0.05
N_CONTROL_RESAMPLES = 499  # of each derangement that the negative control has to decide


@dataclass(frozen=True)
class Gaps:
    """Gaps of two models and their uniform ranks in each model's own distribution; two arrays (n,) each."""

    values: Sequence[np.ndarray]
    ranks: Sequence[np.ndarray]
    distributions: Sequence[GapDistribution]
    offsets: Offsets

    def phasors(self, name: str, scale: float | None, table: PhaseTable | None) -> tuple[Phasors, Phasors]:
        """Both models' phasors under a map."""
        rows = self.ranks if name == "quantile" else self.values
        first, second = (Phasors(name, row, scale, table) for row in rows)
        return first, second

    def scale_of(self, name: str, scale: float | None) -> float | None:
        """The scale a map is used with: the one set, else the pooled median gap; None for maps without one."""
        return scale_of(name, scale, self.distributions)

    def scores(self) -> tuple["NormalScores", "NormalScores"]:
        """Both models' normal scores."""
        first, second = (NormalScores(row) for row in self.ranks)
        return first, second

    def autocorrelation(self) -> float:
        """Lag-one autocorrelation of normal scores within documents: the larger of the two models'."""
        return max(autocorrelation(_chunks(score, self.offsets)) for score in self.scores())


@dataclass(frozen=True)
class NormalScores:
    """Standard normal quantiles of uniform ranks, worked out where they are sliced."""

    ranks: np.ndarray

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Normal scores of these rows."""
        return stats.norm.ppf(self.ranks[rows])


def uniform_ranks(
    gaps: np.ndarray, distributions: Sequence[GapDistribution], offsets: Offsets, scratch: Scratch, *, seed: int
) -> np.ndarray:
    """Uniform ranks of M models' gaps (M, n), in scratch; each model breaks its ties with a Generator of its own."""
    ranks = scratch.empty(gaps.shape)
    for model, (row, out) in enumerate(zip(gaps, ranks, strict=True)):
        rng = np.random.default_rng([seed, 12, model])
        for documents in document_chunks(offsets):
            rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
            out[rows] = distributions[model].uniform_ranks(row[rows], rng)
    return ranks


def gaps_in_memory(gaps: np.ndarray, offsets: Offsets, *, seed: int) -> Gaps:
    """Gaps (2, n) that are held in memory, with distributions and ranks of their own."""
    distributions = [gap_distribution([row]) for row in gaps]
    ranks = uniform_ranks(gaps, distributions, offsets, Scratch.in_memory(), seed=seed)
    return Gaps(list(gaps), list(ranks), distributions, offsets)


def _chunks(rows: Any, offsets: Offsets) -> Iterator[tuple[np.ndarray, Offsets]]:
    """Rows of consecutive documents with their own offsets."""
    for documents in document_chunks(offsets):
        start, stop = int(offsets[documents.start]), int(offsets[documents.stop])
        yield rows[start:stop], offsets[documents.start : documents.stop + 1] - start


@dataclass(frozen=True)
class Residuals:
    """What is left of the gaps beyond shared difficulty, and how far the proxy must be trusted.

    `predictions` (2, n): what the covariates say of each model's normal scores.
    """

    gaps: Gaps
    predictions: np.ndarray
    rank_correlation: RatioTest
    reliability: list[ReliabilityPoint]

    def without_rows(self) -> "Residuals":
        """The same statistics, with the arrays as long as the data let go."""
        nothing = [np.empty(0), np.empty(0)]
        return replace(self, gaps=replace(self.gaps, values=nothing, ranks=nothing), predictions=np.empty((2, 0)))


def residuals(
    gaps: Gaps,
    covariates: Sequence[Covariates],
    evaluation: EvaluationConfig,
    scratch: Scratch,
    *,
    seed: int,
) -> Residuals:
    """Residual gaps of both models: each is residualised on its own covariates, before any re-pairing.

    Raises UndefinedStatisticError where the covariates leave nothing.
    """
    offsets, scores = gaps.offsets, gaps.scores()
    predictions, ranks, values = (scratch.empty((2, int(offsets[-1]))) for _ in range(3))
    for model, score in enumerate(scores):
        cross_fitted_prediction(score, covariates[model], offsets, seed=seed, out=predictions[model])
        _residualise(score, predictions[model], gaps.distributions[model], offsets, (ranks[model], values[model]))
    left = [gap_distribution(row for row, _ in _chunks(rank, offsets)) for rank in ranks]
    rng = np.random.default_rng([seed, 11])
    settings: dict[str, Any] = {
        "confidence_level": evaluation.confidence_level,
        "n_resamples": evaluation.n_resamples,
        "rng": rng,
    }
    correlation = partial_rank_correlation([Ranks(r, d) for r, d in zip(ranks, left, strict=True)], offsets, **settings)
    sums = difficulty_sums(scores, predictions, offsets)
    made = replace(gaps, values=list(values), ranks=list(ranks))
    return Residuals(made, predictions, correlation, reliability_curve(sums, **settings))


@dataclass(frozen=True)
class Ranks:
    """Uniform ranks of values in their own distribution (ties keep their cell's middle), where they are sliced."""

    values: np.ndarray
    distribution: GapDistribution

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Ranks of these rows."""
        return self.distribution.middle_ranks(self.values[rows])


def _residualise(
    score: NormalScores,
    prediction: np.ndarray,
    distribution: GapDistribution,
    offsets: Offsets,
    out: tuple[np.ndarray, np.ndarray],
) -> None:
    """Ranks Phi(e) and gaps Q(Phi(e)) of the standardised residuals e, so that a map means the same as before.

    e = document-centred scores minus document-centred prediction, over its standard deviation; Q is the model's own
    empirical quantile function.
    """
    ranks, values = out
    squares = np.empty(offsets.size - 1)
    for documents in document_chunks(offsets):
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        within = offsets[documents.start : documents.stop + 1] - rows.start
        ranks[rows] = centred(score[rows] - prediction[rows], within)
        squares[documents] = document_sums(ranks[rows] ** 2, within)
    spread = np.sqrt(squares.sum() / ranks.size)
    if not spread > 1e-9:
        raise UndefinedStatisticError("no residuals", "the covariates determine the gaps: nothing is left of them")
    for documents in document_chunks(offsets):
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        ranks[rows] = stats.norm.cdf(ranks[rows] / spread)
        values[rows] = distribution.quantile(ranks[rows])


@dataclass(frozen=True)
class MapResult:
    """One phase map at one scale: descriptive statistics, the test, and the test on residual phases.

    `plain` is None where the test does not exist for these data; the verdict's reason then says why.
    """

    name: str
    scale: float | None
    rayleigh: circular.RayleighResult | None
    v_pvalue: float | None
    plain: CoherenceResult | None
    residual: CoherenceResult | None
    negative_control_rate: float | None
    verdict: Verdict


@dataclass(frozen=True)
class PhaseTest:
    """The settings that all maps of a pair share. `alpha` and the confidence level are per pair of models."""

    gates: Gates
    delta: float
    pseudo_documents: bool
    evaluation: EvaluationConfig
    seed: int
    alpha: float = ALPHA

    def run(
        self,
        name: str,
        gaps: Gaps,
        left: Residuals | None,
        *,
        scale: float | None = None,
        table: PhaseTable | None = None,
        negative_control: float | None = None,
    ) -> MapResult:
        """The whole procedure for one phase map; `negative_control`: the rate to take instead of measuring it."""
        try:
            scale = gaps.scale_of(name, scale)
            plain, repairings = self._test(gaps.phasors(name, scale, table), gaps.offsets, negative_control is None)
            residual, residual_repairings = None, None
            if left is not None:
                phasors = left.gaps.phasors(name, scale, table)
                residual, residual_repairings = self._test(phasors, gaps.offsets, False)
        except UndefinedStatisticError as error:
            return MapResult(name, scale, None, None, None, None, None, undecided(self.gates, error.reason))
        rate = negative_control
        if rate is None:
            rate = self._negative_control(plain, repairings, residual, residual_repairings, gaps, left)
        n, mean = plain.pairing.n, plain.pairing.mean
        return MapResult(
            name=name,
            scale=scale,
            rayleigh=circular.rayleigh_of_mean(n, mean),
            v_pvalue=circular.v_test_of_mean(n, mean),
            plain=plain,
            residual=residual,
            negative_control_rate=rate,
            verdict=coherence_verdict(self.gates, self._evidence(plain, residual, left, rate)),
        )

    def _test(
        self, phasors: tuple[Phasors, Phasors], offsets: Offsets, shift_moments: bool
    ) -> tuple[CoherenceResult, Repairings]:
        return coherence(
            *phasors,
            offsets,
            n_repairings=self.evaluation.n_repairings,
            confidence_level=self.evaluation.confidence_level,
            n_resamples=self.evaluation.n_resamples,
            rng=np.random.default_rng([self.seed, 31]),
            shift_moments=shift_moments,
        )

    def _evidence(
        self, plain: CoherenceResult, residual: CoherenceResult | None, left: Residuals | None, rate: float
    ) -> CoherenceEvidence:
        return CoherenceEvidence(
            excess=plain.excess,
            shift_pvalue=plain.shift.pvalue,
            repairing_pvalue=plain.repairing.pvalue,
            share_interval=plain.share_interval,
            residual_interval=residual.share_interval if residual else None,
            survives_reliability=survives(left.reliability) if left else None,
            negative_control_rate=rate,
            delta=self.delta,
            alpha=self.alpha,
            pseudo_documents=self.pseudo_documents,
        )

    def _negative_control(
        self,
        plain: CoherenceResult,
        repairings: Repairings,
        residual: CoherenceResult | None,
        residual_repairings: Repairings | None,
        gaps: Gaps,
        left: Residuals | None,
    ) -> float:
        """Share of mismatched documents on which the whole decision would be positive: P1, P2, and the reliability.

        Without a proxy there is only P1. Both tests drew the same derangements.
        """
        columns = repairings.columns[: self.evaluation.n_negative_controls]
        positive = rejects_at(repairings, columns, plain.repairing, alpha=self.alpha)
        if residual is None or residual_repairings is None or left is None:
            return float(positive.mean())
        ends = share_lower_ends(
            residual_repairings,
            columns,
            repairing=residual.repairing,
            possible=residual.possible,
            confidence_level=self.evaluation.confidence_level,
        )
        positive &= ends > self.delta
        if positive.any():
            table = pair_difficulty_sums(gaps.scores(), left.predictions, gaps.offsets, repairings.table.blocks)
            positive[positive] = survives_at(
                table,
                columns[positive],
                confidence_level=self.evaluation.confidence_level,
                n_resamples=N_CONTROL_RESAMPLES,
                rng=np.random.default_rng([self.seed, 32]),
            )
        return float(positive.mean())


def is_robust(results: list[MapResult], *, alpha: float = ALPHA) -> bool:
    """Do all maps give the primary map's verdict (the first), and its rejection survive Holm's correction?"""
    if len({result.verdict.verdict for result in results}) > 1 or results[0].plain is None:
        return False
    if results[0].verdict.verdict != "supported":
        return True
    pvalues = [result.plain.pvalue for result in results if result.plain is not None]
    return bool((holm(np.array(pvalues)) < alpha).all())
