"""Contrasts of one candidate rule with its references: sampling and truncation in one interval."""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import Offsets, document_sums, lengths_of
from brf_exp.maths.resampling import bootstrap_t, minimum_detectable_effect, ratio_estimate, sign_flip_pvalues
from brf_exp.maths.topk import KnownTokens
from brf_exp.maths.topk_bounds import difference_bounds
from brf_exp.maths.tuning import ScoredRule


@dataclass(frozen=True)
class Contrast:
    """Candidate minus reference log loss in nats per token; negative is a gain.

    `truncation`: what the unknown tail leaves open of the mean. `interval`: two-sided, sampling and truncation.
    `upper_one_sided` and `lower_simultaneous` are the ends that decide; `_middle` ones leave truncation out.
    """

    reference: str
    difference_nats: float
    truncation: tuple[float, float]
    interval: tuple[float, float]
    upper_one_sided: float
    lower_simultaneous: float
    upper_middle: float
    lower_middle: float
    pvalue_adjusted: float
    standard_error: float
    minimum_detectable_nats: float


def contrasts(
    candidate: ScoredRule,
    references: list[ScoredRule],
    *,
    known: KnownTokens,
    offsets: Offsets,
    rivals: list[bool],
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> list[Contrast]:
    """Document-level contrasts with bootstrap-t ends; the simultaneous lower ends are over the rivals.

    Raises ValueError for fewer than two documents. References with undefined positions must be left out.
    """
    lengths = lengths_of(offsets)
    bounds = [difference_bounds(known, candidate.losses, scored.losses) for scored in references]
    ends = [np.column_stack([document_sums(b[end], offsets) for b in bounds]) for end in (0, 1)]
    middle = (ends[0] + ends[1]) / 2
    n_references = len(references)
    replicates, estimate = bootstrap_t(np.hstack(ends), lengths, n_resamples=n_resamples, rng=rng)
    low, high = replicates[:, :n_references], replicates[:, n_references:]
    tail = (1 - confidence_level) / 2
    mean_low, mean_high = estimate.mean[:n_references], estimate.mean[n_references:]
    error_low, error_high = estimate.standard_error[:n_references], estimate.standard_error[n_references:]
    largest = low[:, np.array(rivals)].max(axis=1) if any(rivals) else low.max(axis=1)
    simultaneous = mean_low - np.quantile(largest, confidence_level) * error_low
    upper = mean_high - np.quantile(high, 1 - confidence_level, axis=0) * error_high
    lower_two = mean_low - np.quantile(low, 1 - tail, axis=0) * error_low
    upper_two = mean_high - np.quantile(high, tail, axis=0) * error_high
    adjusted = sign_flip_pvalues(middle, lengths, n_resamples=n_resamples, rng=rng)[1]
    half_width = (mean_high - mean_low) / 2
    errors = ratio_estimate(middle, lengths).standard_error
    return [
        Contrast(
            reference=scored.spec.name,
            difference_nats=float((mean_low[j] + mean_high[j]) / 2),
            truncation=(float(mean_low[j]), float(mean_high[j])),
            interval=(float(lower_two[j]), float(upper_two[j])),
            upper_one_sided=float(upper[j]),
            lower_simultaneous=float(simultaneous[j]),
            upper_middle=float(upper[j] - half_width[j]),
            lower_middle=float(simultaneous[j] + half_width[j]),
            pvalue_adjusted=float(adjusted[j]),
            standard_error=float(errors[j]),
            minimum_detectable_nats=minimum_detectable_effect(float(errors[j]), estimate.df),
        )
        for j, scored in enumerate(references)
    ]


def below_minimum(known: KnownTokens, candidate: ScoredRule) -> np.ndarray:
    """Is q(target) below both models' probabilities? Rows: surely, at the midpoint, possibly; (3, n) bool."""
    floor = -known.target.min(axis=0)
    losses = candidate.losses
    # A margin of rounding, so that equal probabilities never count as below.
    margin = 1e-9
    return np.stack([ends > floor + margin for ends in (losses.bounds[0], losses.middle, losses.bounds[1])])
