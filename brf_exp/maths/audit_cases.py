"""What fusion rules are audited on: random forecasts, small ones for examples, and the settings of each rule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from brf_exp.maths.fusion import Fused, equal_weights, normalised
from brf_exp.maths.phases import phases
from brf_exp.maths.rules import RULES

MIN_PROBABILITY = 1e-12
# A smaller sum of scores is mostly rounding error: such positions decide nothing.
SMALLEST_SUM = 1e-6
# Scale s of the phases that come from the forecasts' own gaps, in nats.
GAP_SCALE = 1.0
# Small forecasts: how many of each size, and what their probabilities are multiples of (by number of tokens).
N_SMALL = 600
PARTS = {2: 10, 3: 20, 4: 50}
# Dirichlet concentrations of random forecasts.
CONCENTRATIONS = (0.02, 3.0)


@dataclass(frozen=True)
class Forecasts:
    """What M models say at n positions, with phases that are free to choose.

    `p` (M, n, V) probabilities; `phases_rad` (M, n) one phase per model and position; `token_phases_rad` (M, n, V)
    one per token as well.
    """

    p: np.ndarray
    phases_rad: np.ndarray
    token_phases_rad: np.ndarray

    @property
    def log_p(self) -> np.ndarray:
        """Natural logarithms; -inf for a probability of 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.p)

    def models(self, order: Sequence[int]) -> "Forecasts":
        """The same models in another order, or one of them several times."""
        picked = list(order)
        return Forecasts(self.p[picked], self.phases_rad[picked], self.token_phases_rad[picked])

    def rows(self, index: slice | np.ndarray) -> "Forecasts":
        """Some of the positions."""
        return Forecasts(self.p[:, index], self.phases_rad[:, index], self.token_phases_rad[:, index])


@dataclass(frozen=True)
class Cases:
    """Forecasts of one size, with what properties need besides: a `likelihood` (n, V) to update them by."""

    forecasts: Forecasts
    likelihood: np.ndarray


@dataclass(frozen=True)
class Setting:
    """A rule at fixed parameters. `phases` and `confidence` name what the models' arrays are made of.

    `n_models` is the only number of models that the rule is defined for, or None.
    """

    rule: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    phases: str | None = None
    confidence: str | None = None
    n_models: int | None = None

    @property
    def label(self) -> str:
        """The setting in words; empty where the rule has nothing to set."""
        parts = [f"{name.replace('_', ' ')} {value:g}" for name, value in self.parameters.items()]
        parts += [f"{kind} {name}" for kind, name in (("phases", self.phases), ("confidence", self.confidence)) if name]
        return ", ".join(part.replace("_", " ") for part in parts)


def _at(rule: str, parameter: str, values: Sequence[float], n_models: int | None = None) -> tuple[Setting, ...]:
    return tuple(Setting(rule, {parameter: value}, n_models=n_models) for value in values)


def _top_gaps(p: np.ndarray) -> np.ndarray:
    """Logit gap of every model and position (M, n), nats."""
    with np.errstate(divide="ignore"):
        ranked = np.log(np.sort(p, axis=-1)[..., -2:])
    return ranked[..., 1] - ranked[..., 0]


def _token_gaps(p: np.ndarray) -> np.ndarray:
    """How far every token lies behind the model's best (M, n, V), nats."""
    with np.errstate(divide="ignore"):
        return np.log(p.max(axis=-1, keepdims=True)) - np.log(p)


def _of_gaps(gaps: np.ndarray) -> np.ndarray:
    return phases("arctan", gaps, scale=GAP_SCALE)


def _flipped(phases_rad: np.ndarray) -> np.ndarray:
    """The second model's phase turned by half a circle."""
    turned = phases_rad.copy()
    turned[1] += np.pi
    return turned


def _negative_entropy(p: np.ndarray) -> np.ndarray:
    return (p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


PHASES: dict[str, Callable[[Forecasts], np.ndarray]] = {
    "zero": lambda f: np.zeros_like(f.phases_rad),
    "random": lambda f: f.phases_rad,
    "gap": lambda f: _of_gaps(_top_gaps(f.p)),
    "gap_flipped": lambda f: _flipped(_of_gaps(_top_gaps(f.p))),
    "token_random": lambda f: f.token_phases_rad,
    "token_gap": lambda f: _of_gaps(_token_gaps(f.p)),
}
CONFIDENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max_prob": lambda p: p.max(axis=-1),
    "gap": _top_gaps,
    "entropy": _negative_entropy,
}
SETTINGS: tuple[Setting, ...] = (
    Setting("linear"),
    Setting("log_linear"),
    *_at("product", "exponent", (0.5, 1.0, 2.0)),
    *_at("power_mean", "order", (-1.0, 0.0, 0.5, 1.0, 2.0)),
    *_at("lin_log_mixture", "mixture", (0.5,)),
    *_at("constant_coherence", "coherence", (-0.5, 0.0, 0.5, 1.0)),
    *_at("contrastive", "strength", (0.1, 0.5, 1.0), n_models=2),
    *_at("majority_vote", "hit_rate", (0.5,)),
    *(Setting("routing", confidence=name) for name in CONFIDENCES),
    # Which model is turned matters to three.
    *(Setting("brf", phases=name, n_models=2 if name == "gap_flipped" else None) for name in PHASES),
)


