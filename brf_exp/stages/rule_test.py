"""The Cross-Term Discrimination Test on chunks of rows: what `discriminate` and its planted worlds both run."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from brf_exp.config import EvaluationConfig, PhaseConfig
from brf_exp.maths.decisions import (
    INCONCLUSIVE,
    Gates,
    RivalEnds,
    Verdict,
    discrimination_verdict,
    least_gain,
    undecided,
)
from brf_exp.maths.discrimination import Contrast, contrasts
from brf_exp.maths.distribution import default_scale, gap_distribution
from brf_exp.maths.fusion_rows import position_phases
from brf_exp.maths.phases import MAPS
from brf_exp.maths.specs import (
    CANDIDATE,
    OTHER_MAP,
    RIVAL,
    RuleSpec,
    at_temperatures,
    brf_spec,
    control_specs,
    phase_free_specs,
    untuned_specs,
)
from brf_exp.maths.truncation import OpenRival, deciding_k, width_law
from brf_exp.maths.tuning import Folds, TunedRule
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.auc_scores import AucScores
from brf_exp.stages.contrast_sums import ContrastSums
from brf_exp.stages.discrimination_tables import DiscriminationTables
from brf_exp.stages.fitted_rules import Fitted, fit
from brf_exp.stages.fusion_source import Source
from brf_exp.stages.rule_scores import RuleScores
from brf_exp.stages.secondary_scores import SecondaryScores


@dataclass(frozen=True)
class RuleSettings:
    """What determines the test besides the rows: how many models, the map, the folds, the levels."""

    n_models: int
    phase: PhaseConfig
    folds: Folds | None
    default_scale: float
    all_maps: bool
    gates: Gates
    delta_nats: float
    evaluation: EvaluationConfig
    seed: int
    k: int
    temperatures: tuple[float, ...] = (1.0,)
    has_entropies: bool = False
    vocabulary_size: int | None = None
    complete: bool = False


@dataclass(frozen=True)
class OtherRows:
    """Other rows that the tuned rules are scored on.

    `again`: the first documents, captured a second time, which gives the noise floor. `at_k`: the same rows with fewer
    logits, by how many; they are read only where truncation leaves the verdict open.
    """

    again: Source | None = None
    at_k: Mapping[int, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class MapVerdict:
    """Born Rule Fusion under one map: its rule name, contrasts and verdict.

    `noise_floors`: nats by reference, of those that have one.
    """

    map: str
    rule: str
    contrasts: list[Contrast]
    verdict: Verdict
    noise_floors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DecidingK:
    """The k that would decide the primary map, extrapolated from the mean widths at several k (nats, by rival)."""

    k: int | None
    verdict: str | None
    widths: dict[int, dict[str, float]]


@dataclass(frozen=True)
class RuleTestResult:
    """Every rule with its parameters, all scores added up, one verdict per map, the primary first."""

    tuned: dict[str, TunedRule]
    scores: RuleScores
    tables: DiscriminationTables
    aucs: AucScores
    secondary: SecondaryScores
    maps: list[MapVerdict]
    deciding: DecidingK | None = None
    n_positions_again: int = 0

    @property
    def primary(self) -> MapVerdict:
        """The map that decides."""
        return self.maps[0]


def folds_of(numbers: np.ndarray, gaps: Iterable[np.ndarray], offsets: np.ndarray) -> Folds:
    """Folds of documents with the default scale outside each; (M, n) gaps."""
    scales, models = {}, list(gaps)
    for fold in np.unique(numbers).tolist():
        kept = [slice(int(offsets[d]), int(offsets[d + 1])) for d in np.flatnonzero(numbers != fold)]
        scales[fold] = default_scale(gap_distribution(row[rows] for rows in _merged(kept)) for row in models)
    return Folds(numbers, scales)


def _merged(slices: list[slice]) -> list[slice]:
    """Neighbouring slices joined: fewer, longer pieces."""
    found: list[slice] = []
    for piece in slices:
        if found and found[-1].stop == piece.start:
            found[-1] = slice(found[-1].start, piece.stop)
        else:
            found.append(piece)
    return found


def specs_for(settings: RuleSettings) -> list[RuleSpec]:
    """The candidate first, then every rival, control and model, and the other maps where asked for."""
    phase, n_models, default = settings.phase, settings.n_models, settings.default_scale
    specs = [
        brf_spec(
            "brf", phase.name, phase.scale, role=CANDIDATE, n_models=n_models, default_scale=default, scope=phase.scope
        )
    ]
    specs += phase_free_specs(n_models, complete=settings.complete)
    specs += untuned_specs(n_models, has_entropies=settings.has_entropies)
    specs += control_specs(phase.name, phase.scale, n_models=n_models, default_scale=default, scope=phase.scope)
    if settings.all_maps:
        for name in MAPS:
            if name != phase.name and not (phase.scope == "token" and name == "quantile"):
                specs.append(
                    brf_spec(
                        f"brf_{name}",
                        name,
                        None,
                        role=OTHER_MAP,
                        n_models=n_models,
                        default_scale=default,
                        scope=phase.scope,
                    )
                )
    return [at_temperatures(spec, settings.temperatures) for spec in specs]


def run_rules(
    source: Source,
    settings: RuleSettings,
    *,
    own_scale: float | None = None,
    other: OtherRows | None = None,
    on_step: Callable[[str], None] = lambda name: None,
) -> RuleTestResult:
    """Tune every rule in one pass, score it in another, contrast each map's candidate, and decide."""
    other = other or OtherRows()
    # Arithmetic on large arrays leaves Python's lock, so rules are scored side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fitted = fit(
            source, specs_for(settings), settings.folds, settings.n_models, settings.temperatures, pool, on_step
        )
        scores = RuleScores(source.offsets, fitted.tuned, settings.evaluation)
        own_phases = position_phases(settings.phase.name)
        tables = DiscriminationTables(source.offsets, own_phases, own_scale, fitted.tuned["constant_coherence"])
        aucs = AucScores(source.offsets, own_phases, own_scale)
        secondary = SecondaryScores(source.offsets, fitted.tuned, settings.folds)
        on_step("score")
        for documents, rows in source.chunks():
            scored = fitted.score(rows, documents, pool)
            for collector in (scores, tables, aucs):
                collector.add(rows, documents, scored)
            secondary.add(rows, documents, scored, pool.map)
        again = None
        if other.again is not None:
            on_step("noise floor")
            again = _contrast_sums(other.again, fitted, pool)
        candidates = [("brf", settings.phase.name)]
        candidates += [
            (name, name.removeprefix("brf_")) for name, t in fitted.tuned.items() if t.spec.role == OTHER_MAP
        ]
        maps = [_decide(rule, name, index, scores, again, settings) for index, (rule, name) in enumerate(candidates)]
        deciding = None
        if maps[0].verdict == Verdict(INCONCLUSIVE, "truncation") and other.at_k:
            on_step("k that would decide")
            fewer = {k: _contrast_sums(rows, fitted, pool) for k, rows in other.at_k.items()}
            deciding = _deciding_k(maps[0], scores, fewer, settings)
    n_again = 0 if other.again is None else int(other.again.offsets[-1])
    return RuleTestResult(fitted.tuned, scores, tables, aucs, secondary, maps, deciding, n_again)


