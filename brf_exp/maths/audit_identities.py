"""The exact relations between Born Rule Fusion and known rules, each with the largest error found."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from brf_exp.maths.audit_cases import Forecasts, decided
from brf_exp.maths.fusion import Fused, bhattacharyya, coherent_numerator, equal_weights, mixture_share
from brf_exp.maths.rules import fuse

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Identity:
    """A relation with its error over all positions, the largest and the median: 0 or 1 where it is yes or no."""

    statement: str
    max_error: float
    median_error: float

    @property
    def holds(self) -> bool:
        """Within rounding."""
        return self.max_error < TOLERANCE


@dataclass(frozen=True)
class _Pair:
    """Two models with what the relations are about: c (n,), B (n,), both pools and the fused distributions (n, V)."""

    forecasts: Forecasts
    cosine: np.ndarray
    overlap: np.ndarray
    linear: np.ndarray
    log_linear: np.ndarray
    born: Fused


def _pair(drawn: Forecasts) -> _Pair:
    kept = decided(fuse("brf", drawn.log_p, phases_rad=drawn.phases_rad))
    forecasts = drawn.rows(kept) if kept.any() else drawn
    log_p, phi = forecasts.log_p, forecasts.phases_rad
    return _Pair(
        forecasts,
        np.cos(phi[0] - phi[1]),
        bhattacharyya(log_p[0], log_p[1]),
        fuse("linear", log_p).p,
        fuse("log_linear", log_p).p,
        fuse("brf", log_p, phases_rad=phi),
    )


def _lin_log_mixture(pair: _Pair) -> np.ndarray:
    share = mixture_share(pair.cosine, pair.overlap)[:, None]
    return pair.born.p - ((1 - share) * pair.linear + share * pair.log_linear)


def nearest_mixture(pair_log_p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The (1 - lam) LinearPool + lam LogPool nearest to q, lam any real number of its own at every position.

    Parameters: `pair_log_p` (2, n, V), `q` (n, V). Returns (n, V).
    """
    linear, log_linear = fuse("linear", pair_log_p).p, fuse("log_linear", pair_log_p).p
    along = log_linear - linear
    length = (along**2).sum(axis=1)
    share = np.divide(((q - linear) * along).sum(axis=1), length, out=np.zeros_like(length), where=length > 0)
    return linear + share[:, None] * along


def _token_phases_mixture(pair: _Pair) -> np.ndarray:
    log_p = pair.forecasts.log_p
    q = fuse("brf", log_p, phases_rad=pair.forecasts.token_phases_rad).p
    return q - nearest_mixture(log_p, q)


def _zero_phase_power_mean(pair: _Pair) -> np.ndarray:
    log_p = pair.forecasts.log_p
    zero = fuse("brf", log_p, phases_rad=np.zeros(log_p.shape[:2])).p
    return zero - fuse("power_mean", log_p, order=0.5).p


def _quadrature_linear(pair: _Pair) -> np.ndarray:
    first = pair.forecasts.phases_rad[0]
    right_angle = np.stack([first, first + np.pi / 2])
    return fuse("brf", pair.forecasts.log_p, phases_rad=right_angle).p - pair.linear


def _cosine_only(pair: _Pair) -> np.ndarray:
    return pair.born.p - fuse("constant_coherence", pair.forecasts.log_p, coherence=pair.cosine).p


def _single_model(pair: _Pair) -> np.ndarray:
    forecasts = pair.forecasts
    return fuse("brf", forecasts.log_p[:1], phases_rad=forecasts.phases_rad[:1]).p - forecasts.p[0]


def _agreement_monotone(pair: _Pair) -> np.ndarray:
    """Steps of q / linear the wrong way, with the tokens in order of agreement; its logarithm goes the same way."""
    log_p = pair.forecasts.log_p
    order = np.argsort(np.exp(0.5 * log_p.sum(axis=0)) / pair.linear, axis=1)
    steps = np.diff(np.take_along_axis(pair.born.p / pair.linear, order, axis=1), axis=1)
    return np.maximum(-np.sign(pair.cosine)[:, None] * steps, 0.0)


def _normaliser_bound(pair: _Pair) -> np.ndarray:
    return np.maximum(1 - pair.overlap - pair.born.normaliser, 0.0)[:, None]


