"""What has to hold between the numbers of one row: their order, and what bounds what."""

from functools import partial
from typing import Final

import numpy as np

from brf_exp.submission.convert import capture_units, same_units_tolerance
from brf_exp.submission.description import Member
from brf_exp.submission.fault import SubmissionError, fault
from brf_exp.submission.layout import Layout
from brf_exp.submission.normaliser import check_entropy, check_normaliser, check_probabilities
from brf_exp.submission.problems import Problems
from brf_exp.submission.rows import Rows

LARGEST_FLOAT32: Final = float(np.finfo(np.float32).max)


def check_rows(rows: Rows, layout: Layout, member: Member, problems: Problems) -> None:
    """Check everything within a row; every row and column that cannot be is a problem."""
    _check_size(rows, layout, member, problems)
    _check_descending(rows, layout, problems)
    _check_ids(rows, layout, problems)
    _check_spans(rows, problems)
    if layout.log_probabilities:
        check_probabilities(rows, layout, member, problems)
    _check_target(rows, layout, problems)
    _check_rank(rows, member, problems)
    check_normaliser(rows, layout, member, problems)
    check_entropy(rows, layout, member, problems)


def _check_size(rows: Rows, layout: Layout, member: Member, problems: Problems) -> None:
    """Values that float32 can hold."""
    is_large = max(rows.values.max(), -rows.values.min()) > 1e30
    columns = [*zip(layout.values, rows.values.T, strict=True)] if is_large else []
    if layout.target and rows.target is not None:
        columns.append((layout.target, rows.target))
    for name, values in columns:
        large = np.abs(capture_units(values, member)) > np.float64(LARGEST_FLOAT32)
        problems.add_rows("cell-finite", large, partial(_too_large, rows, name, values))


def _too_large(rows: Rows, name: str, values: np.ndarray, index: int) -> SubmissionError:
    got = float(values[index])
    return fault(rows.at(index, name), "finite in float32", got, "Dump raw logits.", check="cell-finite")


def _check_descending(rows: Rows, layout: Layout, problems: Problems) -> None:
    """Values fall from left to right."""
    rising = rows.values[:, 1:] > rows.values[:, :-1]

    def describe(index: int) -> SubmissionError:
        rank = int(np.argmax(rising[index])) + 1
        requirement = f"at most {layout.values[rank - 1]} ({float(rows.values[index, rank - 1])!r})"
        at, got = rows.at(index, layout.values[rank]), float(rows.values[index, rank])
        return fault(at, requirement, got, "Sort every row, best first, with its ids.", check="values-order")

    rises = np.asarray(rising.any(axis=1))
    problems.add_rows("values-order", rises, describe)


def _check_ids(rows: Rows, layout: Layout, problems: Problems) -> None:
    """No token twice in a row."""
    if rows.ids is None:
        return
    ids, ordered = rows.ids, np.sort(np.ascontiguousarray(rows.ids), axis=1)
    twice = ordered[:, 1:] == ordered[:, :-1]

    def describe(index: int) -> SubmissionError:
        token = int(ordered[index, int(np.argmax(twice[index]))])
        column = layout.ids[int(np.flatnonzero(ids[index] == token)[1])]
        requirement, remedy = "an id that is not in its row already", "Dump each token once."
        return fault(rows.at(index, column), requirement, token, remedy, check="ids-distinct")

    problems.add_rows("ids-distinct", twice.any(axis=1), describe)


def _check_spans(rows: Rows, problems: Problems) -> None:
    """char_start <= char_end."""
    if "char_start" not in rows.fixed:
        return
    start, end = rows.fixed["char_start"], rows.fixed["char_end"]
    problems.add_rows(
        "span-order",
        end < start,
        lambda i: fault(
            rows.at(i, "char_end"),
            f"at least char_start ({start[i]})",
            int(end[i]),
            "Correct the span.",
            check="span-order",
        ),
    )


def _check_target(rows: Rows, layout: Layout, problems: Problems) -> None:
    """The realised token's value is that of the same id in the row, or at most the last one."""
    found = rows.listed_target()
    if rows.target is None or rows.ids is None or found is None:
        return
    inside, listed_value = found
    ids, token, target, values = rows.ids, rows.fixed["token_id"], rows.target, rows.values
    tolerance = same_units_tolerance(values)

    def differs(index: int) -> SubmissionError:
        rank = int(np.argmax(ids[index] == token[index]))
        requirement = f"{layout.values[rank]} ({float(listed_value[index])!r}), the value of the same token"
        at, remedy = rows.at(index, layout.target), "Dump both from the same forward pass."
        return fault(at, requirement, float(target[index]), remedy, check="target-value")

    def above(index: int) -> SubmissionError:
        last = f"{layout.values[-1]} ({float(values[index, -1])!r})"
        at, remedy = rows.at(index, layout.target), "Check token_id and the ids."
        requirement = f"at most {last}, as token_id is not among the ids"
        return fault(at, requirement, float(target[index]), remedy, check="target-value")

    problems.add_rows("target-value", inside & (np.abs(target - listed_value) > tolerance), differs)
    problems.add_rows("target-value", ~inside & (target > values[:, -1] + tolerance), above)


def _check_rank(rows: Rows, member: Member, problems: Problems) -> None:
    """target_rank is one that the listed values allow: 1 + those above, at most all that are not below."""
    if rows.target is None or "target_rank" not in rows.fixed:
        return
    rank, tolerance = rows.fixed["target_rank"], same_units_tolerance(rows.values)
    least = 1 + (rows.values > (rows.target + tolerance)[:, np.newaxis]).sum(axis=1)
    most = (rows.values >= (rows.target - tolerance)[:, np.newaxis]).sum(axis=1)
    most = np.where(most == rows.values.shape[1], member.vocab_size, np.maximum(most, least))
    problems.add_rows(
        "target-rank",
        (rank < least) | (rank > most),
        lambda i: fault(
            rows.at(i, "target_rank"),
            f"from {least[i]} to {most[i]}, given its value and the row's",
            int(rank[i]),
            "Count from 1 at temperature 1, over the whole vocabulary.",
            check="target-rank",
        ),
    )
