"""Models of one tokenizer stand at the same places, row by row: same documents, positions and tokens."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from brf_exp.submission.fault import SubmissionError, fault, listed, said
from brf_exp.submission.importing import Imported
from brf_exp.submission.problems import Problems

SAME_ROW: Final = ("position", "token_id")
REMEDY: Final = "Score both models on the same tokens, in the same order."


def check_same_rows(imported: Sequence[Imported], problems: Problems) -> None:
    """Compare every model with the first of its tokenizer; tables that could not be read whole are left out."""
    first: dict[tuple[str, int], Imported] = {}
    for one in imported:
        member = one.table.member
        other = first.setdefault((member.tokenizer, member.vocab_size), one)
        if other is not one and one.is_whole and other.is_whole:
            _Comparison(other, one, problems).check()


class _Comparison:
    """Two tables side by side."""

    def __init__(self, reference: Imported, candidate: Imported, problems: Problems) -> None:
        self._left, self._right, self._problems = reference, candidate, problems
        self._files = str(reference.table.source.place), str(candidate.table.source.place)
        self._shared = [name for name in SAME_ROW if name in reference.places.columns & candidate.places.columns]

    def check(self) -> None:
        """Take in every difference, the first row of each document that differs."""
        if self._named(self._left) != self._named(self._right):
            self._problems.add(self._without_names())
        elif self._left.places.names == self._right.places.names and self._are_equal():
            return
        else:
            self._check_counts()
            self._check_documents()

    def _named(self, one: Imported) -> bool:
        return "doc_id" in one.table.layout.fixed

    def _without_names(self) -> SubmissionError:
        named, without = self._files if self._named(self._left) else self._files[::-1]
        return said(without, f"must have the column doc_id as {named} has it. Add it.", check="rows-documents")

    def _are_equal(self) -> bool:
        left, right = self._left.places, self._right.places
        if left.n_rows != right.n_rows or left.starts != right.starts:
            return False
        return all(
            np.array_equal(left.read(name, *rows), right.read(name, *rows))
            for rows in left.chunks()
            for name in self._shared
        )

    def _check_counts(self) -> None:
        n_left, n_right = self._left.places.n_rows, self._right.places.n_rows
        if n_left != n_right:
            requirement = f"must have as many rows as {self._files[0]} ({n_left}), got {n_right}"
            sentence = f"{requirement}. Score both models on the same tokens."
            self._problems.add(said(self._files[1], sentence, check="rows-count"))

    def _check_documents(self) -> None:
        left, right = self._left.places.names, self._right.places.names
        for here, there, names in ((1, 0, _without(left, right)), (0, 1, _without(right, left))):
            if names:
                sentence = f"must have every document of {self._files[there]}, got none of {listed(names)}. {REMEDY}"
                self._problems.add(said(self._files[here], sentence, check="rows-documents"), n=len(names))
        numbers = {name: number for number, name in enumerate(left)}
        shared = [(numbers[name], number) for number, name in enumerate(right) if name in numbers]
        if any(after[0] < before[0] for before, after in zip(shared, shared[1:], strict=False)):
            sentence = f"must have its documents in the order of {self._files[0]}. Sort both alike."
            self._problems.add(said(self._files[1], sentence, check="rows-documents"))
        for pair in shared:
            self._check_document(*pair)

    def _check_document(self, left: int, right: int) -> None:
        """The first row of a document that differs, or its number of rows."""
        rows = [_rows_of(one, number) for one, number in ((self._left, left), (self._right, right))]
        n = min(stop - first for first, stop in rows)
        ours, theirs = (
            np.stack([one.places.read(name, first, first + n) for name in self._shared])
            for one, (first, _) in zip((self._left, self._right), rows, strict=True)
        )
        differs = (ours != theirs).any(axis=0)
        name = self._right.places.names[right]
        if differs.any():
            at = int(np.argmax(differs))
            self._problems.add(self._differs(rows[1][0] + at + 1, name, ours[:, at].tolist(), theirs[:, at].tolist()))
        elif rows[0][1] - rows[0][0] != rows[1][1] - rows[1][0]:
            counts = [stop - first for first, stop in rows]
            requirement = f"as many rows of document {name!r} as {self._files[0]} ({counts[0]})"
            self._problems.add(fault(self._files[1], requirement, counts[1], REMEDY, check="rows-count"))

    def _differs(self, row: int, name: str, ours: list[int], theirs: list[int]) -> SubmissionError:
        columns = ", ".join(["doc_id", *self._shared])
        requirement = f"the same ({columns}) as in {self._files[0]}, {(name, *ours)!r}"
        place = self._right.table.source.place.at(row=row)
        return fault(place, requirement, (name, *theirs), REMEDY, check="rows-same")


def _without(names: list[str], others: list[str]) -> list[str]:
    there = set(others)
    return [name for name in names if name not in there]


def _rows_of(one: Imported, number: int) -> tuple[int, int]:
    starts = one.places.starts
    return starts[number], starts[number + 1] if number + 1 < len(starts) else one.places.n_rows
