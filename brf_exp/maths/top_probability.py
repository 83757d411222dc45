"""The fused top-1 probability and whether the realised token has it, as far as top-k rows tell."""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths.forecast_rows import PartialForecast
from brf_exp.maths.topk import TARGET
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.maths.vote_forecasts import VoteForecast


@dataclass(frozen=True)
class TopProbability:
    """The fused top-1 probability at n positions: `confidence` (2, n), lower and upper end, and `correct` (2, n),
    whether the realised token surely and whether it possibly has it."""

    confidence: np.ndarray
    correct: np.ndarray


def top_probability(forecast: PartialForecast) -> TopProbability:
    """Largest probability of a fused forecast, as far as top-k rows tell it.

    Raises UndefinedStatisticError where the forecast is undefined somewhere: without its normaliser it has no top-1
    probability. A tie counts as possibly correct, not as surely.
    """
    if forecast.undefined.any():
        count = int(forecast.undefined.sum())
        raise UndefinedStatisticError("undefined fusion", f"the fused distribution is undefined at {count} positions")
    # Probabilities rise with r, and their differences are linear in it: what holds at both its ends holds between.
    target, others, leads = _on_shared(forecast)
    best = np.maximum(target, others)
    confidence = np.stack([np.maximum(best[0], forecast.peak[0, 0]), np.maximum(best[1], forecast.peak[1, 1])])
    surely = (target > np.maximum(others, forecast.peak[1])).all(axis=0)
    possibly = leads & (target >= forecast.peak[0]).any(axis=0)
    return TopProbability(np.minimum(confidence, 1.0), np.stack([surely, possibly]))


def _on_shared(forecast: PartialForecast) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of the realised token and the largest of the others of S, at both ends of r, (2, n) each, and
    whether none of the others is larger than it at both ends, (n,) bool."""
    fixed, scaled = forecast.at_target
    target, rivals = fixed + scaled * forecast.reciprocal, forecast.scaled[:, TARGET + 1 :]
    if forecast.fixed is None:
        largest = rivals.max(axis=1, initial=0.0)
        return target, largest * forecast.reciprocal, scaled >= largest
    ends = [forecast.fixed[:, TARGET + 1 :] + rivals * r[:, None] for r in forecast.reciprocal]
    leads = ((target[0][:, None] >= ends[0]) | (target[1][:, None] >= ends[1])).all(axis=1)
    return target, np.stack([values.max(axis=1, initial=0.0) for values in ends]), leads


def ballot_top_probability(ballot: VoteForecast) -> TopProbability:
    """The same of a vote: where the rows leave the tie-break open, the bounds hold for either winner."""
    tops = [top_probability(forecast) for forecast in ballot.of_model]
    confidence, correct = (np.stack([getattr(top, name) for top in tops]) for name in ("confidence", "correct"))
    possible = ballot.possible
    lower = np.where(possible, confidence[:, 0], np.inf).min(axis=0)
    upper = np.where(possible, confidence[:, 1], -np.inf).max(axis=0)
    surely, maybe = (correct[:, 0] | ~possible).all(axis=0), (correct[:, 1] & possible).any(axis=0)
    return TopProbability(np.stack([lower, upper]), np.stack([surely, maybe]))
