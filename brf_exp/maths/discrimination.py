"""Contrasts of one candidate rule with its references: sampling and truncation in one interval."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.resampling import (
    bootstrap_t,
    bootstrap_t_pvalues,
    effective_df,
    jackknife_errors,
    minimum_detectable_effect,
)


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


@dataclass(frozen=True)
class _Ratios:
    """One bound of all contrasts: means (K,), standard errors and jackknife errors, t* (n_resamples, K).

    An end is at the quantile of t*, and at least `least` jackknife errors from the mean.
    """

    mean: np.ndarray
    errors: np.ndarray
    jackknife: np.ndarray
    replicates: np.ndarray

    def lower(self, level: float, *, least: float, family: np.ndarray | None = None) -> np.ndarray:
        """Lower ends of one-sided intervals, (K,); simultaneous ones over a family of columns where it is given."""
        drawn = self.replicates if family is None else self.replicates[:, family].max(axis=1, keepdims=True)
        quantiles = np.quantile(drawn, level, axis=0)
        return self.mean - np.maximum(quantiles * self.errors, least * self.jackknife)

    def upper(self, level: float, *, least: float) -> np.ndarray:
        """Upper ends of one-sided intervals, (K,)."""
        quantiles = np.quantile(self.replicates, 1 - level, axis=0)
        return self.mean + np.maximum(-quantiles * self.errors, least * self.jackknife)


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

    No end lies nearer to the mean than jackknife errors put it, with D - 1 degrees of freedom for two-sided ends and
    `effective_df` for those that decide: the bootstrap alone is too near where few documents are unequally long.
    """
    is_rival = np.array(rivals, dtype=bool)
    columns = np.hstack([*ends, ends.mean(axis=0)])
    replicates, estimate = bootstrap_t(columns, lengths, n_resamples=n_resamples, rng=rng)
    parts = (estimate.mean, estimate.standard_error, jackknife_errors(columns, lengths), replicates)
    low, high, middle = (_Ratios(*part) for part in zip(*(np.split(part, 3, axis=-1) for part in parts), strict=True))
    level, two_level = confidence_level, (1 + confidence_level) / 2
    decides = float(stats.t.ppf(level, effective_df(lengths)))
    two_sided = max(float(stats.t.ppf(two_level, estimate.df)), decides)
    upper = high.upper(level, least=decides)
    simultaneous = low.lower(level, least=decides, family=is_rival if is_rival.any() else ~is_rival)
    interval = low.lower(two_level, least=two_sided), high.upper(two_level, least=two_sided)
    half_width = (high.mean - low.mean) / 2
    numbers = {
        "difference_nats": (low.mean + high.mean) / 2,
        "upper_one_sided": upper,
        "lower_simultaneous": simultaneous,
        "upper_middle": upper - half_width,
        "lower_middle": simultaneous + half_width,
        "pvalue_adjusted": _adjusted(middle, is_rival),
        "standard_error": middle.errors,
        "minimum_detectable_nats": np.array([minimum_detectable_effect(error, estimate.df) for error in middle.errors]),
    }
    return [
        Contrast(
            reference=name,
            truncation=(float(low.mean[j]), float(high.mean[j])),
            interval=(float(interval[0][j]), float(interval[1][j])),
            **{key: float(values[j]) for key, values in numbers.items()},
        )
        for j, name in enumerate(references)
    ]


def _adjusted(ratios: _Ratios, is_rival: np.ndarray) -> np.ndarray:
    """Bootstrap-t p-values: max-T over the rivals, each on its own for the others."""
    mean, errors, replicates = ratios.mean, ratios.errors, ratios.replicates
    # A difference that is the same in all documents is infinitely many standard errors from 0, unless it is 0.
    statistics = np.divide(mean, errors, out=np.where(mean == 0, 0.0, np.inf), where=errors > 0)
    adjusted, _ = bootstrap_t_pvalues(statistics, replicates)
    if is_rival.any():
        adjusted[is_rival] = bootstrap_t_pvalues(statistics[is_rival], replicates[:, is_rival])[1]
    return adjusted


def below_minimum(bounds: np.ndarray, log_p_target: np.ndarray) -> np.ndarray:
    """Is q(target) below every model's probability? Rows: surely, at the midpoint, possibly; (3, n) bool.

    Parameters: `bounds` (2, n) of the candidate's loss; `log_p_target` (M, n) of the models as they were fused, at the
    same temperature. A token that a model excludes (-inf) is never below.
    """
    floor = -log_p_target.min(axis=0)
    # A margin of rounding, so that equal probabilities never count as below.
    margin = 1e-9
    return np.stack([values > floor + margin for values in (bounds[0], bounds.mean(axis=0), bounds[1])])
