"""Sums over the shared tokens of numerators, for many candidates at once.

These are the numerators of fusion.py on log-probabilities (M, n, K), summed over tokens, with what candidates have in
common worked out once and rows taken in blocks that stay in the processor's cache. How rows are cut changes no digit.
"""

from collections.abc import Iterator

import numpy as np

from brf_exp.maths.topk import TARGET

BLOCK_NUMBERS = 2**15


def pool_sums(log_p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum over tokens of prod_i p_i^w_i for each row of `weights` (C, M), which need not sum to 1; (C, n)."""
    found = np.empty((len(weights), log_p.shape[1]))
    for rows, block, starts in _blocks(log_p):
        scores, term = np.empty_like(block[0]), np.empty_like(block[0])
        for place, row in enumerate(weights):
            # A weight of 0 leaves a model out, also where it gives a token no probability (0 * -inf).
            used = np.flatnonzero(row)
            np.multiply(block[used[0]], row[used[0]], out=scores)
            for model in used[1:]:
                scores += np.multiply(block[model], row[model], out=term)
            found[place, rows] = np.add.reduceat(np.exp(scores, out=scores), starts)
    return found


def power_mean_sums(log_p: np.ndarray, weights: np.ndarray, order: float) -> np.ndarray:
    """sum over tokens of (sum_i w_i p_i^order)^(1 / order) for each row of `weights` (C, M), order not 0; (C, n)."""
    found = np.empty((len(weights), log_p.shape[1]))
    for rows, block, starts in _blocks(log_p):
        # Beyond the range of a double a power is inf where its mean is next to 0, and 0 where it adds nothing.
        with np.errstate(over="ignore", divide="ignore"):
            powers = np.exp(order * block)
            scores, term = np.empty_like(block[0]), np.empty_like(block[0])
            for place, row in enumerate(weights):
                used = np.flatnonzero(row)
                np.multiply(powers[used[0]], row[used[0]], out=scores)
                for model in used[1:]:
                    scores += np.multiply(powers[model], row[model], out=term)
                found[place, rows] = np.add.reduceat(_root(scores, order, term), starts)
    return found


def _root(values: np.ndarray, order: float, spare: np.ndarray) -> np.ndarray:
    """values^(1 / order), in place where there is a cheap way; `spare` is overwritten."""
    if order == -1:
        return np.reciprocal(values, out=values)
    if order == 2:
        return np.sqrt(values, out=values)
    if order == 0.5:
        return np.square(values, out=values)
    if order == 0.25:
        return np.square(np.square(values, out=values), out=values)
    if order == 0.75:
        return np.multiply(values, np.cbrt(values, out=spare), out=values)
    return np.power(values, 1 / order, out=values)


def cross_sums(log_p: np.ndarray, phases_rad: np.ndarray, first: int, second: int) -> np.ndarray:
    """sum over tokens of sqrt(p_i p_j) cos(phi_i - phi_j) of two models, one phase per token, (n,)."""
    roots = np.exp(0.5 * (log_p[first] + log_p[second]))
    return (roots * np.cos(phases_rad[first] - phases_rad[second])).sum(axis=1)


def _blocks(log_p: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows, the log-probabilities of their used columns one after the other (M, used), and where each row starts."""
    n_rows = max(1, BLOCK_NUMBERS // log_p.shape[2])
    for start in range(0, log_p.shape[1], n_rows):
        block = log_p[:, start : start + n_rows]
        used = np.logical_or.reduce(np.isfinite(block))
        used[:, TARGET] = True
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))[:-1]])
        flat = block.reshape(block.shape[0], -1)
        yield slice(start, start + n_rows), np.take(flat, np.flatnonzero(used), axis=1), starts
