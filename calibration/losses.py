"""Simulated differences in log loss between one candidate and its references, and what the test makes of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from brf_exp.config import EvaluationConfig
from brf_exp.maths.decisions import Gates, RivalEnds, discrimination_verdict
from brf_exp.maths.discrimination import Contrast, contrasts
from brf_exp.maths.resampling import bootstrap_t, sign_flip_pvalues
from calibration.designs import generator

EVALUATION = EvaluationConfig(n_resamples=999)
DELTA = EVALUATION.delta_nats
# Standard deviation of a difference at one position, nats.
POSITION_SD = 0.1
LOG_LENGTH_MEAN, LOG_LENGTH_SD, SHORTEST, LONGEST = 5.0, 0.8, 20, 2000
# True gains over every reference, in delta; and how much further behind the others are where only one is close.
GAINS, FURTHER = (0, 1, 2, 4, 8), 100
ONE = "one"


@dataclass(frozen=True)
class LossDesign:
    """Differences of unit variance by position, candidate minus each reference, with mean 0.

    `icc`: variance share of a document's level; `rho`: autocorrelation of the rest; `correlation` between differences.
    `skewed`: levels and innovations are exponential (skewness 2), to the right for 1 and to the left for -1. `ragged`:
    lognormal document lengths, else all of `length`. `width`: mean of what truncation leaves open at a position, nats;
    the truth lies at the share `place` of it.
    """

    n_documents: int = 40
    ragged: bool = True
    length: int = 200
    skewed: int = 0
    correlation: float = 0.3
    icc: float = 0.05
    rho: float = 0.3
    width: float = 0.0
    place: float = 0.5
    n_references: int = 16

    def lengths(self, rng: np.random.Generator) -> np.ndarray:
        """Positions of each document, (D,)."""
        if not self.ragged:
            return np.full(self.n_documents, self.length)
        drawn = rng.lognormal(LOG_LENGTH_MEAN, LOG_LENGTH_SD, self.n_documents)
        return np.clip(drawn, SHORTEST, LONGEST).astype(np.int64)

    def sums(self, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sums per document of the differences, (D, K).

        A sum over an autoregression is a weighted sum of its innovations, so that no position needs to be simulated.
        """
        starts = np.cumsum(lengths) - lengths
        n_rows, n_columns = int(lengths.sum()), self.n_references + 1
        weights = _innovation_weights(lengths, starts, self.rho)
        rest = np.add.reduceat(weights[:, None] * self._noise((n_rows, n_columns), rng), starts, axis=0)
        levels = lengths[:, None] * self._noise((lengths.size, n_columns), rng)
        parts = np.sqrt(self.icc) * levels + np.sqrt(1 - self.icc) * rest
        return np.sqrt(self.correlation) * parts[:, :1] + np.sqrt(1 - self.correlation) * parts[:, 1:]

    def ends(self, sums: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sums of lower and upper bounds where truncation leaves something open, (2, D, K)."""
        if not self.width:
            return np.stack([sums, sums])
        open_sums = self.width * rng.gamma(lengths[:, None], size=sums.shape)
        return np.stack([sums - self.place * open_sums, sums + (1 - self.place) * open_sums])

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return self.skewed * (rng.standard_exponential(shape) - 1) if self.skewed else rng.standard_normal(shape)


def _innovation_weights(lengths: np.ndarray, starts: np.ndarray, rho: float) -> np.ndarray:
    """How much each innovation of a stationary AR(1) of unit variance adds to its document's sum, (n,)."""
    place = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    left = np.repeat(lengths, lengths) - place
    return (1 - rho**left) / (1 - rho) * np.where(place == 0, 1.0, np.sqrt(1 - rho**2))


def simulate_losses(design: LossDesign, name: str, index: int) -> dict[str, Any]:
    """Ends, p-values and verdicts on one sample whose true differences are all 0.

    The ends move with the truth, so that the verdicts for true gains come from the same ends, moved.
    """
    rng = generator(name, index)
    lengths = design.lengths(rng)
    sums = POSITION_SD * design.sums(lengths, rng)
    made = contrasts(
        [f"rival {number}" for number in range(design.n_references)],
        design.ends(sums, lengths, rng),
        lengths,
        rivals=[True] * design.n_references,
        confidence_level=EVALUATION.confidence_level,
        n_resamples=EVALUATION.n_resamples,
        rng=rng,
    )
    flipped, flipped_together = sign_flip_pvalues(sums, lengths, n_resamples=EVALUATION.n_resamples, rng=rng)
    tokens = 2 * stats.norm.sf(np.abs(sums.sum(axis=0)) / (POSITION_SD * np.sqrt(lengths.sum())))
    return {
        "upper": float(np.mean([one.upper_one_sided < 0 for one in made])),
        "upper_bootstrap": bootstrap_misses(sums, lengths, rng),
        "two_sided": float(np.mean([not one.interval[0] <= 0 <= one.interval[1] for one in made])),
        "simultaneous": any(one.lower_simultaneous > 0 for one in made),
        "adjusted": min(one.pvalue_adjusted for one in made),
        "sign_flip": float(np.mean(flipped < 1 - EVALUATION.confidence_level)),
        "sign_flip_adjusted": float(flipped_together.min()),
        "tokens": float(np.mean(tokens < 1 - EVALUATION.confidence_level)),
        "standard_error": made[0].standard_error,
        "n_positions": int(lengths.sum()),
        **{f"gain {gain}": verdict_at(made, [gain] * len(made), lengths.size) for gain in GAINS},
        ONE: verdict_at(made, [1] + [1 + FURTHER] * (len(made) - 1), lengths.size),
    }


def bootstrap_misses(sums: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> float:
    """Share of the one-sided upper ends below the truth if the bootstrap-t alone set them."""
    drawn, estimate = bootstrap_t(sums, lengths, n_resamples=EVALUATION.n_resamples, rng=rng)
    ends = estimate.mean - np.quantile(drawn, 1 - EVALUATION.confidence_level, axis=0) * estimate.standard_error
    return float(np.mean(ends < 0))


def verdict_at(made: list[Contrast], gains: list[int], n_documents: int) -> str:
    """The verdict if the candidate's true gain over each reference were so many delta, with the reason if open."""
    rivals = [
        RivalEnds(one.reference, *(end - gain * DELTA for end in _ends(one)))
        for one, gain in zip(made, gains, strict=True)
    ]
    found = discrimination_verdict(Gates(n_documents, EVALUATION.min_documents), rivals, delta_nats=DELTA)
    return f"{found.verdict} ({found.reason})" if found.verdict == "inconclusive" else found.verdict


def _ends(one: Contrast) -> tuple[float, ...]:
    return one.upper_one_sided, one.lower_simultaneous, one.upper_middle, one.lower_middle
