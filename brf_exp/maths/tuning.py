"""Rules with their parameter grids, and cross-fitting: every document is scored by parameters fitted on others.

Every tuned rule has the same budget: BUDGET candidates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brf_exp.maths import topk_rules as rules
from brf_exp.maths.distribution import default_scale, gap_distribution
from brf_exp.maths.documents import Offsets, document_sums, spread
from brf_exp.maths.phases import PhaseTable, phases
from brf_exp.maths.topk import KnownTokens
from brf_exp.maths.topk_rules import RuleLosses

BUDGET = 35
WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
SCALE_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
ORDERS = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0)
COHERENCES = (-0.6, -0.3, 0.0, 0.3, 0.6, 0.8, 1.0)
MIXTURES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)

Parameters = dict[str, float]


@dataclass(frozen=True)
class PairRows:
    """All positions of a pair: what is known of the tokens, and what the phases are made of.

    `gaps` (2, n) logits; `entropies` (2, n) nats or None; `shifted_gaps` the gaps circularly shifted within
    documents; `random_coherence` (n,) cosines of uniform random phase differences.
    """

    known: KnownTokens
    gaps: np.ndarray
    shifted_gaps: np.ndarray
    random_coherence: np.ndarray
    offsets: Offsets
    entropies: np.ndarray | None = None
    quantile_phases: np.ndarray | None = None
    shifted_quantile_phases: np.ndarray | None = None
    table: PhaseTable | None = None


LossFunction = Callable[[PairRows, Parameters], RuleLosses]
CoherenceFunction = Callable[[PairRows, Parameters], np.ndarray]


@dataclass(frozen=True)
class RuleSpec:
    """A rule to be scored: how its loss comes about, what may be tuned, and its part in the verdict.

    `role`: candidate | rival | model | oracle | other_map. `coherence`: cos(phase difference) per position for the
    rules that have phases, None for the others.
    """

    name: str
    role: str
    losses: LossFunction
    defaults: Mapping[str, float]
    candidates: tuple[Parameters, ...] = ()
    tunes_scale: bool = False
    coherence: CoherenceFunction | None = None


def grid(**axes: tuple[float, ...]) -> tuple[Parameters, ...]:
    """All combinations of the named values."""
    combinations: list[Parameters] = [{}]
    for name, values in axes.items():
        combinations = [{**made, name: value} for made in combinations for value in values]
    if len(combinations) != BUDGET:
        raise ValueError(f"every rule is tuned with {BUDGET} candidates, got {len(combinations)} for {list(axes)}")
    return tuple(combinations)


def _span(lower: float, upper: float) -> tuple[float, ...]:
    return tuple(float(value) for value in np.linspace(lower, upper, BUDGET))


WEIGHTS_ONLY = grid(weight=_span(0.02, 0.98))


def coherence_of(rows: PairRows, name: str, scale: float | None, *, shifted: bool = False) -> np.ndarray:
    """cos(phi_1 - phi_2) per position under a phase map, (n,)."""
    if name == "quantile":
        phi = rows.shifted_quantile_phases if shifted else rows.quantile_phases
        if phi is None:
            raise ValueError("phase map `quantile` needs the ranks of all gaps")
        return np.cos(phi[0] - phi[1])
    gaps = rows.shifted_gaps if shifted else rows.gaps
    first, second = (phases(name, model, scale=scale, table=rows.table) for model in gaps)
    return np.cos(first - second)


def coherent_spec(
    name: str, coherence: CoherenceFunction, *, role: str, defaults: Parameters, candidates: tuple[Parameters, ...]
) -> RuleSpec:
    """A rule with phases, given by its cos(phase difference)."""

    def losses(rows: PairRows, parameters: Parameters) -> RuleLosses:
        return rules.coherent_losses(rows.known, coherence=coherence(rows, parameters), weight=parameters["weight"])

    return RuleSpec(name, role, losses, defaults, candidates, coherence=coherence)


def brf_spec(
    name: str,
    phase: str,
    scale: float | None,
    *,
    role: str,
    default_scale: float,
    sign: float = 1.0,
    shifted: bool = False,
) -> RuleSpec:
    """Born Rule Fusion under a phase map. The weight is tuned, and the scale where the map has one that is not set.

    `default_scale` is the scale of the untuned rule where none is set.
    """

    def coherence(rows: PairRows, parameters: Parameters) -> np.ndarray:
        return sign * coherence_of(rows, phase, parameters.get("scale"), shifted=shifted)

    if phase in ("quantile", "table"):
        return coherent_spec(name, coherence, role=role, defaults={"weight": 0.5}, candidates=WEIGHTS_ONLY)
    if scale is not None:
        fixed = tuple({**candidate, "scale": scale} for candidate in WEIGHTS_ONLY)
        return coherent_spec(name, coherence, role=role, defaults={"weight": 0.5, "scale": scale}, candidates=fixed)
    made = coherent_spec(
        name,
        coherence,
        role=role,
        defaults={"weight": 0.5, "scale": default_scale},
        candidates=grid(scale_factor=SCALE_FACTORS, weight=WEIGHTS),
    )
    return replace(made, tunes_scale=True)


def phase_free_specs() -> list[RuleSpec]:
    """Every tuned rule without phases: the rivals."""
    return [
        RuleSpec(
            "linear",
            "rival",
            lambda r, p: rules.linear_losses(r.known, weight=p["weight"]),
            {"weight": 0.5},
            grid(weight=_span(0.02, 0.98)),
        ),
        RuleSpec(
            "log_linear",
            "rival",
            lambda r, p: rules.log_linear_losses(r.known, weight=p["weight"]),
            {"weight": 0.5},
            grid(weight=_span(0.16, 0.84)),
        ),
        RuleSpec(
            "power_mean",
            "rival",
            lambda r, p: rules.power_mean_losses(r.known, order=p["order"], weight=p["weight"]),
            {"order": 0.5, "weight": 0.5},
            grid(order=ORDERS, weight=WEIGHTS),
        ),
        RuleSpec(
            "lin_log_mixture",
            "rival",
            lambda r, p: rules.lin_log_losses(r.known, mixture=p["mixture"], weight=p["weight"]),
            {"mixture": 0.5, "weight": 0.5},
            grid(mixture=MIXTURES, weight=WEIGHTS),
        ),
        RuleSpec(
            "constant_coherence",
            "rival",
            lambda r, p: rules.coherent_losses(r.known, coherence=p["coherence"], weight=p["weight"]),
            {"coherence": 0.0, "weight": 0.5},
            grid(coherence=COHERENCES, weight=WEIGHTS),
        ),
        RuleSpec(
            "product",
            "rival",
            lambda r, p: rules.product_losses(r.known, exponent=p["exponent"]),
            {"exponent": 1.0},
            grid(exponent=_span(1.0, 2.0)),
        ),
    ]


def untuned_specs(rows: PairRows) -> list[RuleSpec]:
    """Rules without parameters: the models, routing, the oracle."""

    def fixed(name: str, role: str, losses: Callable[[PairRows], RuleLosses]) -> RuleSpec:
        return RuleSpec(name, role, lambda r, p: losses(r), {})

    specs = [
        fixed("model_a", "model", lambda r: rules.single_losses(r.known, model=0)),
        fixed("model_b", "model", lambda r: rules.single_losses(r.known, model=1)),
        fixed("route_max_prob", "rival", lambda r: rules.routed_losses(r.known, confidence=r.known.max_log_p)),
        fixed("route_gap", "rival", lambda r: rules.routed_losses(r.known, confidence=r.gaps)),
        fixed("oracle", "oracle", lambda r: rules.oracle_losses(r.known)),
    ]
    entropies = rows.entropies
    if entropies is not None:
        specs.append(fixed("route_entropy", "rival", lambda r: rules.routed_losses(r.known, confidence=-entropies)))
    return specs


def control_specs(phase: str, scale: float | None, *, default_scale: float) -> list[RuleSpec]:
    """Phase controls, tuned like the candidate: zero, shifted, flipped and random phases."""

    def random(rows: PairRows, parameters: Parameters) -> np.ndarray:
        return rows.random_coherence

    def one(rows: PairRows, parameters: Parameters) -> np.ndarray:
        return np.ones(rows.offsets[-1])

    return [
        coherent_spec("brf_zero", one, role="rival", defaults={"weight": 0.5}, candidates=WEIGHTS_ONLY),
        brf_spec("brf_flipped", phase, scale, role="rival", default_scale=default_scale, sign=-1.0),
        coherent_spec("brf_uniform", random, role="rival", defaults={"weight": 0.5}, candidates=WEIGHTS_ONLY),
        brf_spec("brf_shifted", phase, scale, role="rival", default_scale=default_scale, shifted=True),
    ]


@dataclass(frozen=True)
class ScoredRule:
    """A rule's out-of-sample losses and the parameters of each fold (one entry where nothing was tuned)."""

    spec: RuleSpec
    losses: RuleLosses
    parameters: tuple[Parameters, ...]


