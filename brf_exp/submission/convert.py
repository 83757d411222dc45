"""Checked rows of a submission as rows of a capture."""

import numpy as np
import pyarrow as pa

from brf_exp.storage import schema
from brf_exp.submission.description import Member
from brf_exp.submission.layout import Layout
from brf_exp.submission.rows import Rows

ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-6


def capture_units(values: np.ndarray, member: Member) -> np.ndarray:
    """Dumped values as logits at temperature 1 in nats (up to the row's constant): times temperature and ln(base)."""
    factor = member.temperature * member.nats_per_unit
    return values if factor == 1.0 else values * factor


def same_units_tolerance(values: np.ndarray) -> np.ndarray:
    """What float32 rounding may move a comparison by, per row, shape (n,); values of shape (n, k)."""
    largest = np.maximum(values.max(axis=1), -values.min(axis=1))
    tolerance: np.ndarray = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * largest
    return tolerance


def capture_columns(layout: Layout, member: Member) -> list[str]:
    """Names of the capture's columns, in the format's order.

    Log-probabilities at temperature 1 have a logsumexp of 0. At another temperature and without the logsumexp at
    temperature 1, the realised token's logit is left out: such a capture serves coherence only.
    """
    names = {"doc_id", *layout.fixed, *schema.logit_columns(layout.k)}
    if layout.log_probabilities and member.temperature == 1.0:
        names.add("logsumexp")
    if layout.target and ("logsumexp" in names or member.temperature == 1.0):
        names.add("target_logit")
    if layout.ids:
        names.update(schema.id_columns(layout.k))
    return list(schema.arrow_schema(list(names)).names)


def to_capture(rows: Rows, doc_id: pa.Array, *, columns: list[str], layout: Layout, member: Member) -> pa.RecordBatch:
    """The rows with the named capture columns; logits rounded to float32, which they must fit."""
    arrays = {"doc_id": doc_id, **rows.fixed}
    logits = capture_units(rows.values, member).astype(np.float32)
    arrays |= dict(zip(schema.logit_columns(layout.k), logits.T, strict=True))
    if rows.ids is not None:
        arrays |= dict(zip(schema.id_columns(layout.k), rows.ids.T, strict=True))
    if rows.target is not None:
        arrays["target_logit"] = capture_units(rows.target, member).astype(np.float32)
    if layout.log_probabilities:
        arrays["logsumexp"] = np.zeros(len(logits))
    return _record_batch(arrays, schema.arrow_schema(columns))


def _record_batch(arrays: dict[str, pa.Array | np.ndarray], target: pa.Schema) -> pa.RecordBatch:
    """The arrays as one batch of the schema."""
    columns = [_column(arrays[field.name], field.type) for field in target]
    return pa.RecordBatch.from_arrays(columns, schema=target)


def _column(values: pa.Array | np.ndarray, kind: pa.DataType) -> pa.Array:
    """The values as a column of a type."""
    if isinstance(values, pa.Array):
        return values
    column = pa.array(np.ascontiguousarray(values))
    return column if column.type == kind else column.cast(kind)
