"""The Cross-Term Discrimination Test on chunks of rows: what `discriminate` and its planted worlds both run."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from brf_exp.config import EvaluationConfig, PhaseConfig
from brf_exp.maths.decisions import Gates, RivalEnds, Verdict, discrimination_verdict
from brf_exp.maths.discrimination import Contrast, contrasts
from brf_exp.maths.distribution import default_scale, gap_distribution
from brf_exp.maths.fusion_rows import FusionRows, position_phases
from brf_exp.maths.gate import GateFitter, gate_losses
from brf_exp.maths.phases import MAPS
from brf_exp.maths.specs import (
    CANDIDATE,
    GATE,
    OTHER_MAP,
    RIVAL,
    Parameters,
    RuleSpec,
    at_temperatures,
    brf_spec,
    control_specs,
    phase_free_specs,
    untuned_specs,
)
from brf_exp.maths.topk_votes import VoteCounter, vote_losses, votes
from brf_exp.maths.tuning import Folds, ScoredRule, TunedRule, Tuner, score, untuned
from brf_exp.stages.discrimination_tables import DiscriminationTables
from brf_exp.stages.fusion_source import Source
from brf_exp.stages.rule_scores import RuleScores


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
    temperatures: tuple[float, ...] = (1.0,)
    has_entropies: bool = False
    complete: bool = False


@dataclass(frozen=True)
class MapVerdict:
    """Born Rule Fusion under one map: its rule name, contrasts and verdict."""

    map: str
    rule: str
    contrasts: list[Contrast]
    verdict: Verdict


@dataclass(frozen=True)
class RuleTestResult:
    """Every rule with its parameters, all scores added up, one verdict per map, the primary first."""

    tuned: dict[str, TunedRule]
    scores: RuleScores
    tables: DiscriminationTables
    maps: list[MapVerdict]

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
    on_step: Callable[[str], None] = lambda name: None,
) -> RuleTestResult:
    """Tune every rule in one pass, score it in another, contrast each map's candidate, and decide."""
    specs = specs_for(settings)
    # Arithmetic on large arrays leaves Python's lock, so rules are scored side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fitted = _fit(source, specs, settings, pool, on_step)
        scores = RuleScores(source.offsets, fitted.tuned, settings.evaluation)
        own_phases = position_phases(settings.phase.name)
        tables = DiscriminationTables(source.offsets, own_phases, own_scale, fitted.tuned["constant_coherence"])
        on_step("score")
        for documents, rows in source.chunks():
            scored = fitted.score(rows, documents, pool)
            scores.add(rows, documents, scored)
            tables.add(rows, documents, scored)
    candidates = [("brf", settings.phase.name)]
    candidates += [(name, name.removeprefix("brf_")) for name, t in fitted.tuned.items() if t.spec.role == OTHER_MAP]
    maps = [_decide(rule, name, index, scores, settings) for index, (rule, name) in enumerate(candidates)]
    return RuleTestResult(fitted.tuned, scores, tables, maps)


@dataclass(frozen=True)
class Fitted:
    """Everything that tuning chose."""

    tuned: dict[str, TunedRule]
    folds: Folds | None
    hit_rates: dict[int, tuple[float, float]]
    cells: dict[int, np.ndarray]

    def score(self, rows: FusionRows, documents: slice, pool: ThreadPoolExecutor) -> dict[str, ScoredRule]:
        """Every rule on a chunk of rows."""
        fold = None if self.folds is None else self.folds.of_document[documents]

        def one(tuned: TunedRule) -> ScoredRule:
            if tuned.spec.name == "majority_vote":
                assert fold is not None
                return ScoredRule(tuned, vote_losses(rows.known, votes(rows.known), **self._rates(rows, fold)))
            if tuned.spec.role == GATE:
                assert fold is not None
                return ScoredRule(tuned, gate_losses(rows, self.cells, fold))
            return score(tuned, rows, fold)

        return dict(zip(self.tuned, pool.map(one, self.tuned.values()), strict=True))

    def _rates(self, rows: FusionRows, fold: np.ndarray) -> dict[str, np.ndarray]:
        table = np.array([self.hit_rates[number] for number in sorted(self.hit_rates)])
        of_row = np.repeat(fold, np.diff(rows.offsets))
        return {"hit_rate": table[of_row, votes(rows.known).agree.astype(int)]}


def _fit(
    source: Source,
    specs: list[RuleSpec],
    settings: RuleSettings,
    pool: ThreadPoolExecutor,
    on_step: Callable[[str], None],
) -> Fitted:
    """One pass over the rows that chooses the parameters of every fold; none where nothing is tuned."""
    tuned = {spec.name: untuned(spec) for spec in specs}
    folds = settings.folds
    if folds is None:
        return Fitted(tuned, None, {}, {})
    tuner, counter = Tuner(specs, folds), VoteCounter(folds.of_document)
    gate = GateFitter(folds.of_document, settings.n_models)
    on_step("tune")
    for documents, rows in source.chunks():
        tuner.add(rows, documents, pool.map)
        counter.add(votes(rows.known), rows.offsets, documents)
        gate.add(rows, documents)
    tuned |= tuner.chosen()
    rates = counter.rates()
    vote_parameters: dict[int, Parameters] = {
        fold: {"hit_rate_disagree": split, "hit_rate_agree": agreed} for fold, (split, agreed) in rates.items()
    }
    tuned["majority_vote"] = TunedRule(_outside_spec("majority_vote", RIVAL), vote_parameters)
    tuned["gate"] = TunedRule(_outside_spec("gate", GATE), {-1: {}})
    return Fitted(tuned, folds, rates, gate.chosen())


def _outside_spec(name: str, role: str) -> RuleSpec:
    """A rule that is fitted in a way of its own."""

    def losses(rows: FusionRows, parameters: object) -> None:
        raise AssertionError(f"{name} is scored on its own")

    return RuleSpec(name, role, None, losses, {})  # type: ignore[arg-type]


def _decide(rule: str, map_name: str, index: int, scores: RuleScores, settings: RuleSettings) -> MapVerdict:
    if scores.n_undefined[rule]:
        return MapVerdict(map_name, rule, [], Verdict("inconclusive", "undefined fusion"))
    references = scores.references_of(rule)
    is_rival = [scores.tuned[name].spec.role == RIVAL for name in references]
    made = contrasts(
        references,
        scores.contrast_ends(rule, references),
        np.diff(scores.offsets),
        rivals=is_rival,
        confidence_level=settings.evaluation.confidence_level,
        n_resamples=settings.evaluation.n_resamples,
        rng=np.random.default_rng([settings.seed, 41, index]),
    )
    ends = [
        RivalEnds(c.reference, c.upper_one_sided, c.lower_simultaneous, c.upper_middle, c.lower_middle)
        for c, rival in zip(made, is_rival, strict=True)
        if rival
    ]
    verdict = discrimination_verdict(settings.gates, ends, delta_nats=settings.delta_nats)
    return MapVerdict(map_name, rule, made, verdict)


def detectable_against_best(result: RuleTestResult) -> float | None:
    """The gain that would be found with 80 % power against the best rival, nats."""
    rivals = [c for c in result.primary.contrasts if result.tuned[c.reference].spec.role == RIVAL]
    if not rivals:
        return None
    best = min(rivals, key=lambda c: float(result.scores.mean_loss(c.reference).mean()))
    return best.minimum_detectable_nats