def scored_coherence(scored: ScoredRule, rows: PairRows, folds: np.ndarray | None) -> np.ndarray | None:
    """cos(phase difference) per position as the rule was scored, each fold with its own scale; None without phases."""
    if scored.spec.coherence is None:
        return None
    if folds is None or len(scored.parameters) == 1:
        return scored.spec.coherence(rows, scored.parameters[0])
    fold_of_row = spread(folds, rows.offsets)
    values = np.empty(fold_of_row.size)
    for fold, parameters in enumerate(scored.parameters):
        values[fold_of_row == fold] = scored.spec.coherence(rows, parameters)[fold_of_row == fold]
    return values


def score(
    spec: RuleSpec, rows: PairRows, *, folds: np.ndarray | None, on_candidate: Callable[[], Any] = lambda: None
) -> ScoredRule:
    """Score a rule; with `folds` (one per document) tuned on the other folds, else at its defaults."""
    if folds is None or not spec.candidates:
        return ScoredRule(spec, spec.losses(rows, dict(spec.defaults)), (dict(spec.defaults),))
    fold_of_row = spread(folds, rows.offsets)
    chosen: list[Parameters] = []
    assembled: RuleLosses | None = None
    shared_sums = None if spec.tunes_scale else _candidate_sums(spec, rows, list(spec.candidates))
    for fold in range(int(folds.max()) + 1):
        candidates = _fold_candidates(spec, rows, fold_of_row != fold)
        sums = shared_sums if shared_sums is not None else _candidate_sums(spec, rows, candidates)
        best = candidates[int(np.argmin(sums[folds != fold].sum(axis=0)))]
        losses = spec.losses(rows, best)
        assembled = losses if assembled is None else _take(assembled, losses, fold_of_row == fold)
        chosen.append(best)
        on_candidate()
    assert assembled is not None
    return ScoredRule(spec, assembled, tuple(chosen))


