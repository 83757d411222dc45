"""What has to hold between the numbers of a submitted table: order of documents, of values, and what bounds what."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import logsumexp

from brf_exp.submission.convert import capture_units, same_units_tolerance
from brf_exp.submission.description import Member
from brf_exp.submission.fault import fault, said
from brf_exp.submission.layout import Layout
from brf_exp.submission.rows import Rows, first


class DocumentOrder:
    """Names documents and checks their order over all batches of one table.

    Rows of a document stand together and their positions increase. Without a column `doc_id`, a position that does not
    increase starts a new document.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._seen: set[str] = set()
        self._last_position = -1

    def place(self, rows: Rows) -> tuple[pa.Array, np.ndarray]:
        """Document of every row (Arrow strings) and where a new one starts (bool); InputError for a wrong order."""
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
        for index in np.flatnonzero(starts).tolist():
            name = rows.doc_id[index].as_py()
            if name in self._seen:
                raise fault(rows.at(index, "doc_id"), "next to its document's rows", name, "Sort by doc_id, position.")
            self._seen.add(name)
            self.names.append(name)
        bad = first(falls & ~starts)
        if bad is not None:
            before = self._last_position if bad == 0 else int(rows.fixed["position"][bad - 1])
            remedy = "Sort the rows, and score every position once."
            got = int(rows.fixed["position"][bad])
            raise fault(
                rows.at(bad, "position"), f"above {before}, the position before it in its document", got, remedy
            )


def check_rows(rows: Rows, layout: Layout, member: Member) -> None:
    """Check everything within a row; InputError names the first row and column that cannot be."""
    _check_descending(rows, layout)
    _check_ids(rows, layout)
    _check_spans(rows)
    if layout.log_probabilities:
        _check_probabilities(rows, layout, member)
    _check_target(rows, layout)
    _check_normaliser(rows, layout, member)


def _check_descending(rows: Rows, layout: Layout) -> None:
    """Values fall from left to right."""
    rising = rows.values[:, 1:] > rows.values[:, :-1]
    bad = first(rising.any(axis=1))
    if bad is not None:
        rank = int(np.argmax(rising[bad])) + 1
        requirement = f"at most {layout.values[rank - 1]} ({float(rows.values[bad, rank - 1])!r})"
        got = float(rows.values[bad, rank])
        raise fault(rows.at(bad, layout.values[rank]), requirement, got, "Sort every row, best first, with its ids.")


def _check_ids(rows: Rows, layout: Layout) -> None:
    """No token twice in a row."""
    if rows.ids is None:
        return
    ordered = np.sort(rows.ids, axis=1)
    twice = ordered[:, 1:] == ordered[:, :-1]
    bad = first(twice.any(axis=1))
    if bad is not None:
        token = int(ordered[bad, int(np.argmax(twice[bad]))])
        column = layout.ids[int(np.flatnonzero(rows.ids[bad] == token)[1])]
        raise fault(rows.at(bad, column), "an id that is not in its row already", token, "Dump each token once.")


def _check_spans(rows: Rows) -> None:
    """char_start <= char_end."""
    if "char_start" not in rows.fixed:
        return
    start, end = rows.fixed["char_start"], rows.fixed["char_end"]
    bad = first(end < start)
    if bad is not None:
        raise fault(rows.at(bad, "char_end"), f"at least char_start ({start[bad]})", int(end[bad]), "Correct the span.")


def _check_probabilities(rows: Rows, layout: Layout, member: Member) -> None:
    """Log-probabilities are at most 0, and so is the log of their sum."""
    tolerance = same_units_tolerance(rows.values)
    columns = [(layout.values[0], rows.values[:, 0])]
    if layout.target and rows.target is not None:
        columns.append((layout.target, rows.target))
    for column, values in columns:
        bad = first(values > tolerance)
        if bad is not None:
            remedy = "Dump log-probabilities, or say value_kind: logit."
            raise fault(rows.at(bad, column), "at most 0, a log-probability", float(values[bad]), remedy)
    total = logsumexp(rows.values * member.nats_per_unit, axis=1)
    bad = first(total > tolerance)
    if bad is not None:
        got = float(np.exp(total[bad]))
        raise fault(rows.at(bad), "probabilities that sum to at most 1", got, "Check value_kind and log_base.")


def _check_target(rows: Rows, layout: Layout) -> None:
    """The realised token's value is that of the same id in the row, or at most the last one."""
    if rows.target is None or rows.ids is None or "token_id" not in rows.fixed:
        return
    tolerance = same_units_tolerance(rows.values)
    hit = rows.ids == rows.fixed["token_id"][:, np.newaxis]
    listed_value = np.where(hit, rows.values, 0.0).sum(axis=1)
    inside = hit.any(axis=1)
    bad = first(inside & (np.abs(rows.target - listed_value) > tolerance))
    if bad is not None:
        column = layout.values[int(np.argmax(hit[bad]))]
        requirement = f"{column} ({float(listed_value[bad])!r}), the value of the same token"
        got = float(rows.target[bad])
        raise fault(rows.at(bad, layout.target), requirement, got, "Dump both from the same forward pass.")
    bad = first(~inside & (rows.target > rows.values[:, -1] + tolerance))
    if bad is not None:
        requirement = f"at most {layout.values[-1]} ({float(rows.values[bad, -1])!r}), as token_id is not among the ids"
        raise fault(rows.at(bad, layout.target), requirement, float(rows.target[bad]), "Check token_id and the ids.")


def _check_normaliser(rows: Rows, layout: Layout, member: Member) -> None:
    """logsumexp covers the whole vocabulary, so it is at least that of the row's values."""
    values = capture_units(rows.values, member)
    tolerance = same_units_tolerance(values)
    for name, column in rows.fixed.items():
        if not name.startswith("logsumexp"):
            continue
        temperature = float(name.removeprefix("logsumexp_t")) if name != "logsumexp" else 1.0
        least = logsumexp(values / temperature, axis=1)
        bad = first(column < least - tolerance / min(temperature, 1.0))
        if bad is not None:
            requirement = f"at least {float(least[bad])!r}, the logsumexp of its row's values"
            got = float(column[bad])
            raise fault(
                rows.at(bad, name),
                requirement,
                got,
                "Sum over the whole vocabulary, in nats, at temperature 1."
                if name == "logsumexp"
                else "Sum over the whole vocabulary, in nats.",
            )


def check_same_rows(reference: tuple[str, pa.Table], candidate: tuple[str, pa.Table]) -> None:
    """Row n of two tables is the same place: equal in every column that both have, and as many rows.

    Raises
    ------
    InputError
        Naming the first row that differs.
    """
    (reference_file, left), (candidate_file, right) = reference, candidate
    names = [name for name in left.schema.names if name in right.schema.names]
    n_rows = min(left.num_rows, right.num_rows)
    differs = np.zeros(n_rows, dtype=bool)
    for name in names:
        unequal = pc.not_equal(left.column(name).slice(0, n_rows), right.column(name).slice(0, n_rows))
        differs |= unequal.to_numpy()
    bad = first(differs)
    if bad is not None:
        here, there = ({n: table.column(n)[bad].as_py() for n in names} for table in (right, left))
        raise fault(
            f"{candidate_file} row {bad + 1}",
            f"the same ({', '.join(names)}) as in {reference_file}, {tuple(there.values())!r}",
            tuple(here.values()),
            "Score both models on the same tokens, in the same order.",
        )
    if left.num_rows != right.num_rows:
        raise said(
            candidate_file,
            f"must have as many rows as {reference_file} ({left.num_rows}), got {right.num_rows}. "
            "Score both models on the same tokens.",
        )