def _contrast_sums(source: Source, fitted: Fitted, pool: ThreadPoolExecutor) -> ContrastSums:
    """The tuned rules' contrasts on other rows of the same documents."""
    sums = ContrastSums(source.offsets, fitted.tuned)
    for documents, rows in source.chunks():
        sums.add(rows, documents, fitted.score(rows, documents, pool))
    return sums


def _decide(
    rule: str, map_name: str, index: int, scores: RuleScores, again: ContrastSums | None, settings: RuleSettings
) -> MapVerdict:
    if scores.n_undefined[rule]:
        return MapVerdict(map_name, rule, [], Verdict(INCONCLUSIVE, "undefined fusion"))
    sums = scores.contrasts
    references = sums.defined(rule)
    is_rival = [scores.tuned[name].spec.role == RIVAL for name in references]
    try:
        made = contrasts(
            references,
            sums.of(rule, references),
            np.diff(scores.offsets),
            rivals=is_rival,
            confidence_level=settings.evaluation.confidence_level,
            n_resamples=settings.evaluation.n_resamples,
            rng=np.random.default_rng([settings.seed, 41, index]),
        )
    except UndefinedStatisticError as error:  # one document has losses and no intervals
        return MapVerdict(map_name, rule, [], undecided(settings.gates, error.reason))
    floors = {}
    if again is not None:
        both = [name for name in references if name in again.defined(rule)]
        floors = dict(zip(both, sums.mean_shift(again, rule, both).tolist(), strict=True))
    ends = [
        RivalEnds(
            c.reference,
            c.upper_one_sided,
            c.lower_simultaneous,
            c.upper_middle,
            c.lower_middle,
            floors.get(c.reference),
        )
        for c, rival in zip(made, is_rival, strict=True)
        if rival
    ]
    verdict = discrimination_verdict(settings.gates, ends, delta_nats=settings.delta_nats)
    return MapVerdict(map_name, rule, made, verdict, floors)


def _deciding_k(
    primary: MapVerdict, scores: RuleScores, fewer: Mapping[int, ContrastSums], settings: RuleSettings
) -> DecidingK:
    """Extrapolate the widths of the primary map's contrasts with its rivals."""
    rivals = [c for c in primary.contrasts if scores.tuned[c.reference].spec.role == RIVAL]
    names = [c.reference for c in rivals]
    at_k = {**fewer, settings.k: scores.contrasts}
    widths = {k: dict(zip(names, at_k[k].mean_width(primary.rule, names).tolist(), strict=True)) for k in sorted(at_k)}
    open_rivals = [
        OpenRival(
            c.reference,
            c.upper_middle,
            c.lower_middle,
            least_gain(settings.delta_nats, primary.noise_floors.get(c.reference)),
            width_law(list(widths), [by_rival[c.reference] for by_rival in widths.values()]),
        )
        for c in rivals
    ]
    found = deciding_k(open_rivals, most=settings.vocabulary_size)
    return DecidingK(None, None, widths) if found is None else DecidingK(*found, widths)


def detectable_against_best(result: RuleTestResult) -> float | None:
    """The gain that would be found with 80 % power against the best rival, nats."""
    rivals = [c for c in result.primary.contrasts if result.tuned[c.reference].spec.role == RIVAL]
    if not rivals:
        return None
    best = min(rivals, key=lambda c: float(result.scores.mean_loss(c.reference).mean()))
    return best.minimum_detectable_nats