def _fold_candidates(spec: RuleSpec, rows: PairRows, training: np.ndarray) -> list[Parameters]:
    """Candidates of a fold: a tuned scale is a multiple of the training documents' pooled median gap."""
    if not spec.tunes_scale:
        return list(spec.candidates)
    base = default_scale(gap_distribution([model[training]]) for model in rows.gaps)
    return [{"scale": base * p["scale_factor"], "weight": p["weight"]} for p in spec.candidates]


def _candidate_sums(spec: RuleSpec, rows: PairRows, candidates: list[Parameters]) -> np.ndarray:
    """Per-document sums of the midpoint loss for each candidate, (D, P); undefined candidates are +inf."""
    columns = []
    for parameters in candidates:
        losses = spec.losses(rows, parameters)
        undefined = losses.undefined.any()
        columns.append(
            document_sums(losses.middle, rows.offsets) if not undefined else np.full(rows.offsets.size - 1, np.inf)
        )
    return np.column_stack(columns)


def _take(base: RuleLosses, other: RuleLosses, rows: np.ndarray) -> RuleLosses:
    """`base` with the chosen rows from `other`; the overlap form survives only where both have it."""
    coefficients = None
    if base.coefficients is not None and other.coefficients is not None:
        coefficients = np.where(rows, other.coefficients, base.coefficients)
    return replace(
        base,
        bounds=np.where(rows, other.bounds, base.bounds),
        coefficients=coefficients,
        undefined=np.where(rows, other.undefined, base.undefined),
    )


def cross_fitted_hit_rates(agree: np.ndarray, hit: np.ndarray, fold_of_row: np.ndarray) -> np.ndarray:
    """(hits + 0.5) / (n + 1) on the other folds, by agreement of the votes; (n,)."""
    rates = np.empty(hit.size)
    for fold in np.unique(fold_of_row):
        outside = fold_of_row != fold
        for value in (False, True):
            mine = (fold_of_row == fold) & (agree == value)
            others = outside & (agree == value)
            rates[mine] = (hit[others].sum() + 0.5) / (others.sum() + 1)
    return rates
