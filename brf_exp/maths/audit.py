"""Structural properties of fusion rules, evaluated on random distributions rather than asserted."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from brf_exp.maths.fusion import RULES, Fused, bhattacharyya, coherent_numerator, equal_weights, fuse, mixture_share

TOLERANCE = 1e-9
PHASE_FREE = ("linear", "log_linear", "product", "power_mean", "lin_log_mixture", "constant_coherence", "contrastive")
AUDITED = (*PHASE_FREE, "majority_vote", "routing", "brf")
# Parameters at which a rule shows what it can do: product and power mean away from the log and linear pools.
SHOWN_AT: dict[str, dict[str, float]] = {
    "product": {"exponent": 2.0},
    "constant_coherence": {"coherence": 0.5},
}


@dataclass(frozen=True)
class Sample:
    """Random pairs of distributions: `log_p` (2, n, V) and phases (2, n)."""

    log_p: np.ndarray
    phases_rad: np.ndarray


@dataclass(frozen=True)
class RuleAudit:
    """Which properties hold on every sample, and the largest deviation seen for each."""

    properties: dict[str, bool | None]
    worst: dict[str, float]


@dataclass(frozen=True)
class Identity:
    """An equation with the largest error found."""

    statement: str
    max_error: float

    @property
    def holds(self) -> bool:
        """Within rounding."""
        return self.max_error < TOLERANCE


def draw_sample(n: int, vocabulary_size: int, rng: np.random.Generator) -> Sample:
    """Pairs of Dirichlet(0.5) distributions with uniform phases."""
    p = rng.dirichlet(np.full(vocabulary_size, 0.5), size=(2, n))
    return Sample(np.log(np.maximum(p, 1e-12)), rng.uniform(0, 2 * np.pi, size=(2, n)))


def _apply(rule: str, log_p: np.ndarray, phases_rad: np.ndarray) -> Fused:
    parameters: dict[str, Any] = dict(SHOWN_AT.get(rule, {}))
    if RULES[rule].uses_phases:
        parameters["phases_rad"] = phases_rad
    return fuse(rule, log_p, **parameters)


def audit_rule(rule: str, sample: Sample, rng: np.random.Generator) -> RuleAudit:
    """Every property of one rule. `worst` holds the largest violation; a property holds below 1e-9."""
    fused = _apply(rule, sample.log_p, sample.phases_rad)
    q, p = fused.p, np.exp(sample.log_p)
    low, high = p.min(axis=0), p.max(axis=0)
    worst = {
        "never_below_minimum": float((low - q).max()),
        "never_above_maximum": float((q - high).max()),
        "in_convex_hull": _distance_to_segment(q, p),
        "no_cross_terms": _interaction(rule, sample),
        "unanimity": _unanimity(rule, sample),
        "marginalisation": _marginalisation(rule, sample, q),
        "external_bayesianity": _bayesianity(rule, sample, q, rng),
        "zero_preservation": _zeros(rule, sample),
        "model_permutation": float(np.abs(_apply(rule, sample.log_p[::-1], sample.phases_rad[::-1]).p - q).max()),
    }
    properties: dict[str, bool | None] = {name: value < TOLERANCE for name, value in worst.items()}
    properties["gauge_invariance"] = None
    if RULES[rule].uses_phases:
        worst["gauge_invariance"] = float(np.abs(_apply(rule, sample.log_p, sample.phases_rad + 1.234).p - q).max())
        properties["gauge_invariance"] = worst["gauge_invariance"] < TOLERANCE
    return RuleAudit(properties, worst)


def _distance_to_segment(q: np.ndarray, p: np.ndarray) -> float:
    """Largest distance of q from the nearest point a p_1 + (1 - a) p_2, 0 <= a <= 1."""
    direction = p[0] - p[1]
    share = ((q - p[1]) * direction).sum(axis=1) / np.maximum((direction**2).sum(axis=1), 1e-300)
    nearest = p[1] + np.clip(share, 0, 1)[:, None] * direction
    return float(np.abs(q - nearest).max())


def _interaction(rule: str, sample: Sample) -> float:
    """Largest |N(p_1, p_2) - N(p_1, 0) - N(0, p_2)|: 0 where the score is a sum of single-model terms."""
    numerator, weights = RULES[rule].numerator, equal_weights(2)
    parameters: dict[str, object] = dict(SHOWN_AT.get(rule, {}))
    if RULES[rule].uses_phases:
        parameters["phases_rad"] = sample.phases_rad
    nothing = np.full_like(sample.log_p[0], -np.inf)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        both = numerator(sample.log_p, weights, **parameters)
        first = numerator(np.stack([sample.log_p[0], nothing]), weights, **parameters)
        second = numerator(np.stack([nothing, sample.log_p[1]]), weights, **parameters)
        excess = np.abs(both - np.nan_to_num(first, posinf=0.0) - np.nan_to_num(second, posinf=0.0))
    return float(excess.max())


def _unanimity(rule: str, sample: Sample) -> float:
    """Largest |q - p| when both models say the same p (with their own phases)."""
    same = np.stack([sample.log_p[0], sample.log_p[0]])
    fused = _apply(rule, same, sample.phases_rad)
    return float(np.abs(np.where(fused.undefined[:, None], np.exp(same[0]), fused.p) - np.exp(same[0])).max())


def _merge(log_p: np.ndarray) -> np.ndarray:
    """The first two outcomes taken together."""
    merged = np.logaddexp(log_p[..., 0], log_p[..., 1])
    return np.concatenate([merged[..., None], log_p[..., 2:]], axis=-1)


def _marginalisation(rule: str, sample: Sample, q: np.ndarray) -> float:
    """Largest difference between fusing then merging two outcomes and merging then fusing."""
    merged_after = np.concatenate([q[:, :2].sum(axis=1, keepdims=True), q[:, 2:]], axis=1)
    return float(np.abs(_apply(rule, _merge(sample.log_p), sample.phases_rad).p - merged_after).max())


def _bayesianity(rule: str, sample: Sample, q: np.ndarray, rng: np.random.Generator) -> float:
    """Largest difference between updating by a likelihood before and after fusing."""
    likelihood = rng.uniform(0.1, 1.0, size=q.shape)
    updated = sample.log_p + np.log(likelihood)
    updated -= np.log(np.exp(updated).sum(axis=2, keepdims=True))
    after = q * likelihood
    after /= np.maximum(after.sum(axis=1, keepdims=True), 1e-300)
    return float(np.abs(_apply(rule, updated, sample.phases_rad).p - after).max())


def _zeros(rule: str, sample: Sample) -> float:
    """Largest fused probability of a token to which both models give none."""
    p = np.exp(sample.log_p)
    p[:, :, 0] = 0.0
    p /= p.sum(axis=2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        fused = _apply(rule, np.log(p), sample.phases_rad).p
    return float(np.nan_to_num(fused[:, 0], nan=1.0).max())


def identities(sample: Sample) -> dict[str, Identity]:
    """The exact relations between Born Rule Fusion and known rules, each with its largest error."""
    log_p, phi = sample.log_p, sample.phases_rad
    c, overlap = np.cos(phi[0] - phi[1]), bhattacharyya(log_p[0], log_p[1])
    share = mixture_share(c, overlap)[:, None]
    mixture = (1 - share) * fuse("linear", log_p).p + share * fuse("log_linear", log_p).p
    born = fuse("brf", log_p, phases_rad=phi).p
    zero = fuse("brf", log_p, phases_rad=np.zeros_like(phi)).p
    constant = coherent_numerator(log_p, equal_weights(2), coherence=c)
    return {
        "lin_log_mixture": Identity(
            "BRF = (1 - lam) LinearPool + lam LogPool, lam = c B / (1 + c B)", _largest(born, mixture)
        ),
        "zero_phase_power_mean": Identity(
            "BRF at zero phase = power mean of order 1/2 (alpha-integration at alpha = 0)",
            _largest(zero, fuse("power_mean", log_p, order=0.5).p),
        ),
        "quadrature_linear": Identity(
            "BRF at a right angle (c = 0) = LinearPool",
            _largest(fuse("brf", log_p, phases_rad=_right_angle(phi)).p, fuse("linear", log_p).p),
        ),
        "cosine_only": Identity(
            "BRF depends on the phases through c = cos(phi_1 - phi_2) alone",
            _largest(born, constant / constant.sum(axis=1, keepdims=True)),
        ),
        "single_model": Identity(
            "BRF of one model is that model", _largest(fuse("brf", log_p[:1], phases_rad=phi[:1]).p, np.exp(log_p[0]))
        ),
    }


def _right_angle(phi: np.ndarray) -> np.ndarray:
    return np.stack([phi[0], phi[0] + np.pi / 2])


def _largest(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left - right).max())
