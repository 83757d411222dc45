"""What the listed values and the size of the vocabulary say about logsumexp, probabilities and entropy of a row.

With k values z_1 >= ... >= z_k of V tokens, the others are at most z_k each, so that

    ln sum_k exp z_i  <=  logsumexp  <=  ln (sum_k exp z_i + (V - k) exp z_k),

and what remains for the others, r = 1 - sum_k p_i, adds between -r ln min(p_k, r) and r ln((V - k) / r) to the entropy.
"""

from functools import partial
from typing import Final

import numpy as np

from brf_exp.submission.convert import capture_units, same_units_tolerance
from brf_exp.submission.description import Member
from brf_exp.submission.fault import Place, SubmissionError, fault, said
from brf_exp.submission.layout import Layout
from brf_exp.submission.problems import Problems
from brf_exp.submission.rows import Rows

ENTROPY_TOLERANCE: Final = 5e-3


def log_sum(values: np.ndarray) -> np.ndarray:
    """ln sum exp of every row, (n,); rows of (n, k) in any order."""
    top = values.max(axis=1)
    total: np.ndarray = top + np.log(np.exp(values - top[:, np.newaxis]).sum(axis=1))
    return total


def log_sum_bounds(values: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest logsumexp, (n,) each, of rows of `values` (n, k) nats out of `vocab_size` tokens."""
    least = log_sum(values)
    n_others = vocab_size - values.shape[1]
    return least, np.logaddexp(least, np.log(n_others) + values.min(axis=1)) if n_others else least


def declared_bounds(rows: Rows, member: Member) -> tuple[np.ndarray, np.ndarray]:
    """`log_sum_bounds` of the rows as declared, worked out once."""
    if "declared" not in rows.cache:
        rows.cache["declared"] = log_sum_bounds(capture_units(rows.values, member), member.vocab_size)
    return rows.cache["declared"]


def _with_target(rows: Rows, member: Member, least: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """`least` (n,) with what the realised token adds where it is not listed: no probability is counted twice."""
    found = rows.listed_target()
    if found is None or rows.target is None:
        return least
    return np.where(found[0], least, np.logaddexp(least, capture_units(rows.target, member) / temperature))


def check_probabilities(rows: Rows, layout: Layout, member: Member, problems: Problems) -> None:
    """Log-probabilities are at most 0; the listed ones sum to at most 1, and can reach it with the others."""
    tolerance = same_units_tolerance(rows.values)
    columns = [(layout.values[0], rows.values[:, 0])]
    if layout.target and rows.target is not None:
        columns.append((layout.target, rows.target))
    for column, values in columns:
        problems.add_rows("probability-sign", values > tolerance, partial(_positive, rows, column, values))
    if member.temperature == 1.0:
        _check_sum(rows, member, tolerance, problems)


def _positive(rows: Rows, column: str, values: np.ndarray, index: int) -> SubmissionError:
    remedy = "Dump log-probabilities, or say value_kind: logit."
    got = float(values[index])
    return fault(rows.at(index, column), "at most 0, a log-probability", got, remedy, check="probability-sign")


def _check_sum(rows: Rows, member: Member, tolerance: np.ndarray, problems: Problems) -> None:
    listed, largest = declared_bounds(rows, member)
    least = _with_target(rows, member, listed)
    problems.add_rows(
        "probability-sum",
        least > tolerance,
        lambda i: _sum_fault(rows.at(i), f"probabilities that sum to at most 1{_and(least, listed, i)}", least[i]),
    )
    whole = f"probabilities that can reach a sum of 1 with {member.vocab_size} tokens (vocab_size)"
    problems.add_rows(
        "probability-sum", largest < -tolerance, lambda i: _sum_fault(rows.at(i), whole, largest[i], " at most")
    )


def _and(least: np.ndarray, listed: np.ndarray, index: int) -> str:
    """What a bound counts beside the listed values."""
    return " with that of the realised token, which is not listed" if least[index] > listed[index] else ""


def _sum_fault(place: Place, requirement: str, log_total: float, bound: str = "") -> SubmissionError:
    got = float(np.exp(min(log_total, 700.0)))
    remedy = "Check value_kind, log_base and vocab_size."
    return said(place, f"must be {requirement}, got{bound} {got!r}. {remedy}", check="probability-sum")


def check_normaliser(rows: Rows, layout: Layout, member: Member, problems: Problems) -> None:
    """logsumexp covers the whole vocabulary: at least the row's values, at most what all other tokens can add."""
    values = capture_units(rows.values, member)
    tolerance = same_units_tolerance(values)
    for name, column in rows.fixed.items():
        if not name.startswith("logsumexp"):
            continue
        temperature = float(name.removeprefix("logsumexp_t")) if name != "logsumexp" else 1.0
        at_one = temperature == 1.0
        listed, largest = (
            declared_bounds(rows, member) if at_one else log_sum_bounds(values / temperature, member.vocab_size)
        )
        least = _with_target(rows, member, listed, temperature)
        slack = tolerance / min(temperature, 1.0)
        remedy = f"Sum over the whole vocabulary, in nats{', at temperature 1' if name == 'logsumexp' else ''}."
        problems.add_rows("logsumexp-low", column < least - slack, partial(_low, rows, name, least, listed, remedy))
        high = partial(_high, rows, name, largest, member.vocab_size, remedy)
        problems.add_rows("logsumexp-high", column > largest + slack, high)


def _low(rows: Rows, name: str, least: np.ndarray, listed: np.ndarray, remedy: str, index: int) -> SubmissionError:
    also = _and(least, listed, index)
    requirement = f"at least {float(least[index])!r}, the logsumexp of its row's values{also}"
    got = float(rows.fixed[name][index])
    return fault(rows.at(index, name), requirement, got, remedy, check="logsumexp-low")


def _high(rows: Rows, name: str, largest: np.ndarray, vocab_size: int, remedy: str, index: int) -> SubmissionError:
    requirement = f"at most {float(largest[index])!r}, as far as {vocab_size} tokens (vocab_size) can reach"
    got = float(rows.fixed[name][index])
    return fault(rows.at(index, name), requirement, got, remedy, check="logsumexp-high")


def row_normaliser(rows: Rows, layout: Layout, member: Member) -> np.ndarray | None:
    """logsumexp at temperature 1 in the units of a capture, (n,), where the table tells it."""
    if layout.log_probabilities and member.temperature == 1.0:
        return np.zeros(len(rows.values))
    return rows.fixed.get("logsumexp")


def entropy_bounds(values: np.ndarray, normaliser: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest entropy in nats, (n,) each, of rows of `values` (n, k) nats with their logsumexp (n,)."""
    logs = np.minimum(values - normaliser[:, np.newaxis], 0.0)
    shares = np.exp(logs)
    listed = -(shares * logs).sum(axis=1)
    rest = np.clip(1.0 - shares.sum(axis=1), 0.0, 1.0)
    n_others = vocab_size - values.shape[1]
    positive = np.maximum(rest, 1e-300)
    if not n_others:
        return listed, listed
    least = listed - rest * np.minimum(logs.min(axis=1), np.log(positive))
    return least, listed + rest * np.log(n_others / positive)


def check_entropy(rows: Rows, layout: Layout, member: Member, problems: Problems) -> None:
    """entropy lies between what the listed probabilities allow at temperature 1."""
    normaliser = row_normaliser(rows, layout, member)
    if normaliser is None or "entropy" not in rows.fixed:
        return
    entropy = rows.fixed["entropy"]
    least, largest = entropy_bounds(capture_units(rows.values, member), normaliser, member.vocab_size)
    problems.add_rows(
        "entropy-bounds",
        (entropy < least - ENTROPY_TOLERANCE) | (entropy > largest + ENTROPY_TOLERANCE),
        lambda i: fault(
            rows.at(i, "entropy"),
            f"from {least[i]:.4g} to {largest[i]:.4g}, given its row's values",
            float(entropy[i]),
            "Give the entropy of the whole distribution at temperature 1, in nats.",
            check="entropy-bounds",
        ),
    )
