"""Contrasts of one candidate rule with its references: sampling and truncation in one interval."""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths.resampling import bootstrap_t, minimum_detectable_effect, ratio_estimate, sign_flip_pvalues


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
    references: list[str],
    ends: np.ndarray,
    lengths: np.ndarray,
    *,
    rivals: list[bool],
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> list[Contrast]:
    """Document-level contrasts with bootstrap-t ends; the simultaneous lower ends and p-values are over the rivals.

    Parameters: `ends` (2, D, K) sums per document of the lower and upper bounds of candidate minus reference, one
    column per name in `references`; `lengths` (D,) positions. References that are no rivals have p-values of their own.
    Raises UndefinedStatisticError for fewer than two documents.
    """
    n_references = len(references)
    is_rival = np.array(rivals, dtype=bool)
    replicates, estimate = bootstrap_t(np.hstack(list(ends)), lengths, n_resamples=n_resamples, rng=rng)
    low, high = replicates[:, :n_references], replicates[:, n_references:]
    tail = (1 - confidence_level) / 2
    mean_low, mean_high = estimate.mean[:n_references], estimate.mean[n_references:]
    error_low, error_high = estimate.standard_error[:n_references], estimate.standard_error[n_references:]
    largest = low[:, is_rival].max(axis=1) if is_rival.any() else low.max(axis=1)
    simultaneous = mean_low - np.quantile(largest, confidence_level) * error_low
    upper = mean_high - np.quantile(high, 1 - confidence_level, axis=0) * error_high
    lower_two = mean_low - np.quantile(low, 1 - tail, axis=0) * error_low
    upper_two = mean_high - np.quantile(high, tail, axis=0) * error_high
    middle = ends.mean(axis=0)
    adjusted = _adjusted(middle, lengths, is_rival, n_resamples, rng)
    half_width = (mean_high - mean_low) / 2
    errors = ratio_estimate(middle, lengths).standard_error
    return [
        Contrast(
            reference=name,
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
        for j, name in enumerate(references)
    ]


def _adjusted(
    sums: np.ndarray, lengths: np.ndarray, is_rival: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Sign-flip p-values: max-T over the rivals, each on its own for the others."""
    alone, _ = sign_flip_pvalues(sums, lengths, n_resamples=n_resamples, rng=rng)
    if not is_rival.any():
        return alone
    _, together = sign_flip_pvalues(sums[:, is_rival], lengths, n_resamples=n_resamples, rng=rng)
    adjusted = alone.copy()
    adjusted[is_rival] = together
    return adjusted


def below_minimum(bounds: np.ndarray, log_p_target: np.ndarray) -> np.ndarray:
    """Is q(target) below every model's probability? Rows: surely, at the midpoint, possibly; (3, n) bool.

    Parameters: `bounds` (2, n) of the candidate's loss; `log_p_target` (M, n).
    """
    floor = -log_p_target.min(axis=0)
    # A margin of rounding, so that equal probabilities never count as below.
    margin = 1e-9
    return np.stack([values > floor + margin for values in (bounds[0], bounds.mean(axis=0), bounds[1])])
