"""Planted worlds: synthetic pairs in which the answer is known, shaped like the pair under test.

Gaps have the pair's own marginals and autocorrelation. Two kinds: worlds of gaps alone, for the Phase Coherence
Test, and worlds of full distributions (nothing is truncated), for the Cross-Term Discrimination Test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal, stats

from brf_exp.maths.distribution import GapDistribution
from brf_exp.maths.documents import Offsets
from brf_exp.maths.fusion import bhattacharyya
from brf_exp.maths.phases import phases
from brf_exp.maths.rules import fuse

N_DOCUMENTS = 200
N_POSITIONS = 200
SHARED_DIFFICULTY = 0.3
PLANTED_CORRELATION = 0.3
OPPOSED_SHARE = 0.5
OPPOSED_CORRELATION = 0.95
N_SHARED_TOKENS = 8
N_OWN_TOKENS = 4
RUNG = 0.3
FLOOR = 6.0
UNIT = 4.0
SPREAD_EXPONENTS = (1.0, 1.3, 1.7, 2.2, 3.0, 4.0)
QUANTILES = np.linspace(0.0005, 0.9995, 1000)


@dataclass(frozen=True)
class WorldShape:
    """What a world takes from a pair: quantiles of each model's gaps (2, 1000) and their autocorrelation."""

    gap_quantiles: np.ndarray
    autocorrelation: float

    @property
    def scale(self) -> float:
        """The pooled median gap."""
        return float(np.median(self.gap_quantiles))


@dataclass(frozen=True)
class GapWorld:
    """Gaps (2, n) of a synthetic pair and the difficulty (n,) that a perfect proxy would know."""

    gaps: np.ndarray
    difficulty: np.ndarray
    offsets: Offsets


@dataclass(frozen=True)
class TokenWorld:
    """A synthetic pair with full distributions: `gaps` (2, n), `log_p` (2, n, V), realised tokens (n,).

    `expected_gain_nats`: exact expected gain of the planted rule over the best constant coherence (0 in the twin).
    `spread_exponent`: how much the pair's log-gaps had to be spread for that gain; 1 = not at all.
    """

    gaps: np.ndarray
    log_p: np.ndarray
    targets: np.ndarray
    offsets: Offsets
    expected_gain_nats: float
    spread_exponent: float


def world_shape(distributions: Sequence[GapDistribution], autocorrelation: float) -> WorldShape:
    """Shape of a pair from its two models' distributions of gaps."""
    quantiles = np.stack([distribution.quantile(QUANTILES) for distribution in distributions])
    return WorldShape(quantiles, float(np.clip(autocorrelation, 0, 0.9)))


def world_offsets() -> Offsets:
    """200 documents of 200 positions."""
    return np.arange(0, N_DOCUMENTS * N_POSITIONS + 1, N_POSITIONS, dtype=np.int64)


def _ar1(rng: np.random.Generator, rho: float) -> np.ndarray:
    """Standard normal AR(1) within documents, (n,)."""
    noise = rng.standard_normal((N_DOCUMENTS, N_POSITIONS)) * np.sqrt(1 - rho**2)
    noise[:, 0] /= np.sqrt(1 - rho**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -rho], noise, axis=1)).ravel()


def _gaps_of(scores: list[np.ndarray], shape: WorldShape) -> np.ndarray:
    """Gaps with the pair's marginals from normal scores, (2, n)."""
    pairs = zip(scores, shape.gap_quantiles, strict=True)
    return np.stack([np.interp(stats.norm.cdf(score), QUANTILES, quantiles) for score, quantiles in pairs])


def gap_world(shape: WorldShape, *, planted: bool, rng: np.random.Generator) -> GapWorld:
    """Two models that share a difficulty; `planted`: beyond it their normal scores correlate by 0.3."""
    rho = shape.autocorrelation
    correlation = PLANTED_CORRELATION if planted else 0.0
    difficulty, first, other = _ar1(rng, rho), _ar1(rng, rho), _ar1(rng, rho)
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    shared, own = np.sqrt(SHARED_DIFFICULTY), np.sqrt(1 - SHARED_DIFFICULTY)
    scores = [shared * difficulty + own * part for part in (first, second)]
    return GapWorld(_gaps_of(scores, shape), difficulty, world_offsets())


