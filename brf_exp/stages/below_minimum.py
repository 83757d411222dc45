"""How often the realised token ends up below every model, how often so under the phase controls, and which tokens do.

Nothing here grows with the number of positions: sums are per document, frequencies per token of the vocabulary.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import stats

from brf_exp.config import EvaluationConfig
from brf_exp.maths.discrimination import below_minimum
from brf_exp.maths.documents import Offsets, document_sums, lengths_of
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.resampling import holm, ratio_test
from brf_exp.maths.specs import CANDIDATE, RIVAL, temperature_of
from brf_exp.maths.topk import TARGET
from brf_exp.maths.tuning import ScoredRule, TunedRule
from brf_exp.maths.undefined import UndefinedStatisticError

# Documents with a difference below which resamples of documents may hold next to none of them, and a bootstrap-t has
# intervals that are wrong (coverage down to .74 with 3) or without end; the t approximation keeps its size there.
LEAST_DOCUMENTS = 10
SURELY, MIDDLE, POSSIBLY = 0, 1, 2
OTHERS, EVENTS = 0, 1


class BelowMinimum:
    """Events of the candidate and of every phase control, per document, and what the candidate's events are."""

    def __init__(self, offsets: Offsets, tuned: Mapping[str, TunedRule]) -> None:
        self._offsets = offsets
        with_phases = {name: t.spec.role for name, t in tuned.items() if t.spec.phases is not None}
        (self._candidate,) = (name for name, role in with_phases.items() if role == CANDIDATE)
        self._controls = [name for name, role in with_phases.items() if role == RIVAL]
        self.names = [self._candidate, *self._controls]
        self._counts = {name: np.zeros((3, offsets.size - 1)) for name in self.names}
        self._n_undefined = dict.fromkeys(self.names, 0)
        self._tokens = RealisedTokens(offsets.size - 1)

    def add(self, rows: FusionRows, documents: slice, scored: Mapping[str, ScoredRule]) -> None:
        """Take a chunk of whole documents in."""
        for name, counts in self._counts.items():
            events = below_own_models(scored[name], rows)
            counts[:, documents] = document_sums(events.T.astype(np.float64), rows.offsets).T
            self._n_undefined[name] += int(scored[name].losses.undefined.sum())
            if name == self._candidate:
                self._tokens.add(rows, documents, events[MIDDLE])

    def rates(self, name: str) -> np.ndarray:
        """Share of realised tokens below every model: surely, at the midpoint, possibly; (3,)."""
        return self._counts[name].sum(axis=1) / int(self._offsets[-1])

    def summary(self, evaluation: EvaluationConfig, rng: np.random.Generator) -> dict[str, Any]:
        """What results.json says of them: `below_minimum_` rate, interval, controls, contrasts and events."""
        surely, middle, possibly = self.rates(self._candidate).tolist()
        return {
            "below_minimum_rate": middle,
            "below_minimum_interval": [surely, possibly],
            "below_minimum_controls": {name: float(self.rates(name)[MIDDLE]) for name in self._controls},
            "below_minimum_contrasts": self._contrasts(evaluation, rng),
            "below_minimum_events": {"n_undefined": self._n_undefined[self._candidate], **self._tokens.summary()},
        }

    def _contrasts(self, evaluation: EvaluationConfig, rng: np.random.Generator) -> dict[str, Any]:
        """Candidate's rate less each control's; below 0: rarer among realised tokens than under the control."""
        generators = rng.spawn(len(self._controls))
        made = {
            name: self._contrast(name, evaluation, generator)
            for name, generator in zip(self._controls, generators, strict=True)
        }
        tested = [contrast for contrast in made.values() if contrast["pvalue"] is not None]
        adjusted = holm(np.array([contrast["pvalue"] for contrast in tested]))
        for contrast, pvalue in zip(tested, adjusted.tolist(), strict=True):
            contrast["pvalue_adjusted"] = pvalue
        return made

    def _contrast(self, control: str, evaluation: EvaluationConfig, rng: np.random.Generator) -> dict[str, Any]:
        """One difference of rates at the midpoints, its interval by document, and what truncation leaves open of it."""
        names = ("difference", "truncation", "interval", "pvalue", "pvalue_adjusted", "reason")
        empty = dict.fromkeys(names)
        if self._n_undefined[self._candidate] or self._n_undefined[control]:
            return {**empty, "reason": "undefined fusion"}
        ours, theirs = self.rates(self._candidate), self.rates(control)
        made = {
            **empty,
            "difference": float(ours[MIDDLE] - theirs[MIDDLE]),
            "truncation": [float(ours[SURELY] - theirs[POSSIBLY]), float(ours[POSSIBLY] - theirs[SURELY])],
        }
        events, others = self._counts[self._candidate][MIDDLE], self._counts[control][MIDDLE]
        if not (events.any() or others.any()):
            return {**made, "reason": "no events"}
        try:
            interval, pvalue = difference_test(events - others, lengths_of(self._offsets), evaluation, rng)
        except UndefinedStatisticError as error:
            return {**made, "reason": error.reason}
        return {**made, "interval": list(interval), "pvalue": pvalue}


