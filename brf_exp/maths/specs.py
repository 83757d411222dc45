"""Which rules are scored, with what may be tuned: every tuned rule has the same budget of candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from scipy import stats

from brf_exp.maths import topk_rules
from brf_exp.maths.fusion import equal_weights
from brf_exp.maths.fusion_rows import (
    FusionRows,
    PhaseFunction,
    coherences,
    position_phases,
    random_phases,
    token_phases,
    zero_phases,
)
from brf_exp.maths.rules import OPEN, RULES
from brf_exp.maths.topk_rules import RuleLosses, weights_of

BUDGET = 105
# Of rules that tune something else as well. With 5 of them Born Rule Fusion lost .011 nats on a real pair that 15 gave
# back, more than what decides, while rules that tune weights alone had all of the budget for them.
N_WEIGHTS = 15
SCALE_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
Value = float | tuple[float, ...]
Parameters = dict[str, Value]
# What a rule is scored with: one candidate's parameters, or one of them as an array of many candidates' values.
Given = Mapping[str, Value | np.ndarray]
LossFunction = Callable[[FusionRows, Given], RuleLosses]
SharedPhases = Callable[[FusionRows, Given], np.ndarray]
CANDIDATE, RIVAL, MODEL, ORACLE, GATE, OTHER_MAP = "candidate", "rival", "model", "oracle", "gate", "other_map"


@dataclass(frozen=True)
class RuleSpec:
    """A rule to be scored: how its loss comes about, what may be tuned, and its part in the verdict.

    `rule` is the name in rules.RULES whose numerator it has (None where the top token is a model's own). `phases`
    gives one phase per model and position for the rules that have phases, None for the others. `scaled`: candidates
    hold a `scale_factor`, a multiple of the training documents' default scale. `of_tokens`: every token has a phase
    of its own, of which `phases` is the top two tokens' difference. `along`: the parameter of which `losses` takes
    many candidates' values at once, as an array. `shared_phases`: the phases (M, n, k + 1) of the tokens that every
    model lists, where every token has its own.
    """

    name: str
    role: str
    rule: str | None
    losses: LossFunction
    defaults: Parameters
    candidates: tuple[Parameters, ...] = ()
    scaled: bool = False
    phases: PhaseFunction | None = None
    of_tokens: bool = False
    along: str | None = None
    shared_phases: SharedPhases | None = None

    def coherence(self, rows: FusionRows, parameters: Given) -> np.ndarray | None:
        """cos(phi_i - phi_j) of every pair of models, (P, n), of a rule that has phases."""
        return None if self.phases is None else coherences(self.phases(rows, _scale(parameters)))


def _scale(parameters: Given) -> float | None:
    value = parameters.get("scale")
    return float(value) if isinstance(value, float | int) else None


def weight_of(parameters: Given) -> topk_rules.Weight:
    """The weight argument of the losses: one number for two models, all weights for more; many candidates' as is."""
    value = parameters.get("weight", 0.5)
    return np.array(value) if isinstance(value, tuple | np.ndarray) else float(value)


def together(candidates: Sequence[Parameters], along: str | None, n_models: int) -> list[tuple[slice, Given]]:
    """Neighbouring candidates that differ in the parameter `along` only: their places, and what they are scored with.

    That is an array of their values, (C,) or of weights (C, M).
    """
    if along is None:
        return [(slice(place, place + 1), given) for place, given in enumerate(candidates)]
    found: list[tuple[slice, Given]] = []
    for others, members in groupby(candidates, lambda p: {name: p[name] for name in p if name != along}):
        values = [weights_of(weight_of(p), n_models) if along == "weight" else p[along] for p in members]
        first = found[-1][0].stop if found else 0
        found.append((slice(first, first + len(values)), {**others, along: np.array(values)}))
    return found


def weight_choices(n_models: int, n: int) -> tuple[Value, ...]:
    """Weights to choose from: the first of two models' weight, or points of the simplex, equal weights first."""
    if n_models == 2:
        return tuple(float(w) for w in np.linspace(0.02, 0.98, n))
    points = stats.qmc.Halton(n_models, scramble=False).random(n)[1:]
    spread = -np.log(np.clip(points, 1e-3, 1 - 1e-3))
    rest = spread / spread.sum(axis=1, keepdims=True)
    return tuple(tuple(float(w) for w in row) for row in np.vstack([equal_weights(n_models), rest]))


def grid(axes: Mapping[str, tuple[Value, ...]]) -> tuple[Parameters, ...]:
    """All combinations of the named values; ValueError where they are not BUDGET many."""
    combinations: list[Parameters] = [{}]
    for name, values in axes.items():
        combinations = [{**made, name: value} for made in combinations for value in values]
    if len(combinations) != BUDGET:
        raise ValueError(f"every rule is tuned with {BUDGET} candidates, got {len(combinations)} for {list(axes)}")
    return tuple(combinations)


def _with_weights(axes: Mapping[str, tuple[float, ...]], n_models: int, weighted: bool) -> tuple[Parameters, ...]:
    found: dict[str, tuple[Value, ...]] = dict(axes)
    if weighted:
        found["weight"] = weight_choices(n_models, N_WEIGHTS if axes else BUDGET)
    return grid(found)


def at_temperatures(spec: RuleSpec, temperatures: tuple[float, ...]) -> RuleSpec:
    """The rule with every candidate at every stored temperature: the same budget for all rules that are tuned."""
    if not spec.candidates or len(temperatures) == 1:
        return spec
    made = tuple({**p, "temperature": t} for t in temperatures for p in spec.candidates)
    return replace(spec, candidates=made)


def temperature_of(parameters: Given) -> float:
    """The temperature of a candidate, 1 unless it has one."""
    value = parameters.get("temperature", 1.0)
    assert isinstance(value, float | int)
    return float(value)


def phase_free_specs(n_models: int, *, complete: bool = False) -> list[RuleSpec]:
    """Every tuned rule of RULES without phases: the rivals.

    `complete`: the rows hold the whole vocabulary. Rules that a tail leaves unbounded are tuned only then.
    """
    found = []
    for name, rule in RULES.items():
        usable = rule.losses is not None and (rule.axes or rule.weighted) and not rule.uses_phases
        if not usable or (rule.most_models is not None and n_models > rule.most_models):
            continue
        candidates = _with_weights(rule.axes, n_models, rule.weighted) if complete or rule.bounds != OPEN else ()
        defaults: Parameters = {**rule.parameters, **({"weight": _equal(n_models)} if rule.weighted else {})}
        found.append(RuleSpec(name, RIVAL, name, _registered(name), defaults, candidates, along=rule.along))
    return found


def _equal(n_models: int) -> Value:
    return 0.5 if n_models == 2 else tuple(equal_weights(n_models).tolist())


def _registered(name: str) -> LossFunction:
    def losses(rows: FusionRows, parameters: Given) -> RuleLosses:
        given: dict[str, object] = {key: parameters[key] for key in parameters if key not in ("weight", "temperature")}
        if RULES[name].weighted:
            given["weight"] = weight_of(parameters)
        function = RULES[name].losses
        assert function is not None
        return function(rows.known_at(temperature_of(parameters)), **given)

    return losses


def brf_spec(
    name: str,
    phase: str,
    scale: float | None,
    *,
    role: str,
    n_models: int,
    default_scale: float | None,
    phases: PhaseFunction | None = None,
    scope: str = "position",
) -> RuleSpec:
    """Born Rule Fusion under a phase map; `phases` of a control instead of the map's own.

    The weights are tuned, and the scale where the map has one that is not set. `default_scale` is that of the untuned
    rule where none is set. Controls that have no scale must be given phase `zero` or `uniform`.
    """
    function = phases or position_phases(phase)
    has_scale = phase not in ("quantile", "table", "zero", "uniform")
    of_tokens = scope == "token" and phase != "zero"

    def shared_phases(rows: FusionRows, parameters: Given) -> np.ndarray:
        return token_phases(phase, rows, _scale(parameters), function(rows, _scale(parameters)))

    def losses(rows: FusionRows, parameters: Given) -> RuleLosses:
        known, weight = rows.known_at(temperature_of(parameters)), weight_of(parameters)
        if of_tokens:
            return topk_rules.token_phase_losses(known, phases_rad=shared_phases(rows, parameters), weight=weight)
        phi = function(rows, _scale(parameters))
        return topk_rules.coherent_losses(known, coherence=coherences(phi), weight=weight)

    of_shared = shared_phases if of_tokens else None
    defaults: Parameters = {"weight": _equal(n_models)}
    if has_scale:
        chosen = scale if scale is not None else default_scale
        assert chosen is not None
        defaults["scale"] = chosen
    if has_scale and scale is None:
        candidates = _with_weights({"scale_factor": SCALE_FACTORS}, n_models, True)
        return RuleSpec(name, role, "brf", losses, defaults, candidates, True, function, of_tokens, "weight", of_shared)
    fixed = {"scale": scale} if has_scale and scale is not None else {}
    candidates = tuple({**p, **fixed} for p in _with_weights({}, n_models, True))
    return RuleSpec(name, role, "brf", losses, defaults, candidates, False, function, of_tokens, "weight", of_shared)


def control_specs(
    phase: str, scale: float | None, *, n_models: int, default_scale: float | None, scope: str = "position"
) -> list[RuleSpec]:
    """Phase controls, tuned like the candidate: zero, shifted, flipped and random phases."""
    made: dict[str, tuple[str, PhaseFunction]] = {
        "brf_zero": ("zero", zero_phases),
        "brf_flipped": (phase, position_phases(phase, flipped=True)),
        "brf_uniform": ("uniform", random_phases),
        "brf_shifted": (phase, position_phases(phase, shifted=True)),
    }
    return [
        brf_spec(
            name,
            kind,
            scale,
            role=RIVAL,
            n_models=n_models,
            default_scale=default_scale,
            phases=function,
            scope="position" if kind in ("zero", "uniform") else scope,
        )
        for name, (kind, function) in made.items()
    ]


def untuned_specs(n_models: int, *, has_entropies: bool) -> list[RuleSpec]:
    """Rules without parameters: the models, routing, the oracle."""

    def fixed(name: str, role: str, losses: Callable[[FusionRows], RuleLosses]) -> RuleSpec:
        return RuleSpec(name, role, None, lambda rows, parameters: losses(rows), {})

    def entropy_losses(rows: FusionRows) -> RuleLosses:
        assert rows.entropies is not None
        return topk_rules.routed_losses(rows.known, confidence=-rows.entropies)

    specs = [
        fixed(f"model_{name}", MODEL, lambda r, place=place: topk_rules.single_losses(r.known, model=place))  # type: ignore[misc]
        for place, name in enumerate(model_letters(n_models))
    ]
    specs += [
        fixed("route_max_prob", RIVAL, lambda r: topk_rules.routed_losses(r.known, confidence=r.known.max_log_p)),
        fixed("route_gap", RIVAL, lambda r: topk_rules.routed_losses(r.known, confidence=r.gaps)),
        fixed("oracle", ORACLE, lambda r: topk_rules.oracle_losses(r.known)),
    ]
    return [*specs, fixed("route_entropy", RIVAL, entropy_losses)] if has_entropies else specs


def model_letters(n_models: int) -> list[str]:
    """a, b, c, ..."""
    return [chr(ord("a") + place) for place in range(n_models)]
