"""Everything found wrong with one submission: listed up to a cap per check, counted beyond."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from brf_exp.errors import InputError
from brf_exp.submission.fault import UNREADABLE, Place, Problem, SubmissionError, printable
from brf_exp.submission.registry import CHECKS, ERROR, LABEL

LISTED_PER_CHECK: Final = 100
# A table with more problems than this is of another kind altogether: reading on tells nothing new.
MOST_PROBLEMS: Final = 100_000


class Problems:
    """Collects the problems of a submission in the order in which they are met."""

    def __init__(self) -> None:
        self._listed: list[Problem] = []
        self.counts: Counter[str] = Counter()

    def add(self, error: InputError, *, n: int = 1) -> None:
        """Take in a problem that stands for `n` of its kind, or for as many as the error says."""
        problem = problem_of(error)
        others, n_told = (error.others, error.n) if isinstance(error, SubmissionError) else ((), 1)
        room = LISTED_PER_CHECK - self._n_listed(problem.check)
        self._listed += [problem, *others][: max(room, 0)]
        self.counts[problem.check] += max(n, n_told)

    def add_rows(self, check: str, mask: np.ndarray, describe: Callable[[int], SubmissionError]) -> None:
        """Take in every row where `mask` (n,) is True; `describe` is asked about the rows that will be listed."""
        n_found = int(np.count_nonzero(mask))
        if not n_found:
            return
        room = LISTED_PER_CHECK - self._n_listed(check)
        self._listed += [describe(int(index)).problem for index in np.flatnonzero(mask)[: max(room, 0)]]
        self.counts[check] += n_found

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Take in a problem that is raised inside, and go on behind the block."""
        try:
            yield
        except InputError as error:
            self.add(error)

    @property
    def listed(self) -> list[Problem]:
        """The problems that are listed: errors first, those that explain others ahead of them."""
        return sorted(self._listed, key=_urgency)

    def n_of(self, severity: str) -> int:
        """Problems of a severity, listed or not."""
        return sum(n for check, n in self.counts.items() if CHECKS[check].severity == severity)

    @property
    def n_errors(self) -> int:
        """Problems that reject the submission."""
        return self.n_of(ERROR)

    def _n_listed(self, check: str) -> int:
        return min(self.counts[check], sum(problem.check == check for problem in self._listed))


def problem_of(error: InputError) -> Problem:
    """The problem that an error tells of."""
    if isinstance(error, SubmissionError):
        return error.problem
    line = printable(str(error))
    return Problem(UNREADABLE, Place("submission"), None, line.rpartition(". ")[2], line)


def _urgency(problem: Problem) -> tuple[bool, bool]:
    return problem.severity != ERROR, CHECKS[problem.check].subject != LABEL
