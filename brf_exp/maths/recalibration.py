"""Recalibration of a fused forecast by one temperature, on the tokens that all models list; the rest is one outcome.

Let q have the mass m outside the tokens L that every model's top rows list. At temperature T a token of L gets
q^(1/T) / N, N = sum_L q^(1/T) + m^(1/T), and all others share m^(1/T) / N as they shared m. L does not depend on the
realised token: if that were always an outcome of its own, its place in the tail would pay for T > 1.
"""

import numpy as np

from brf_exp.maths.forecast_rows import PartialForecast
from brf_exp.maths.topk import ROUNDING, TARGET

# 1 / T in sixteenths, about evenly spaced on a logarithmic scale from T = 2 to T = 0.5. Powers of q in sixteenths
# come from four square roots and a few products, and their sums are inner products of two of them.
SIXTEENTHS = (8, 9, 10, 11, 13, 14, 16, 18, 20, 22, 24, 28, 32)
_PARTS = (
    *((4, 4), (4, 5), (5, 5), (5, 6), (6, 7), (7, 7), (8, 8)),
    *((2, 16), (4, 16), (6, 16), (8, 16), (12, 16), (16, 16)),
)
TEMPERATURES = tuple(16 / power for power in SIXTEENTHS)
LEAST_PROBABILITY = 1e-300
# Numbers worked on at a time: all powers of them stay in the processor's cache.
BLOCK_CELLS = 2**13


def lumped_losses(forecast: PartialForecast, listed: np.ndarray) -> np.ndarray:
    """Log loss in nats of the recalibrated forecast at each of TEMPERATURES, (13, n).

    Parameters: `listed` (n,) bool, whether every model's top rows list the realised token (TopRows.target_listed).
    The normaliser is taken at the middle of its bounds; at T = 1 the loss is -ln q(y) there. Positions where the
    forecast is undefined, or its normaliser unbounded, have values that mean nothing: leave such rules out.

    Notes: with a = 1 / T it is ln N - a ln q(y) on L, and ln N - (a - 1) ln m - ln q(y) outside.
    """
    q = forecast.scaled * forecast.middle[:, None]
    if forecast.fixed is not None:
        q += forecast.fixed
    target = np.maximum(q[:, TARGET], LEAST_PROBABILITY)
    q[:, TARGET] *= listed
    rest = 1 - q.sum(axis=1)
    # What is left by rounding alone would count: its root is 1e-8.
    rest = np.maximum(np.where(rest > ROUNDING, rest, 0.0), np.where(listed, 0.0, target))
    exponents = np.array(SIXTEENTHS)[:, None] / 16
    at_target = np.where(listed, exponents, 1.0) * np.log(target)
    at_rest = np.where(listed, 0.0, (exponents - 1) * np.log(np.maximum(rest, LEAST_PROBABILITY)))
    return np.log(_power_sums(q) + rest**exponents) - at_target - at_rest


def _power_sums(q: np.ndarray) -> np.ndarray:
    """sum over each row of q^(power / 16), (13, n), for every power of SIXTEENTHS."""
    sums, n_rows = np.empty((len(SIXTEENTHS), q.shape[0])), max(1, BLOCK_CELLS // q.shape[1])
    for start in range(0, q.shape[0], n_rows):
        rows = slice(start, start + n_rows)
        powers = _powers(q[rows])
        for place, (first, second) in enumerate(_PARTS):
            np.vecdot(powers[first], powers[second], out=sums[place, rows])
    return sums


def _powers(q: np.ndarray) -> dict[int, np.ndarray]:
    """q^(power / 16) by power."""
    powers = {16: q}
    for power in (8, 4, 2, 1):
        powers[power] = np.sqrt(powers[2 * power])
    for power, first in ((5, 4), (6, 4), (7, 6), (12, 8)):
        powers[power] = powers[first] * powers[power - first]
    return powers


def cross_fitted(sums: np.ndarray, fold_of_document: np.ndarray) -> dict[int, int]:
    """For each fold the place in TEMPERATURES with the least loss on the other folds; `sums` (13, D) per document.

    Raises ValueError where all documents are of one fold: there is nothing to fit on.
    """
    folds = np.unique(fold_of_document)
    if folds.size < 2:
        raise ValueError(f"`fold_of_document` must hold at least 2 folds, got {folds.size}")
    return {int(fold): int(np.argmin(sums[:, fold_of_document != fold].sum(axis=1))) for fold in folds}
