"""The order of a table's documents, over all its batches."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brf_exp.submission.fault import fault
from brf_exp.submission.problems import Problems
from brf_exp.submission.rows import Rows

MOST_DOCUMENTS: Final = 1_000_000


class DocumentOrder:
    """Names documents and checks their order over all batches of one table.

    Rows of a document stand together and their positions increase. Without a column `doc_id`, a position that does not
    increase starts a new document.
    """

    def __init__(self, problems: Problems) -> None:
        self.names: list[str] = []
        self._problems = problems
        self._seen: set[str] = set()
        self._last_position = -1

    def place(self, rows: Rows) -> tuple[pa.Array, np.ndarray]:
        """Document of every row (Arrow strings) and where a new one starts (bool); a wrong order is a problem."""
        position = rows.fixed["position"].astype(np.int64)
        falls = np.diff(position, prepend=self._last_position) <= 0
        if rows.doc_id is None:
            starts = falls
            starts[0] |= not self.names
            doc_id = self._numbered(starts)
        else:
            starts, doc_id = self._starts(rows.doc_id), rows.doc_id
            self._check(rows, starts, falls)
        self._last_position = int(position[-1])
        if len(self.names) > MOST_DOCUMENTS:
            remedy = "Submit fewer, or longer ones."
            requirement, got = f"at most {MOST_DOCUMENTS} documents", len(self.names)
            raise fault(rows.place, requirement, got, remedy, check="document-order")
        return doc_id, starts

    def _starts(self, doc_id: pa.Array) -> np.ndarray:
        """Rows whose document differs from the row before."""
        starts = np.ones(len(doc_id), dtype=bool)
        starts[1:] = pc.not_equal(doc_id[1:], doc_id[:-1]).to_numpy(zero_copy_only=False)
        starts[0] = not self.names or doc_id[0].as_py() != self.names[-1]
        return starts

    def _numbered(self, starts: np.ndarray) -> pa.Array:
        """Names doc-00000, doc-00001, ... for documents without one."""
        n_before = len(self.names)
        self.names += [f"doc-{number:05d}" for number in range(n_before, n_before + int(starts.sum()))]
        numbers = n_before - 1 + np.cumsum(starts)
        return pa.array(self.names[numbers[0] :]).take(pa.array(numbers - numbers[0]))

    def _check(self, rows: Rows, starts: np.ndarray, falls: np.ndarray) -> None:
        """Documents are contiguous and their positions increase."""
        assert rows.doc_id is not None
        firsts = np.flatnonzero(starts)
        for index, name in zip(firsts.tolist(), rows.doc_id.take(pa.array(firsts)).to_pylist(), strict=True):
            if name in self._seen:
                at, remedy = rows.at(index, "doc_id"), "Sort by doc_id, position."
                self._problems.add(fault(at, "next to its document's rows", name, remedy, check="document-order"))
            self._seen.add(name)
            self.names.append(name)
        position, before = rows.fixed["position"], self._last_position
        previous = np.concatenate([[before], position[:-1]])
        self._problems.add_rows(
            "position-order",
            falls & ~starts,
            lambda i: fault(
                rows.at(i, "position"),
                f"above {previous[i]}, the position before it in its document",
                int(position[i]),
                "Sort the rows, and score every position once.",
                check="position-order",
            ),
        )
