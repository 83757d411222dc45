"""One line for everything that can be wrong with a submission: what, where, what was found, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from brf_exp.errors import InputError
from brf_exp.submission.registry import CHECKS

LONGEST_VALUE: Final = 80
LONGEST_LISTED: Final = 60
UNREADABLE: Final = "table-file"


@dataclass(frozen=True)
class Place:
    """A file of a submission, and where known its 1-based data row and its column."""

    file: str
    row: int | None = None
    column: str | None = None

    def at(self, *, row: int | None = None, column: str | None = None) -> "Place":
        """The same file, narrowed to a row, a column or both."""
        return replace(self, row=self.row if row is None else row, column=self.column if column is None else column)

    def __str__(self) -> str:
        """The file, then row and column where known."""
        row = "" if self.row is None else f" row {self.row}"
        column = "" if self.column is None else f" column {self.column}"
        return f"{self.file}{row}{column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the check that found it, where, what was there, and what to do.

    `line` is the whole of it as one printable line.
    """

    check: str
    place: Place
    value: str | None
    remedy: str
    line: str

    @property
    def severity(self) -> str:
        """`error` or `warning`."""
        return CHECKS[self.check].severity


class SubmissionError(InputError):
    """A problem of a submission, raised where nothing further can be read.

    It may stand for `n` problems of one check, of which `others` are listed beside the first.
    """

    def __init__(self, problem: Problem, *, others: tuple[Problem, ...] = (), n: int = 1) -> None:
        super().__init__(problem.line)
        self.problem, self.others, self.n = problem, others, max(n, 1 + len(others))


def shown(value: object) -> str:
    """A value as a message shows it: its repr on one line, cut where long; None is `nothing`."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        value = value[: LONGEST_VALUE + 1]  # a repr of megabytes would only be cut
    return cut(repr(value), LONGEST_VALUE)


def cut(text: str, longest: int) -> str:
    """The text, shortened to at most `longest` characters."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names behind commas, the first twelve of many, long ones shortened."""
    shortened = [cut(name, LONGEST_LISTED) or "(unnamed)" for name in names[:12]]
    return ", ".join(shortened) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def printable(text: str) -> str:
    """The text with a question mark for every character that could move, hide or break a line."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def fault(
    where: Place | str, requirement: str, got: object, remedy: str, *, check: str = UNREADABLE
) -> SubmissionError:
    """The error for a value that must be something else; strings are quoted by `shown`."""
    value = shown(got)
    return _error(check, where, f"must be {requirement}, got {value}. {remedy}", value, remedy)


def said(where: Place | str, sentence: str, *, check: str = UNREADABLE) -> SubmissionError:
    """The error for a place with a sentence of its own, whose last part says what to do."""
    return _error(check, where, sentence, None, sentence.rpartition(". ")[2])


def together(errors: Sequence[SubmissionError], *, n: int) -> SubmissionError:
    """One error for the `n` problems of one check, of which these are listed."""
    return SubmissionError(errors[0].problem, others=tuple(error.problem for error in errors[1:]), n=n)


def _error(check: str, where: Place | str, sentence: str, value: str | None, remedy: str) -> SubmissionError:
    place = where if isinstance(where, Place) else Place(where)
    line = printable(f"`{cut(str(place), 200)}` {sentence}")
    return SubmissionError(Problem(check, place, value and printable(value), printable(remedy), line))
