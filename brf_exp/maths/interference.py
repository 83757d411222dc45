"""Coherent Gain and Interference Information (Kang 2025, arXiv 2511.10018) of Born Rule Fusion of two models.

Coherent Gain is the log-likelihood gain over the linear pool, the fusion without interference: loss_linear - loss_brf.
Interference Information is the Kullback-Leibler divergence of the fused forecast from the linear pool.
"""

import numpy as np

from brf_exp.maths.topk import KnownTokens

MIN_NORMALISER = 1e-12


def interference_information(known: KnownTokens, coherence: np.ndarray) -> np.ndarray:
    """KL(q || linear pool) in nats from below and above, (2, n), at equal weights, for c = `coherence` (n,).

    With l the linear pool and a(t) = sqrt(p_1 p_2) / l(t) in [0, 1], q = l (1 + c a) / Z and Z = 1 + c B, so that
    KL = sum l (1 + c a) ln(1 + c a) / Z - ln Z. Outside the shared tokens a is unknown, and (1 + c a) ln(1 + c a)
    lies between its extremes over [0, 1].
    """
    p = np.exp(known.shared)
    pool, root = p.mean(axis=0), np.sqrt(p[0] * p[1])
    ratio = np.divide(root, pool, out=np.zeros_like(root), where=pool > 0)
    inside = (pool * _x_ln_x(1 + coherence[:, None] * ratio)).sum(axis=1)
    least, most = _extremes(coherence)
    tail = known.remainder.mean(axis=0)
    sums = np.stack([inside + tail * least, inside + tail * most])
    normalisers = np.maximum(1 + coherence * known.overlap, MIN_NORMALISER)
    ends = [s / z - np.log(z) for s in sums for z in normalisers]
    most = np.maximum.reduce(ends)
    # s / z - ln z rises with s, and along z it has its maximum, if any, at z = -s.
    peak = -sums[1]
    between = (peak > normalisers.min(axis=0)) & (peak < normalisers.max(axis=0))
    most = np.where(between, -1 - np.log(np.where(between, peak, 1.0)), most)
    return np.stack([np.maximum(np.minimum.reduce(ends), 0.0), most])


def _x_ln_x(x: np.ndarray) -> np.ndarray:
    safe = np.maximum(x, 1e-300)
    return x * np.log(safe)


def _extremes(coherence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest (1 + c a) ln(1 + c a) over a in [0, 1]; x ln x has its minimum -1/e at 1/e."""
    at_one = _x_ln_x(1 + coherence)
    least = np.minimum(at_one, 0.0)
    return np.where(1 + coherence < np.exp(-1), -np.exp(-1), least), np.maximum(at_one, 0.0)
