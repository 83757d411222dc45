"""Tuning of all rules in one pass over chunks of rows, and what it chose."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.gate import FittedGate, GateFitter, score_gate, tuned_gate
from brf_exp.maths.specs import GATE, RIVAL, Parameters, RuleSpec
from brf_exp.maths.topk_votes import VoteCounter, vote_losses, votes
from brf_exp.maths.tuning import Folds, ScoredRule, TunedRule, Tuner, score, split_by_fold, untuned
from brf_exp.stages.fusion_source import Source


@dataclass(frozen=True)
class Fitted:
    """Everything that tuning chose."""

    tuned: dict[str, TunedRule]
    folds: Folds | None
    hit_rates: dict[int, tuple[float, float]]
    gates: dict[int, FittedGate]

    def score(self, rows: FusionRows, documents: slice, pool: ThreadPoolExecutor) -> dict[str, ScoredRule]:
        """Every rule on a chunk of rows."""
        fold = None if self.folds is None else self.folds.of_document[documents]
        by_fold = None if fold is None else split_by_fold(rows, fold)

        def one(tuned: TunedRule) -> ScoredRule:
            if tuned.spec.name == "majority_vote":
                assert fold is not None
                return ScoredRule(tuned, vote_losses(rows.known, votes(rows.known), **self._rates(rows, fold)))
            if tuned.spec.role == GATE:
                assert fold is not None
                return score_gate(tuned, self.gates, rows, fold, by_fold)
            return score(tuned, rows, fold, by_fold)

        return dict(zip(self.tuned, pool.map(one, self.tuned.values()), strict=True))

    def _rates(self, rows: FusionRows, fold: np.ndarray) -> dict[str, np.ndarray]:
        table = np.array([self.hit_rates[number] for number in sorted(self.hit_rates)])
        of_row = np.repeat(fold, np.diff(rows.offsets))
        return {"hit_rate": table[of_row, votes(rows.known).agree.astype(int)]}


def fit(
    source: Source,
    specs: list[RuleSpec],
    folds: Folds | None,
    n_models: int,
    temperatures: tuple[float, ...],
    pool: ThreadPoolExecutor,
    on_step: Callable[[str], None],
) -> Fitted:
    """One pass over the rows that chooses the parameters of every fold; none where nothing is tuned."""
    tuned = {spec.name: untuned(spec) for spec in specs}
    if folds is None:
        return Fitted(tuned, None, {}, {})
    tuner, counter = Tuner(specs, folds), VoteCounter(folds.of_document)
    gate = GateFitter(folds.of_document, n_models, temperatures)
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
    gates = gate.chosen()
    tuned["gate"] = tuned_gate(gates)
    return Fitted(tuned, folds, rates, gates)


def _outside_spec(name: str, role: str) -> RuleSpec:
    """A rule that is fitted in a way of its own."""

    def losses(rows: FusionRows, parameters: object) -> None:
        raise AssertionError(f"{name} is scored on its own")

    return RuleSpec(name, role, None, losses, {})  # type: ignore[arg-type]
