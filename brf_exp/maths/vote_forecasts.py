"""The vote-gated forecast of two models as far as top-k rows tell it, where the tie-break may be open as well."""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths import fusion
from brf_exp.maths.forecast_rows import PartialForecast, Rows, TopRows, top_rows
from brf_exp.maths.forecasts import linear_forecast


@dataclass(frozen=True)
class VoteForecast:
    """The vote-gated forecast for each model's vote, whether that vote can have won, `possible` (2, n), and whether
    the second one wins if what the rows leave open of the tie-break is taken as 0, `second` (n,)."""

    of_model: tuple[PartialForecast, PartialForecast]
    possible: np.ndarray
    second: np.ndarray

    @property
    def likely(self) -> PartialForecast:
        """One forecast per position, by `second`."""
        return self.of_model[0].chosen(self.of_model[1], self.second)


def vote_forecast(rows: Rows, *, hit_rate: np.ndarray) -> VoteForecast:
    """hit_rate (n,) on the voted token, the rest shared out as the linear pool.

    Where the arg-max tokens differ, the one with the larger mean probability wins. A model that does not list the
    other's token leaves that open within its cap: then either vote may be possible.
    """
    rows = top_rows(rows)
    known = rows.known
    pools = [_voted_pool(rows, model) for model in (0, 1)]
    agree = known.argmax_ids[0] == known.argmax_ids[1]
    # Means equal but for their last digit are a tie.
    leads = np.stack([pools[0][1] >= pools[1][0] - 1e-15, pools[1][1] >= pools[0][0] - 1e-15])
    linear = linear_forecast(rows)
    first, second = (_gated(rows, linear, model, pools[model], hit_rate) for model in (0, 1))
    possible = np.stack([agree | leads[0], ~agree & leads[1]])
    return VoteForecast((first, second), possible, ~agree & (pools[1][0] > pools[0][0]))


def _voted_pool(rows: TopRows, model: int) -> np.ndarray:
    """Bounds (2, n) of the linear pool at a model's arg-max token."""
    known = rows.known
    matches = known.shared_ids == known.argmax_ids[model][:, None]
    listed = np.where(matches, rows.p[1 - model], 0.0).max(axis=1)
    at_most = np.where(matches.any(axis=1), listed, rows.cap[1 - model])
    return 0.5 * (np.exp(known.max_log_p[model]) + np.stack([listed, at_most]))


def _gated(
    rows: TopRows, linear: PartialForecast, model: int, pool: np.ndarray, hit_rate: np.ndarray
) -> PartialForecast:
    """The forecast if `model`'s vote v wins: hit_rate on v, (1 - hit_rate) L r elsewhere, r = 1 / (1 - L(v))."""
    voted = rows.known.shared_ids == rows.known.argmax_ids[model][:, None]
    unshared = ~voted.any(axis=1)
    others = np.where(voted, 0.0, linear.scaled)
    # What S holds besides v is part of 1 - L(v), and better conditioned where L(v) is near 1.
    rest = np.maximum(np.stack([1 - pool[1], 1 - pool[0]]), np.maximum(others.sum(axis=1), fusion.MIN_NORMALISER))
    reciprocal, miss = 1 / rest[::-1], 1 - hit_rate
    squares = np.maximum(linear.outside[:, 2] - unshared * pool[0] ** 2, 0)
    alone = np.broadcast_to(unshared * hit_rate**2, squares.shape)
    peak = miss * linear.peak * reciprocal
    gated = np.stack([np.broadcast_to(hit_rate, reciprocal.shape), np.maximum(hit_rate, peak[1])])
    return PartialForecast(
        fixed=voted * hit_rate[:, None],
        scaled=miss[:, None] * others,
        reciprocal=reciprocal,
        outside=np.stack([alone, np.zeros_like(squares), miss**2 * squares], axis=1),
        peak=np.where(unshared, gated, peak),
        undefined=rest[1] <= fusion.MIN_NORMALISER,
    )