def token_world(shape: WorldShape, *, planted: bool, least_gain_nats: float, rng: np.random.Generator) -> TokenWorld:
    """Two models whose gaps are alike or opposed at random, so that cos(phase difference) varies.

    `planted`: the truth is drawn from Born Rule Fusion (arctan map, s the pooled median gap); else from the linear
    pool of the same models. Where the pair's marginals leave too little to gain, log-gaps are spread about the
    median until the expected gain over the best constant coherence is `least_gain_nats`; ValueError if none is
    enough.
    """
    rho = shape.autocorrelation
    first, noise = _ar1(rng, rho), _ar1(rng, rho)
    sign = np.where(rng.random(first.size) < OPPOSED_SHARE, -1.0, 1.0)
    second = OPPOSED_CORRELATION * sign * first + np.sqrt(1 - OPPOSED_CORRELATION**2) * noise
    plain = _gaps_of([first, second], shape)
    same_top = rng.random(first.size) < 0.5
    most = -np.inf
    for exponent in SPREAD_EXPONENTS:
        gaps = shape.scale * (np.maximum(plain, 1e-6) / shape.scale) ** exponent
        log_p = _distributions(gaps / (UNIT * shape.scale), same_top)
        phi = np.stack([phases("arctan", row, scale=shape.scale) for row in gaps])
        fused = fuse("brf", log_p, phases_rad=phi).p
        gain = _gain_over_constant(fused, log_p)
        most = max(most, gain)
        if gain >= least_gain_nats:
            truth = fused if planted else fuse("linear", log_p).p
            targets = _draw(truth, rng)
            return TokenWorld(gaps, log_p, targets, world_offsets(), gain if planted else 0.0, exponent)
    raise ValueError(f"no planted world gains {least_gain_nats} nats; the most was {most:.4f}")


def _distributions(gaps: np.ndarray, same_top: np.ndarray) -> np.ndarray:
    """Log-probabilities (2, n, V) with the given gaps: ladders over 8 common and 4 own tokens per model.

    The top token is a common one where `same_top`, else each model's own; the other model's own tokens sit on a
    low floor.
    """
    n_tokens = N_SHARED_TOKENS + 2 * N_OWN_TOKENS
    rows = []
    for model, gap in enumerate(gaps):
        own = np.arange(N_SHARED_TOKENS + model, n_tokens, 2)
        z = np.full((gap.size, n_tokens), -FLOOR) - gap[:, None]
        z[:, :N_SHARED_TOKENS] = -gap[:, None] - RUNG * np.arange(N_SHARED_TOKENS)
        z[:, own] = -gap[:, None] - RUNG * np.arange(N_OWN_TOKENS)
        top = np.where(same_top, 0, own[0])
        z[np.arange(gap.size), top] = 0.0
        rows.append(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
    return np.stack(rows)


def _gain_over_constant(truth: np.ndarray, log_p: np.ndarray) -> float:
    """Expected log loss of the best constant coherence less that of the truth itself, nats."""
    with np.errstate(divide="ignore"):
        log_truth = np.log(truth)
    entropy = -(truth * np.where(truth > 0, log_truth, 0.0)).sum(axis=1).mean()
    p = np.exp(log_p)
    total, root = p.sum(axis=0), np.sqrt(p[0] * p[1])
    overlap = bhattacharyya(log_p[0], log_p[1])

    def loss(c: float) -> float:
        # Wide gaps underflow to probability 0 in both models and in the truth: those tokens count as nothing.
        score = np.log(np.maximum(total + 2 * c * root, 1e-300))
        return float(np.log(2 + 2 * c * overlap).mean() - (truth * score).sum(axis=1).mean())

    losses = [loss(float(c)) for c in np.linspace(-0.8, 1.0, 19)]
    return float(min(losses) - entropy)


def _draw(distribution: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One token per row."""
    cumulative = distribution.cumsum(axis=1)
    level = rng.random(cumulative.shape[0]) * cumulative[:, -1]
    return np.minimum((cumulative <= level[:, None]).sum(axis=1), distribution.shape[1] - 1)
