"""What a table's values look like, over all its rows, beside what they are called."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from brf_exp.submission.convert import same_units_tolerance
from brf_exp.submission.description import LOG_BASES, Member
from brf_exp.submission.fault import Place, SubmissionError, said
from brf_exp.submission.floors import FLOOR, TargetFloors
from brf_exp.submission.half_precision import HalfPrecision
from brf_exp.submission.layout import Layout
from brf_exp.submission.normaliser import declared_bounds, log_sum_bounds
from brf_exp.submission.problems import Problems
from brf_exp.submission.rows import Rows
from brf_exp.submission.tempering import TemperatureEvidence

LEAST_VALUES: Final = 20  # fewer cells show nothing
SUM_TOLERANCE: Final = 2e-4  # of a sum of probabilities written with four digits
CERTAIN_RATIO: Final = 20.0  # the last listed token is this many times as likely as all unlisted ones together
FLOOR_DROP: Final = 30.0


@dataclass
class LabelEvidence:
    """Gathers, batch by batch, what would be so if a table's values were something else than they are called."""

    member: Member
    layout: Layout
    n_rows: int = 0
    low: float = np.inf
    high: float = -np.inf
    lowest_top: float = np.inf
    all_probabilities: bool = True
    all_negated: bool = True
    all_rising: bool = True
    all_logs: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(LOG_BASES, True))
    n_positive: int = 0
    n_sums_broken: int = 0
    largest_rest: float = 0.0
    n_unlikely_rest: int = 0
    floors: dict[float, int] = field(default_factory=dict)
    n_floor_ties: int = 0
    n_cut_rows: int = 0
    tempering: TemperatureEvidence = field(default_factory=TemperatureEvidence)
    target_floors: TargetFloors = field(default_factory=TargetFloors)
    half_precision: HalfPrecision = field(default_factory=HalfPrecision)

    def add(self, rows: Rows) -> None:
        """Take sound rows in."""
        values = rows.values
        if not len(values):
            return
        self.n_rows += len(values)
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.lowest_top = min(self.lowest_top, float(values[:, 0].min()))
        self._add_other_kinds(values, low, high)
        self._add_logs(rows, high)
        self._add_floor(values, low)
        self.target_floors.add(rows, self.layout.target)
        self.half_precision.add(rows)

    def add_contradicting(self, rows: Rows) -> None:
        """Take sound rows in of which some contradict the logsumexp or entropy beside them."""
        self.tempering.add(rows, self.layout, self.member)

    def _add_other_kinds(self, values: np.ndarray, low: float, high: float) -> None:
        self.all_rising = self.all_rising and bool((values[:, -1] > values[:, 0]).all())
        self.all_probabilities = self.all_probabilities and low >= 0 and high <= 1
        if self.all_probabilities:
            total, n_others = values.sum(axis=1), self.member.vocab_size - self.layout.k
            reaches = total + n_others * values.min(axis=1) >= 1 - SUM_TOLERANCE
            self.all_probabilities = bool((reaches & (total <= 1 + SUM_TOLERANCE)).all())
        self.all_negated = self.all_negated and low >= 0 and high > 1
        if self.all_negated and self.all_rising:
            least, largest = log_sum_bounds(-values, self.member.vocab_size)
            self.all_negated = bool(((least <= SUM_TOLERANCE) & (largest >= -SUM_TOLERANCE)).all())
        self.n_positive += int((values[:, 0] > SUM_TOLERANCE).sum())

    def _add_logs(self, rows: Rows, high: float) -> None:
        """Which logarithms the values could be: at most 0, with a sum that reaches 1 and does not exceed it."""
        if not any(self.all_logs.values()) or self.member.temperature != 1.0:
            return
        if high > same_units_tolerance(rows.values).max():
            self.all_logs = dict.fromkeys(self.all_logs, False)
            return
        called = self.member.log_base
        least, largest = declared_bounds(rows, self.member)
        n_broken = self._try_base(called, least, largest)
        if n_broken and self.layout.log_probabilities:
            self.n_sums_broken += n_broken
            for base in set(self.all_logs) - {called}:
                self._try_base(base, *log_sum_bounds(rows.values * LOG_BASES[base], self.member.vocab_size))
        rest = np.abs(np.expm1(np.minimum(least, 1.0)))
        self.largest_rest = max(self.largest_rest, float(rest.max()))
        last = np.exp(rows.values.min(axis=1) * LOG_BASES[called])
        self.n_unlikely_rest += int((last > CERTAIN_RATIO * np.maximum(rest, 1e-6)).sum())

    def _try_base(self, base: str, least: np.ndarray, largest: np.ndarray) -> int:
        """Note whether every row's sum can be 1 in a base; the number of rows where it cannot."""
        n_broken = int(((least > SUM_TOLERANCE) | (largest < -SUM_TOLERANCE)).sum())
        self.all_logs[base] = self.all_logs[base] and n_broken == 0
        return n_broken

    def _add_floor(self, values: np.ndarray, low: float) -> None:
        """Rows that end in one low value: what a sampler writes for tokens that it removed."""
        if low > FLOOR:
            return
        last = values[:, -1]
        floored = (last == values.min(axis=1)) & (last <= FLOOR) & (values[:, 0] - last >= FLOOR_DROP)
        found, counts = np.unique(last[floored], return_counts=True)
        for value, count in list(zip(found.tolist(), counts.tolist(), strict=True))[:8]:
            if value in self.floors or len(self.floors) < 64:
                self.floors[value] = self.floors.get(value, 0) + count
        self.n_floor_ties += int((floored & (values[:, -2] == last)).sum())

    def judge(self, place: Place, problems: Problems) -> None:
        """Name what the table looks like, at most one kind of value, and filters and temperatures."""
        if self.n_cut_rows > 1:
            problems.add(self._cut(place))
        for error, n in self.target_floors.named():
            problems.add(error, n=n)
        if self.n_rows * self.layout.k < LEAST_VALUES:
            return
        half = self.half_precision.named(place, contradicted=self.tempering.n_broken > 0)
        for found in (self._other_kind(place), self._filtered(place), half, *self.tempering.named(place)):
            if found is not None:
                problems.add(found)

    def _other_kind(self, place: Place) -> SubmissionError | None:
        called = "log-probabilities" if self.layout.log_probabilities else "logits"
        what = f"must be {called} as declared, got what looks like"
        span = f"all {self.n_rows * self.layout.k} values lie from {self.low:.6g} to {self.high:.6g}"
        if self.all_probabilities and self.lowest_top < self.high:
            sentence = f"{what} probabilities: {span} and every row can sum to 1. Dump their natural logarithm."
            return said(place, sentence, check="looks-probabilities")
        if self.all_negated and self.all_rising:
            sentence = f"{what} negative log-probabilities: {span}, and with the sign turned every row can sum to 1."
            return said(place, f"{sentence} Turn the sign and sort best first.", check="looks-negated")
        if self.all_rising:
            sentence = f"{what} values sorted worst first: the last is the largest in all {self.n_rows} rows."
            return said(place, f"{sentence} Sort every row, best first, with its ids.", check="looks-worst-first")
        return self._log_kind(place, what, span) if self.layout.log_probabilities else self._called_logits(place, what)

    def _log_kind(self, place: Place, what: str, span: str) -> SubmissionError | None:
        called = self.member.log_base
        if 2 * self.n_positive > self.n_rows:
            sentence = f"{what} logits: {self.n_positive} of {self.n_rows} rows have values above 0, and {span}."
            sentence += " Say value_kind: logit, and add their logsumexp."
            return said(place, sentence, check="looks-logits")
        if self.member.temperature != 1.0:
            return None
        others = [base for base, holds in self.all_logs.items() if holds and base != called]
        if self.n_sums_broken and others and not self.all_logs[called]:
            return self._other_base(place, others[0])
        return self._normalised_again(place)

    def _other_base(self, place: Place, base: str) -> SubmissionError:
        sentence = (
            f"must be logarithms to base {self.member.log_base} (log_base), got what looks like base {base}: as "
            f"declared the probabilities of {self.n_sums_broken} of {self.n_rows} rows cannot sum to 1, "
            f"to base {base} all can. Say log_base: {base}."
        )
        return said(place, sentence, check="looks-log-base")

    def _normalised_again(self, place: Place) -> SubmissionError | None:
        k, vocab_size = self.layout.k, self.member.vocab_size
        if k == vocab_size or not self.all_logs[self.member.log_base] or self.largest_rest > SUM_TOLERANCE:
            return None
        sentence = (
            f"must be log-probabilities over all {vocab_size} tokens, got what looks like ones normalised over the {k} "
            f"listed: in all {self.n_rows} rows these sum to 1 within {self.largest_rest:.2g}"
        )
        remedy = "Dump them before that, or say value_kind: logit, which keeps the gaps and claims no sum."
        if 2 * self.n_unlikely_rest >= self.n_rows:
            sentence += (
                f", and in {self.n_unlikely_rest} of them the last one listed is over {CERTAIN_RATIO:g} times as "
                "likely as all tokens behind it"
            )
            return said(place, f"{sentence}. {remedy}", check="looks-renormalised")
        return said(place, f"{sentence}. {remedy}", check="looks-sum-to-one")

    def _called_logits(self, place: Place, what: str) -> SubmissionError | None:
        """Values called logits that are log-probabilities; a logsumexp beside them says what they are."""
        if not self.all_logs["e"] or self.layout.normaliser or self.member.temperature != 1.0:
            return None
        sentence = (
            f"{what} log-probabilities: in all {self.n_rows} rows they are at most 0 and can sum to 1 over "
            f"{self.member.vocab_size} tokens. Say value_kind: logprob if so; the discrimination test needs it."
        )
        return said(place, sentence, check="looks-log-probabilities")

    def _filtered(self, place: Place) -> SubmissionError | None:
        value, n = max(self.floors.items(), key=lambda item: item[1], default=(0.0, 0))
        if n < 2 or not self.n_floor_ties or self.layout.k == self.member.vocab_size:
            return None
        sentence = (
            f"must hold the model's own values, got what looks like a top-p or top-k filter: {n} of {self.n_rows} rows "
            f"end in exactly {value:g}, {self.n_floor_ties} of them more than once. Dump values before any filter."
        )
        return said(place, sentence, check="looks-filtered")

    def _cut(self, place: Place) -> SubmissionError:
        sentence = (
            f"must have {self.layout.k} finite values in every row, got {self.n_cut_rows} rows that end in empty or "
            "infinite ones, as a top-p or top-k filter leaves them. Dump values before any filter, as many per row."
        )
        return said(place, sentence, check="looks-filtered")