def phases_of(setting: Setting, forecasts: Forecasts) -> np.ndarray | None:
    """Phases (M, n) or (M, n, V) under a setting, radians; None where the rule has none."""
    return None if setting.phases is None else PHASES[setting.phases](forecasts)


def score_of(setting: Setting, forecasts: Forecasts, *, turn_rad: float = 0.0) -> np.ndarray:
    """Unnormalised fused score (n, V) at equal weights; `turn_rad` is added to every phase."""
    parameters: dict[str, object] = dict(setting.parameters)
    phases_rad = phases_of(setting, forecasts)
    if phases_rad is not None:
        parameters["phases_rad"] = phases_rad + turn_rad
    if setting.confidence is not None:
        parameters["confidence"] = CONFIDENCES[setting.confidence](forecasts.p)
    weights = equal_weights(forecasts.p.shape[0])
    return RULES[setting.rule].numerator(forecasts.log_p, weights, **parameters)


def fused_by(setting: Setting, forecasts: Forecasts, *, turn_rad: float = 0.0) -> Fused:
    """Fused distributions (n, V) at equal weights."""
    return normalised(score_of(setting, forecasts, turn_rad=turn_rad))


def decided(fused: Fused) -> np.ndarray:
    """Positions (n,) whose fused distribution exists and is more than rounding error."""
    return ~fused.undefined & (fused.normaliser > SMALLEST_SUM)


def draw_forecasts(n: int, vocabulary_size: int, rng: np.random.Generator, *, n_models: int = 2) -> Forecasts:
    """Dirichlet distributions, from peaked to flat by model and position, floored at 1e-12; uniform phases."""
    least, most = np.log(CONCENTRATIONS)
    concentration = np.exp(rng.uniform(least, most, size=(n_models, n, 1)))
    p = rng.gamma(concentration, size=(n_models, n, vocabulary_size))
    p = np.maximum(p / p.sum(axis=-1, keepdims=True), MIN_PROBABILITY)
    p /= p.sum(axis=-1, keepdims=True)
    return Forecasts(p, rng.uniform(0, 2 * np.pi, p.shape[:2]), rng.uniform(0, 2 * np.pi, p.shape))


def draw_cases(n: int, vocabulary_size: int, rng: np.random.Generator, *, n_models: int = 2) -> Cases:
    """Random forecasts with a uniform likelihood in [0.1, 1]."""
    forecasts = draw_forecasts(n, vocabulary_size, rng, n_models=n_models)
    return Cases(forecasts, rng.uniform(0.1, 1.0, forecasts.p.shape[1:]))


def small_cases(n_tokens: int, rng: np.random.Generator, *, n_models: int = 2) -> Cases:
    """Forecasts to check by hand: round probabilities, phases in eighths of a circle, a first token half as likely.

    Nothing in them rests on how a rule breaks ties: no model has two equal probabilities, no two models have the same
    largest one or the same gap, and no two tokens the same sum.
    """
    parts = PARTS[n_tokens]
    shares = _distinct_shares(parts, n_tokens)
    # Peaked forecasts as often as flat ones.
    often = 1 / shares.prod(axis=1)
    picked = shares[rng.choice(len(shares), p=often / often.sum(), size=(n_models, 8 * N_SMALL))]
    odds = np.sort(picked, axis=-1)
    untied = _all_differ(picked.max(axis=-1).T) & _all_differ(picked.sum(axis=0))
    untied &= _all_differ(np.round(odds[..., -1] / odds[..., -2], 9).T)
    p = picked[:, untied][:, :N_SMALL] / parts
    likelihood = np.ones(p.shape[1:])
    likelihood[:, 0] = 0.5
    eighths = rng.integers(0, 8, p.shape[:2]), rng.integers(0, 8, p.shape)
    return Cases(Forecasts(p, eighths[0] * np.pi / 4, eighths[1] * np.pi / 4), likelihood)


def _distinct_shares(parts: int, n_tokens: int) -> np.ndarray:
    """Every way (rows) to give n tokens different whole numbers of parts, at least one each."""
    grid = np.indices((parts - 1,) * (n_tokens - 1)).reshape(n_tokens - 1, -1).T + 1
    kept = np.column_stack([grid, parts - grid.sum(axis=1)])
    kept = kept[kept[:, -1] > 0]
    return kept[_all_differ(kept)]


def _all_differ(rows: np.ndarray) -> np.ndarray:
    """Which rows (n,) have no two equal numbers."""
    return np.asarray((np.diff(np.sort(rows, axis=1), axis=1) > 0).all(axis=1))


def audit_cases(
    n: int, vocabulary_size: int, rng: np.random.Generator, *, n_triples: int | None = None
) -> dict[int, list[Cases]]:
    """Cases for two and for three models, the smallest first; the last are `n` pairs or `n_triples` triples."""
    sizes = {2: n, 3: n if n_triples is None else n_triples}
    return {
        n_models: [
            *(small_cases(n_tokens, rng, n_models=n_models) for n_tokens in PARTS),
            draw_cases(size, vocabulary_size, rng, n_models=n_models),
        ]
        for n_models, size in sizes.items()
    }
