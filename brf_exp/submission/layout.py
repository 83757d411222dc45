"""Which columns of a submitted table are what."""

import re
from dataclasses import dataclass
from typing import Final

from brf_exp.storage import schema
from brf_exp.submission.description import Member
from brf_exp.submission.fault import Place, SubmissionError, listed, said
from brf_exp.submission.problems import Problems
from brf_exp.submission.tables import Source

MOST_COLUMNS: Final = 600_000
NUMBERED: Final = re.compile(r"(id|logit|logprob)_(0|[1-9][0-9]{0,6})")
AT_TEMPERATURE: Final = re.compile(r"logsumexp_t(?:0\.[0-9]{0,5}[1-9][0-9]{0,5}|[1-9][0-9]{0,2}(?:\.[0-9]{1,6})?)")
OPTIONAL: Final = ("doc_id", "token_id", "char_start", "char_end", "target_rank", "entropy")


@dataclass(frozen=True)
class Layout:
    """The columns of one table that will be read.

    `values`, `ids` (empty where not given), `target` and `fixed` are names of the file; `log_probabilities` says
    whether the values are log-probabilities; `ignored` are the columns nobody asked for.
    """

    values: tuple[str, ...]
    ids: tuple[str, ...]
    target: str | None
    fixed: tuple[str, ...]
    log_probabilities: bool
    ignored: tuple[str, ...]

    @property
    def k(self) -> int:
        """Values per row."""
        return len(self.values)

    @property
    def normaliser(self) -> bool:
        """Whether the logsumexp at temperature 1 stands beside the values."""
        return "logsumexp" in self.fixed

    @property
    def read(self) -> list[str]:
        """Every column to be read."""
        return [*self.fixed, *([self.target] if self.target else []), *self.ids, *self.values]


def layout_of(source: Source, member: Member, problems: Problems) -> Layout | None:
    """Find the columns of a table, given what its model's entry declares; None, and problems, where they do not fit."""
    names, place = source.names, source.place
    n_before = problems.n_errors
    values: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    stem, log_probabilities = "", False
    if len(names) > MOST_COLUMNS:
        problems.add(_columns(place, f"must have at most {MOST_COLUMNS} columns, got {len(names)}. Dump fewer values."))
        return None
    with problems.catching():
        if "position" not in names:
            raise _columns(place, f"must have the column position, got {listed(names)}. Name it so, one per column.")
    with problems.catching():
        stem, log_probabilities = _value_stem(names, member, place)
        values = _numbered(names, stem, place)
        _check_k(values, stem, member, place)
    with problems.catching():
        ids = _ids(names, len(values), place)
    with problems.catching():
        fixed = _fixed(names, place, log_probabilities=log_probabilities)
    if problems.n_errors > n_before:
        return None
    target = f"target_{stem}" if f"target_{stem}" in names else None
    used = {*values, *ids, *fixed, target}
    return Layout(values, ids, target, fixed, log_probabilities, tuple(name for name in names if name not in used))


def _columns(place: Place, sentence: str) -> SubmissionError:
    return said(place, sentence, check="table-columns")


def _value_stem(names: tuple[str, ...], member: Member, place: Place) -> tuple[str, bool]:
    """`logit` or `logprob`: how the value columns are named; and whether they hold log-probabilities."""
    stems = {match[1] for name in names if (match := NUMBERED.fullmatch(name))} - {"id"}
    if not stems:
        raise _columns(place, f"must have the columns logit_1, logit_2, ..., got {listed(names)}. Dump at least two.")
    if member.value_kind == "logit" and "logit" not in stems:
        raise said(
            f"models.{member.key}.value_kind",
            f"must be logprob where {place} has logprob_1, logprob_2, ..., got 'logit'. Change one of them.",
            check="table-kind",
        )
    if member.value_kind == "logprob":
        return ("logprob" if "logprob" in stems else "logit"), True
    stem = "logit" if "logit" in stems else "logprob"
    if stem == "logit" and member.log_base != "e":
        sentence = "must be e for logits. Remove it, or say value_kind: logprob."
        raise said(f"models.{member.key}.log_base", sentence, check="table-kind")
    return stem, stem == "logprob"


def _numbered(names: tuple[str, ...], stem: str, place: Place) -> tuple[str, ...]:
    """Columns stem_1..stem_k; a problem where a number is left out."""
    found = sorted(int(m[2]) for name in names if (m := NUMBERED.fullmatch(name)) and m[1] == stem)
    for expected, number in enumerate(found, start=1):
        if number != expected:
            have = listed([f"{stem}_{n}" for n in found])
            raise _columns(
                place,
                f"must have {stem}_{expected} ({stem}_1, {stem}_2, ... without a gap), got {have}. Number from 1.",
            )
    return tuple(f"{stem}_{number}" for number in found)


def _check_k(values: tuple[str, ...], stem: str, member: Member, place: Place) -> None:
    """At least two values per row, at most one per token."""
    if len(values) < schema.MIN_K:
        sentence = f"must have at least {stem}_1 and {stem}_2, got {listed(values)}. A gap needs two values."
        raise _columns(place, sentence)
    if len(values) > member.vocab_size:
        raise _columns(
            place,
            f"must have at most vocab_size = {member.vocab_size} values per row, got {len(values)}. Correct one.",
        )


def _ids(names: tuple[str, ...], k: int, place: Place) -> tuple[str, ...]:
    """Columns id_1..id_k, or none of them."""
    ids = _numbered(names, "id", place)
    if ids and k and len(ids) != k:
        raise _columns(place, f"must have as many id_ columns as values ({k}), got {len(ids)}. Dump id_1 to id_{k}.")
    return ids


def _fixed(names: tuple[str, ...], place: Place, *, log_probabilities: bool) -> tuple[str, ...]:
    """The other columns of the format; a logsumexp beside log-probabilities is of other values and not read."""
    spans = [name for name in ("char_start", "char_end") if name in names]
    if len(spans) == 1:
        sentence = f"must have char_start and char_end together, got {spans[0]} alone. Dump both or neither."
        raise _columns(place, sentence)
    fixed = ["position", *(name for name in OPTIONAL if name in names)]
    if not log_probabilities:
        fixed += [name for name in names if name == "logsumexp" or AT_TEMPERATURE.fullmatch(name)]
    return tuple(fixed)
