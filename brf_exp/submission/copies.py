"""Documents that are others over again: they would count as independent and are not."""

import hashlib
from typing import Final

import numpy as np

from brf_exp.submission.fault import Place, fault, listed, said
from brf_exp.submission.problems import Problems
from brf_exp.submission.rows import Rows

# A copy of so many rows is no chance; shorter ones are met, as greetings are.
CERTAIN_ROWS: Final = 20
LEAST_ROWS: Final = 5
VALUES_COMPARED: Final = 4
NAMES_LISTED: Final = 5
DIGEST_BYTES: Final = 8


class DocumentCopies:
    """Compares the documents of one table by a digest of their tokens and values; a copy is a problem.

    Of every row the token, the best few values and the last are taken. A document whose rows are all alike shows
    nothing and is left out.
    """

    def __init__(self, problems: Problems, place: Place) -> None:
        self._problems, self._place = problems, place
        self._seen: dict[int, str] = {}
        self._short: list[str] = []
        self._n_short = 0
        self._name, self._begins = "", place
        self._restart()

    def _restart(self) -> None:
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._first: np.ndarray | None = None
        self._n_rows, self._varies = 0, False

    def add(self, rows: Rows, starts: np.ndarray, names: list[str]) -> None:
        """Take rows in; `starts` (n,) marks the first row of each document, `names` are all documents so far."""
        table = _compared(rows)
        firsts = np.flatnonzero(starts).tolist()
        bounds = [*firsts, len(table)]
        self._add(table[: bounds[0]])
        for first, last, name in zip(firsts, bounds[1:], names[len(names) - len(firsts) :], strict=True):
            self._end()
            self._name, self._begins = name, rows.at(first, None if rows.doc_id is None else "doc_id")
            self._add(table[first:last])

    def _add(self, table: np.ndarray) -> None:
        """Take in rows of the document that is open."""
        if not len(table):
            return
        self._first = table[0] if self._first is None else self._first
        self._varies = self._varies or bool((table != self._first).any())
        self._digest.update(table.tobytes())
        self._n_rows += len(table)

    def _end(self) -> None:
        """Compare the document that is open with those before."""
        if self._varies and self._n_rows >= LEAST_ROWS:
            other = self._seen.setdefault(int.from_bytes(self._digest.digest(), "little"), self._name)
            if other is not self._name:
                self._take(other)
        self._restart()

    def _take(self, other: str) -> None:
        """Note a copy."""
        if self._n_rows < CERTAIN_ROWS:
            self._n_short += 1
            self._short += [self._name] if self._n_short <= NAMES_LISTED else []
            return
        requirement = f"a document of its own, not {other!r} over again: two of one count as independent"
        error = fault(self._begins, requirement, self._name, "Leave out the copy.", check="document-twice")
        self._problems.add(error)

    def finish(self) -> None:
        """Compare the last document, and tell of short ones."""
        self._end()
        if self._n_short:
            names = listed(self._short) + (", ..." if self._n_short > len(self._short) else "")
            sentence = (
                f"must have documents of their own, got {self._n_short} of fewer than {CERTAIN_ROWS} rows that are "
                f"others over again ({names}). Leave out copies: they count as independent."
            )
            self._problems.add(said(self._place, sentence, check="short-document-twice"))


def _compared(rows: Rows) -> np.ndarray:
    """What documents are compared by, (n, columns) float64."""
    values = rows.values[:, [*range(min(VALUES_COMPARED, rows.values.shape[1])), -1]]
    token = rows.fixed.get("token_id")
    made = values if token is None else np.column_stack([token.astype(np.float64), values])
    return np.ascontiguousarray(made) + 0.0  # -0 is 0
