"""The Cross-Term Discrimination Test on rows in memory: what `discriminate` and its planted worlds both run."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from brf_exp.config import EvaluationConfig, PhaseConfig
from brf_exp.maths.decisions import Gates, RivalEnds, Verdict, discrimination_verdict
from brf_exp.maths.discrimination import Contrast, contrasts
from brf_exp.maths.distribution import default_scale, gap_distribution
from brf_exp.maths.documents import spread
from brf_exp.maths.phases import MAPS
from brf_exp.maths.topk_votes import vote_losses, votes
from brf_exp.maths.tuning import (
    PairRows,
    RuleSpec,
    ScoredRule,
    brf_spec,
    control_specs,
    cross_fitted_hit_rates,
    phase_free_specs,
    score,
    scored_coherence,
    untuned_specs,
)


@dataclass(frozen=True)
class MapVerdict:
    """Born Rule Fusion under one map: its rule name, contrasts and verdict."""

    map: str
    rule: str
    contrasts: list[Contrast]
    verdict: Verdict


@dataclass(frozen=True)
class RuleTestResult:
    """All scored rules by name, cos(phase difference) of those with phases, one verdict per map, the primary first."""

    scored: dict[str, ScoredRule]
    coherences: dict[str, np.ndarray]
    maps: list[MapVerdict]

    @property
    def primary(self) -> MapVerdict:
        """The map that decides."""
        return self.maps[0]


def specs_for(rows: PairRows, phase: PhaseConfig, *, all_maps: bool) -> list[RuleSpec]:
    """The candidate first, then every rival, control and model, and the other maps where asked for."""
    median = default_scale(gap_distribution([row]) for row in rows.gaps)
    specs = [brf_spec("brf", phase.name, phase.scale, role="candidate", default_scale=median)]
    specs += phase_free_specs() + untuned_specs(rows)
    specs += control_specs(phase.name, phase.scale, default_scale=median)
    if all_maps:
        others = [name for name in MAPS if name != phase.name]
        specs += [brf_spec(f"brf_{name}", name, None, role="other_map", default_scale=median) for name in others]
    return specs


def score_all(
    rows: PairRows,
    phase: PhaseConfig,
    *,
    folds: np.ndarray | None,
    all_maps: bool,
    on_rule: Callable[[str], None] = lambda name: None,
) -> dict[str, ScoredRule]:
    """Every rule's losses, out of sample where `folds` (one per document) are given."""
    specs = specs_for(rows, phase, all_maps=all_maps)

    def score_one(spec: RuleSpec) -> ScoredRule:
        on_rule(spec.name)
        return score(spec, rows, folds=folds)

    # Arithmetic on large arrays leaves Python's lock, so rules are scored side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = dict(zip([spec.name for spec in specs], pool.map(score_one, specs), strict=True))
    if folds is not None:
        scored["majority_vote"] = _vote(rows, folds)
    return scored


def _vote(rows: PairRows, folds: np.ndarray) -> ScoredRule:
    ballot = votes(rows.known)
    rates = cross_fitted_hit_rates(ballot.agree, ballot.hit, spread(folds, rows.offsets))
    losses = vote_losses(rows.known, ballot, hit_rate=rates)
    spec = RuleSpec("majority_vote", "rival", lambda r, p: losses, {})
    per_fold = []
    for fold in np.unique(folds):
        mine = spread(folds, rows.offsets) == fold
        agreed = rates[mine & ballot.agree]
        split = rates[mine & ~ballot.agree]
        per_fold.append(
            {
                "hit_rate_agree": float(agreed[0]) if agreed.size else float("nan"),
                "hit_rate_disagree": float(split[0]) if split.size else float("nan"),
            }
        )
    kept = [{name: value for name, value in fold.items() if value == value} for fold in per_fold]
    return ScoredRule(spec, losses, tuple(kept))


def run_rules(
    rows: PairRows,
    phase: PhaseConfig,
    *,
    folds: np.ndarray | None,
    all_maps: bool,
    gates: Gates,
    delta_nats: float,
    evaluation: EvaluationConfig,
    seed: int,
    on_rule: Callable[[str], None] = lambda name: None,
) -> RuleTestResult:
    """Score every rule, contrast each map's candidate with all references, and decide."""
    scored = score_all(rows, phase, folds=folds, all_maps=all_maps, on_rule=on_rule)
    candidates = [("brf", phase.name)]
    candidates += [(name, name.removeprefix("brf_")) for name, s in scored.items() if s.spec.role == "other_map"]
    maps = [
        _decide(name, map_name, scored, rows, gates, delta_nats, evaluation, np.random.default_rng([seed, 41, index]))
        for index, (name, map_name) in enumerate(candidates)
    ]
    found = {name: scored_coherence(s, rows, folds) for name, s in scored.items()}
    return RuleTestResult(scored, {name: c for name, c in found.items() if c is not None}, maps)


def _decide(
    rule: str,
    map_name: str,
    scored: dict[str, ScoredRule],
    rows: PairRows,
    gates: Gates,
    delta_nats: float,
    evaluation: EvaluationConfig,
    rng: np.random.Generator,
) -> MapVerdict:
    candidate = scored[rule]
    if candidate.losses.undefined.any():
        return MapVerdict(map_name, rule, [], Verdict("inconclusive", "undefined fusion"))
    references = [
        s for s in scored.values() if s.spec.role not in ("candidate", "other_map") and not s.losses.undefined.any()
    ]
    is_rival = [s.spec.role == "rival" for s in references]
    made = contrasts(
        candidate,
        references,
        known=rows.known,
        offsets=rows.offsets,
        rivals=is_rival,
        confidence_level=evaluation.confidence_level,
        n_resamples=evaluation.n_resamples,
        rng=rng,
    )
    ends = [
        RivalEnds(c.reference, c.upper_one_sided, c.lower_simultaneous, c.upper_middle, c.lower_middle)
        for c, rival in zip(made, is_rival, strict=True)
        if rival
    ]
    return MapVerdict(map_name, rule, made, discrimination_verdict(gates, ends, delta_nats=delta_nats))


def detectable_against_best(result: RuleTestResult) -> float | None:
    """The gain that would be found with 80 % power against the best rival, nats."""
    rivals = [c for c in result.primary.contrasts if result.scored[c.reference].spec.role == "rival"]
    if not rivals:
        return None
    best = min(rivals, key=lambda c: float(result.scored[c.reference].losses.middle.mean()))
    return best.minimum_detectable_nats
