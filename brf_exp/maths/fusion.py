"""Numerators of fusion rules on full next-token distributions; maths/rules.py says which rule has which.

Shapes: `log_p` (M, ..., V) natural-log probabilities; `weights` (M,), >= 0, sum 1; `phases_rad` (M, ...) one
phase per model and position, or (M, ..., V) one per token. A numerator is the unnormalised fused score
(..., V); `fuse` divides by its sum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MIN_NORMALISER = 1e-12

Numerator = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Fused:
    """A fused distribution: `p` (..., V), never NaN, and 0 where `undefined` (...): Z < 1e-12 or infinite."""

    p: np.ndarray
    normaliser: np.ndarray
    undefined: np.ndarray


def equal_weights(n_models: int) -> np.ndarray:
    """1 / M each."""
    return np.full(n_models, 1.0 / n_models)


def _broadcast(weights: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    return np.asarray(weights, dtype=np.float64).reshape(-1, *[1] * (log_p.ndim - 1))


def linear_numerator(log_p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_i w_i p_i."""
    return (_broadcast(weights, log_p) * np.exp(log_p)).sum(axis=0)


def product_numerator(log_p: np.ndarray, weights: np.ndarray, *, exponent: float = 1.0) -> np.ndarray:
    """prod_i p_i^(exponent w_i); exponent 1 is the logarithmic opinion pool."""
    # A weight of 0 leaves a model out, also where it gives a token no probability (0 * -inf).
    total = np.zeros(log_p.shape[1:])
    for weight, model in zip(weights, log_p, strict=True):
        if weight:
            total += weight * model
    total *= exponent
    return np.exp(total, out=total)


def power_mean_numerator(log_p: np.ndarray, weights: np.ndarray, *, order: float = 0.5) -> np.ndarray:
    """(sum_i w_i p_i^order)^(1 / order); order 0 is its limit, the logarithmic pool."""
    if order == 0:
        return product_numerator(log_p, weights)
    # A weight of 0 leaves a model out whatever it says; with a negative order a model that rules a token out decides.
    terms = [np.log(weight) + order * model for weight, model in zip(weights, log_p, strict=True) if weight]
    return np.exp(np.logaddexp.reduce(terms, axis=0) / order)


def coherent_numerator(log_p: np.ndarray, weights: np.ndarray, *, coherence: float | np.ndarray = 1.0) -> np.ndarray:
    """sum_i w_i p_i + 2 c sum_{i<j} sqrt(w_i w_j p_i p_j), one c for all pairs (a number or shape (...,))."""
    total, squares = np.zeros(log_p.shape[1:]), np.zeros(log_p.shape[1:])
    for weight, model in zip(weights, log_p, strict=True):
        amplitude = 0.5 * model
        np.exp(amplitude, out=amplitude)
        amplitude *= np.sqrt(weight)
        total += amplitude
        squares += np.square(amplitude, out=amplitude)
    cross = np.square(total, out=total)
    cross -= squares
    c = np.asarray(coherence, dtype=np.float64)
    cross *= c[..., None] if c.ndim else c
    cross += squares
    return np.maximum(cross, 0.0, out=cross)


def born_numerator(log_p: np.ndarray, weights: np.ndarray, *, phases_rad: np.ndarray) -> np.ndarray:
    """|sum_i sqrt(w_i p_i) exp(i phi_i)|^2, the Born Rule Fusion numerator."""
    phases = np.asarray(phases_rad, dtype=np.float64)
    if phases.ndim == log_p.ndim - 1:
        phases = phases[..., None]
    amplitudes = np.sqrt(_broadcast(weights, log_p)) * np.exp(0.5 * log_p)
    real = (amplitudes * np.cos(phases)).sum(axis=0)
    imaginary = (amplitudes * np.sin(phases)).sum(axis=0)
    return real**2 + imaginary**2


def lin_log_numerator(log_p: np.ndarray, weights: np.ndarray, *, mixture: float = 0.5) -> np.ndarray:
    """(1 - lam) LinearPool + lam LogPool, both normalised, the log pool at equal weights."""
    log_pool = product_numerator(log_p, equal_weights(log_p.shape[0]))
    total = log_pool.sum(axis=-1, keepdims=True)
    pool = np.divide(log_pool, total, out=np.zeros_like(log_pool), where=total > 0)
    return (1 - mixture) * linear_numerator(log_p, weights) + mixture * pool


def routed_numerator(log_p: np.ndarray, weights: np.ndarray, *, confidence: np.ndarray | None = None) -> np.ndarray:
    """The distribution of the model with the largest confidence (M, ...), by default its largest probability.

    Ties go to the first model.
    """
    scores = log_p.max(axis=-1) if confidence is None else confidence
    chosen = np.argmax(scores, axis=0)
    return np.exp(np.take_along_axis(log_p, chosen[None, ..., None], axis=0)[0])


def contrastive_numerator(log_p: np.ndarray, weights: np.ndarray, *, strength: float = 0.5) -> np.ndarray:
    """p_1^(1 + beta) p_2^(-beta): contrastive decoding of two models; a token the first excludes gets 0."""
    second = np.where(np.isneginf(log_p[0]), 0.0, log_p[1])
    return np.exp((1 + strength) * log_p[0] - strength * second)


def vote_numerator(log_p: np.ndarray, weights: np.ndarray, *, hit_rate: float = 0.5) -> np.ndarray:
    """Vote-gated forecast: hit_rate on the voted token, the rest shared out as the linear pool."""
    pool = linear_numerator(log_p, weights)
    votes = np.zeros_like(pool)
    for row in np.argmax(log_p, axis=-1):
        np.put_along_axis(votes, row[..., None], np.take_along_axis(votes, row[..., None], -1) + 1, -1)
    # Plurality; ties to the larger mean probability, which is below 1 and so never outweighs a vote.
    voted = np.argmax(votes + np.exp(log_p).mean(axis=0) * 0.5, axis=-1)[..., None]
    forecast = pool.copy()
    np.put_along_axis(forecast, voted, 0.0, -1)
    rest = forecast.sum(axis=-1, keepdims=True)
    forecast = (1 - hit_rate) * np.divide(forecast, rest, out=np.zeros_like(forecast), where=rest > 0)
    np.put_along_axis(forecast, voted, hit_rate, -1)
    return forecast


def normalised(numerator: np.ndarray) -> Fused:
    """Divide by the sum over tokens; positions with Z < 1e-12 or infinite are undefined, never NaN."""
    total = numerator.sum(axis=-1)
    undefined = ~((total >= MIN_NORMALISER) & np.isfinite(total))
    p = np.divide(numerator, total[..., None], out=np.zeros_like(numerator), where=~undefined[..., None])
    return Fused(p, total, undefined)


def bhattacharyya(log_p1: np.ndarray, log_p2: np.ndarray) -> np.ndarray:
    """B = sum_t sqrt(p_1 p_2), shape (...)."""
    return np.exp(0.5 * (log_p1 + log_p2)).sum(axis=-1)


def mixture_share(coherence: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """lam = c B / (1 + c B): Born Rule Fusion of two models at equal weights is exactly
    (1 - lam) LinearPool + lam LogPool, with c the cosine of the phase difference."""
    return coherence * overlap / (1 + coherence * overlap)