def _undefined_in_antiphase(pair: _Pair) -> np.ndarray:
    """1 at every position that is undefined and should not be, or the other way round.

    In antiphase Z = 1 - B, so models that differ by less than rounding count as equal.
    """
    log_p, phi = pair.forecasts.log_p, pair.forecasts.phases_rad
    same = np.stack([log_p[0], log_p[0]])
    antiphase = np.stack([phi[0], phi[0] + np.pi])
    wrong = [
        ~fuse("brf", same, phases_rad=antiphase).undefined,
        fuse("brf", same, phases_rad=phi).undefined,
        fuse("brf", log_p, phases_rad=antiphase).undefined & (pair.overlap < 1 - TOLERANCE),
        pair.born.undefined,
    ]
    return np.stack(wrong, axis=1).astype(np.float64)


def _pairwise_cross_terms(triple: Forecasts) -> np.ndarray:
    """The score of three models minus its squares and the cross-terms of its pairs."""
    expected = triple.p.sum(axis=0) / 3
    for i, j in combinations(range(3), 2):
        cosine = np.cos(triple.phases_rad[i] - triple.phases_rad[j])[:, None]
        expected = expected + 2 / 3 * np.sqrt(triple.p[i] * triple.p[j]) * cosine
    born = fuse("brf", triple.log_p, phases_rad=triple.phases_rad)
    return born.p * born.normaliser[:, None] - expected


def _pairwise_normaliser(triple: Forecasts) -> np.ndarray:
    expected = np.ones(triple.p.shape[1])
    for i, j in combinations(range(3), 2):
        cosine = np.cos(triple.phases_rad[i] - triple.phases_rad[j])
        expected += 2 / 3 * cosine * bhattacharyya(triple.log_p[i], triple.log_p[j])
    return (fuse("brf", triple.log_p, phases_rad=triple.phases_rad).normaliser - expected)[:, None]


def _three_coherent(triple: Forecasts) -> np.ndarray:
    """Three models at zero phase minus the sum over pairs with one coherence of 1."""
    log_p = triple.log_p
    constant = coherent_numerator(log_p, equal_weights(3), coherence=1.0)
    zero = fuse("brf", log_p, phases_rad=np.zeros(log_p.shape[:2])).p
    return zero - constant / constant.sum(axis=1, keepdims=True)


OF_PAIRS: dict[str, tuple[str, Callable[[_Pair], np.ndarray]]] = {
    "lin_log_mixture": ("BRF = (1 - lam) LinearPool + lam LogPool, lam = c B / (1 + c B)", _lin_log_mixture),
    "token_phases_mixture": (
        "BRF with a phase per token = (1 - lam) LinearPool + lam LogPool for some lam of the position",
        _token_phases_mixture,
    ),
    "zero_phase_power_mean": (
        "BRF at zero phase = power mean of order 1/2 (alpha-integration at alpha = 0)",
        _zero_phase_power_mean,
    ),
    "quadrature_linear": ("BRF at a right angle (c = 0) = LinearPool", _quadrature_linear),
    "cosine_only": ("BRF depends on the phases through c = cos(phi_1 - phi_2) alone", _cosine_only),
    "single_model": ("BRF of one model is that model", _single_model),
    "agreement_monotone": (
        "log(q / LinearPool) rises with a(t) = sqrt(p_1 p_2) / ((p_1 + p_2) / 2) where c > 0 and falls where c < 0",
        _agreement_monotone,
    ),
    "normaliser_bound": ("Z >= 1 - B", _normaliser_bound),
    "undefined_in_antiphase": ("q is undefined at B = 1 and c = -1 and nowhere else", _undefined_in_antiphase),
}
OF_TRIPLES: dict[str, tuple[str, Callable[[Forecasts], np.ndarray]]] = {
    "pairwise_cross_terms": (
        "three models: score = sum_i w_i p_i + 2 sum_{i<j} sqrt(w_i w_j p_i p_j) cos(phi_i - phi_j)",
        _pairwise_cross_terms,
    ),
    "pairwise_normaliser": (
        "three models: Z = 1 + 2 sum_{i<j} sqrt(w_i w_j) cos(phi_i - phi_j) B_ij",
        _pairwise_normaliser,
    ),
    "zero_phase_coherent": ("three models: BRF at zero phase = constant coherence 1", _three_coherent),
}


def identities(pairs: Forecasts, triples: Forecasts) -> dict[str, Identity]:
    """Every relation by name, evaluated on forecasts of two and of three models at equal weights.

    One of them, `token_phases_mixture`, does not hold: its error is how far a phase per token leads from every
    mixture of the two pools.
    """
    pair = _pair(pairs)
    found = {name: _identity(statement, error(pair)) for name, (statement, error) in OF_PAIRS.items()}
    return found | {name: _identity(statement, error(triples)) for name, (statement, error) in OF_TRIPLES.items()}


def _identity(statement: str, errors: np.ndarray) -> Identity:
    by_position = np.abs(errors).max(axis=1)
    return Identity(statement, float(by_position.max()), float(np.median(by_position)))
