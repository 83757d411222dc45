"""Arrow columns of a stranger's table as numpy arrays: numbers that are numbers, in range, with a row to point at."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pa_types

from brf_exp.submission.description import Member
from brf_exp.submission.fault import Place, fault
from brf_exp.submission.layout import Layout
from brf_exp.submission.tables import Batch

LARGEST_INT32: Final = 2**31 - 1
ENTROPY_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Rows:
    """Some rows of a table as arrays, values as they were dumped.

    `values` (n, k) float64, `ids` (n, k) int32 or None, `fixed` maps a capture column's name to its (n,) array;
    `doc_id` is an Arrow string array or None.
    """

    place: Place
    first_row: int
    doc_id: pa.Array | None
    fixed: dict[str, np.ndarray]
    target: np.ndarray | None
    ids: np.ndarray | None
    values: np.ndarray

    def at(self, index: int, column: str | None = None) -> Place:
        """The place of the index-th of these rows."""
        return self.place.at(row=self.first_row + int(index), column=column)


def first(condition: npt.ArrayLike) -> int | None:
    """Index of the first True of a boolean array of shape (n,), or None."""
    mask = np.asarray(condition)
    index = int(np.argmax(mask)) if mask.size else 0
    return index if mask.size and mask[index] else None


def read_rows(batch: Batch, layout: Layout, member: Member) -> Rows:
    """The batch as arrays.

    Raises
    ------
    InputError
        Where a cell is empty, not a number, not finite, not whole or out of range; names file, row and column.
    """
    columns = _Columns(batch)
    fixed = {name: _fixed(columns, name, member) for name in layout.fixed if name != "doc_id"}
    ids = [columns.integers(name, 0, member.vocab_size - 1, "vocab_size") for name in layout.ids]
    return Rows(
        place=batch.place,
        first_row=batch.first_row,
        doc_id=columns.texts("doc_id") if "doc_id" in layout.fixed else None,
        fixed=fixed,
        target=columns.floats(layout.target) if layout.target else None,
        ids=np.column_stack(ids) if ids else None,
        values=np.column_stack([columns.floats(name) for name in layout.values]),
    )


def _fixed(columns: "_Columns", name: str, member: Member) -> np.ndarray:
    """One of the named columns, in its range."""
    if name == "token_id":
        return columns.integers(name, 0, member.vocab_size - 1, "vocab_size")
    if name == "target_rank":
        return columns.integers(name, 1, member.vocab_size, "vocab_size")
    if name in ("position", "char_start", "char_end"):
        return columns.integers(name, 0, LARGEST_INT32, "int32")
    if name == "entropy":
        return columns.floats(name, low=-ENTROPY_TOLERANCE, high=math.log(member.vocab_size) + ENTROPY_TOLERANCE)
    return columns.floats(name)


class _Columns:
    """The columns of one batch, cast on demand."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def _place(self, name: str, index: int) -> Place:
        return self._batch.place.at(row=self._batch.first_row + int(index), column=name)

    def _column(self, name: str) -> pa.Array:
        """A column without gaps; dictionaries unpacked."""
        column = self._batch.table.column(name)
        if pa_types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.null_count:
            empty = first(column.is_null().to_numpy(zero_copy_only=False))
            raise fault(self._place(name, empty or 0), "a value", None, "Fill the cell or drop the row.")
        return column

    def texts(self, name: str) -> pa.Array:
        """A column of non-empty strings; numbers become their digits."""
        column = self._column(name)
        if not (_is_text(column.type) or pa_types.is_integer(column.type)):
            raise fault(self._batch.place.at(column=name), "text", str(column.type), "Write it as strings.")
        column = column.cast(pa.string())
        empty = first(pc.equal(column, "").to_numpy(zero_copy_only=False))
        if empty is not None:
            raise fault(self._place(name, empty), "a document's name", "", "Name every row's document.")
        return column

    def floats(self, name: str, *, low: float = -math.inf, high: float = math.inf) -> np.ndarray:
        """A column of finite numbers from low to high, float64."""
        column = self._column(name)
        if _is_text(column.type):
            column = self._parsed(name, column)
        elif not (
            pa_types.is_floating(column.type) or pa_types.is_integer(column.type) or pa_types.is_decimal(column.type)
        ):
            raise fault(self._batch.place.at(column=name), "numbers", str(column.type), "Write it as numbers.")
        values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        bad = first(~np.isfinite(values))
        if bad is not None:
            raise fault(self._place(name, bad), "a finite number", float(values[bad]), "Dump finite values only.")
        bad = first((values < low) | (values > high))
        if bad is not None:
            requirement = f"from {low:.4g} to {high:.4g}"
            raise fault(
                self._place(name, bad), requirement, float(values[bad]), "Dump it in nats, and check vocab_size."
            )
        return values

    def integers(self, name: str, low: int, high: int, limit: str) -> np.ndarray:
        """A column of whole numbers from low to high, int32."""
        values = self.floats(name)
        bad = first(values != np.floor(values))
        if bad is not None:
            raise fault(self._place(name, bad), "a whole number", float(values[bad]), "Dump integers.")
        bad = first((values < low) | (values > high))
        if bad is not None:
            remedy = "Correct the row or vocab_size." if limit == "vocab_size" else "Correct the row."
            reason = " (vocab_size)" if limit == "vocab_size" else ""
            raise fault(self._place(name, bad), f"from {low} to {high}{reason}", int(values[bad]), remedy)
        return values.astype(np.int32)

    def _parsed(self, name: str, column: pa.Array) -> pa.Array:
        """Strings as float64; the first that is no number is an error."""
        trimmed = pc.utf8_trim_whitespace(column)
        try:
            return trimmed.cast(pa.float64())
        except pa.ArrowInvalid:
            bad = next(index for index, text in enumerate(trimmed) if not _is_number(text))
            raise fault(self._place(name, bad), "a number", column[bad].as_py(), "Write it with a point.") from None


def _is_text(kind: Any) -> bool:
    """Whether an Arrow type holds strings."""
    return bool(pa_types.is_string(kind) or pa_types.is_large_string(kind) or pa_types.is_string_view(kind))


def _is_number(text: Any) -> bool:
    """Whether Arrow reads a string scalar as a number."""
    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