def difference_test(
    differences: np.ndarray, lengths: np.ndarray, evaluation: EvaluationConfig, rng: np.random.Generator
) -> tuple[tuple[float, float], float]:
    """Interval and p-value of a difference of rates by document; `differences` (D,) of counts.

    Raises UndefinedStatisticError for fewer than two documents, and where all have the same difference of rates.
    """
    level = evaluation.confidence_level
    test = ratio_test(differences, lengths, confidence_level=level, n_resamples=evaluation.n_resamples, rng=rng)
    (lower, upper), pvalue = test.interval, test.pvalue
    if test.method != "t" and np.count_nonzero(differences) < LEAST_DOCUMENTS:
        half_width = float(stats.t.ppf((1 + level) / 2, test.df)) * test.standard_error
        lower, upper = test.value - half_width, test.value + half_width
        pvalue = float(2 * stats.t.sf(abs(test.statistic), test.df))
    # No difference of rates is beyond 1, and a bootstrap-t with one document of most positions may be.
    return (max(lower, -1.0), min(upper, 1.0)), pvalue


def below_own_models(scored: ScoredRule, rows: FusionRows) -> np.ndarray:
    """Is the fused probability of the realised token below that of every model that was fused? (3, n) bool.

    Surely, at the midpoint, possibly; the models are taken at the temperature at which they were fused. Where the
    fused distribution may be undefined nothing is counted but the possibility.
    """
    found = np.empty((3, rows.n), dtype=bool)
    for chosen, parameters in scored.parts(rows):
        log_p_target = rows.known_at(temperature_of(parameters)).target[:, chosen]
        found[:, chosen] = below_minimum(scored.losses.bounds[:, chosen], log_p_target)
    found[:POSSIBLY] &= ~scored.losses.undefined
    return found


class RealisedTokens:
    """What the realised tokens of events are like, against all others.

    Their surprisal under the linear pool at equal weights, whether the models' top tokens agree there, and how
    frequent the token is among the realised tokens of all documents.
    """

    def __init__(self, n_documents: int) -> None:
        self._surprisal = np.zeros((2, n_documents))
        self._agree = np.zeros((2, n_documents))
        self._ids = np.empty(0, dtype=np.int64)
        self._counts = np.zeros((2, 0), dtype=np.int64)

    def add(self, rows: FusionRows, documents: slice, is_event: np.ndarray) -> None:
        """Take a chunk of whole documents in; `is_event` (n,) bool."""
        known = rows.known
        # Not the logarithm of a mean of probabilities, which may be too small for a number.
        surprisal = np.log(known.n_models) - np.logaddexp.reduce(known.target, axis=0)
        agree = (known.argmax_ids == known.argmax_ids[0]).all(axis=0)
        groups = np.stack([~is_event, is_event])
        for kept, values in ((self._surprisal, surprisal), (self._agree, agree.astype(np.float64))):
            kept[:, documents] = document_sums(np.where(groups, values, 0.0).T, rows.offsets).T
        self._count(known.shared_ids[:, TARGET], groups)

    def _count(self, ids: np.ndarray, groups: np.ndarray) -> None:
        n_before = self._ids.size
        found, place = np.unique(np.concatenate([self._ids, ids]), return_inverse=True)
        counts = np.stack([np.bincount(place[n_before:][group], minlength=found.size) for group in groups])
        counts[:, place[:n_before]] += self._counts
        self._ids, self._counts = found, counts

    def summary(self) -> dict[str, Any]:
        """Both groups, with null values and a reason where one of them is empty."""
        others, events = self._groups()
        n_others, n_events = self._counts.sum(axis=1).tolist()
        reason = None
        if n_events == 0 or n_others == 0:
            reason = "no events" if n_events == 0 else "nothing but events"
        return {
            "n_events": n_events,
            "n_others": n_others,
            "n_distinct_tokens": self._ids.size,
            "events": events,
            "others": others,
            "reason": reason,
        }

    def _groups(self) -> Iterator[dict[str, float | None]]:
        """The others, then the events. Rank 1 is the most frequent token; equally frequent ones share a mean rank."""
        ranks = stats.rankdata(-self._counts.sum(axis=0))
        for group in (OTHERS, EVENTS):
            n = int(self._counts[group].sum())
            yield {
                "surprisal_nats": float(self._surprisal[group].sum()) / n if n else None,
                "top_tokens_agree": float(self._agree[group].sum()) / n if n else None,
                "median_frequency_rank": _weighted_median(ranks, self._counts[group]) if n else None,
            }


def _weighted_median(values: np.ndarray, counts: np.ndarray) -> float:
    """Median of `values`, each as often as `counts` says."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(counts[order])
    n = int(cumulative[-1])
    middle = np.searchsorted(cumulative, [(n - 1) // 2, n // 2], side="right")
    return float(values[order][middle].mean())
