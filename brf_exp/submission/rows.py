"""Arrow columns of a stranger's table as numpy arrays: numbers that are numbers, in range, with a row to point at."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pa_types

from brf_exp.submission.description import Member
from brf_exp.submission.fault import Place, SubmissionError, fault
from brf_exp.submission.layout import Layout
from brf_exp.submission.problems import Problems
from brf_exp.submission.tables import Batch

LARGEST_INT32: Final = 2**31 - 1
LONGEST_NAME: Final = 256
PLACES: Final = ("position", "token_id", "char_start", "char_end")
ENTROPY_TOLERANCE: Final = 1e-3
_NUMBER: Final = r"^(?i:-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|-?inf(inity)?|-?nan)$"

_Describe = Callable[[Place, int], SubmissionError]


@dataclass(frozen=True)
class Rows:
    """Some rows of a table as arrays, values as they were dumped.

    `values` (n, k) float64, `ids` (n, k) int32 or None, a column's values side by side in memory; `fixed` maps a
    capture column's name to its (n,) array; `doc_id` is an Arrow string array or None. `bad` (n,) marks rows with a
    cell that is no value; what stands in such cells means nothing. `numbers` (n,) are row numbers where they are not
    consecutive; `n_cut` rows end in empty or infinite values behind finite ones; `cache` is what several checks need.
    """

    place: Place
    first_row: int
    doc_id: pa.Array | None
    fixed: dict[str, np.ndarray]
    target: np.ndarray | None
    ids: np.ndarray | None
    values: np.ndarray
    bad: np.ndarray
    has_place: bool = True
    n_cut: int = 0
    numbers: np.ndarray | None = None
    cache: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def at(self, index: int, column: str | None = None) -> Place:
        """The place of the index-th of these rows."""
        row = self.first_row + index if self.numbers is None else self.numbers[index]
        return self.place.at(row=int(row), column=column)

    def listed_target(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Of every row whether its realised token is listed, and with which value (-inf where not), (n,) each.

        None where token or ids are not known.
        """
        if self.ids is None or "token_id" not in self.fixed:
            return None
        if "target" not in self.cache:
            hit = self.ids == self.fixed["token_id"][:, np.newaxis]
            self.cache["target"] = hit.any(axis=1), np.where(hit, self.values, -np.inf).max(axis=1)
        return self.cache["target"]

    def sound(self) -> "Rows":
        """The rows that are not bad."""
        if not self.bad.any():
            return self
        kept = np.flatnonzero(~self.bad)
        return replace(
            self,
            doc_id=None if self.doc_id is None else self.doc_id.take(pa.array(kept)),
            fixed={name: column[kept] for name, column in self.fixed.items()},
            target=None if self.target is None else self.target[kept],
            ids=None if self.ids is None else self.ids[kept],
            values=self.values[kept],
            bad=self.bad[kept],
            numbers=self.first_row + kept,
            cache={},
        )


def first(condition: npt.ArrayLike) -> int | None:
    """Index of the first True of a boolean array of shape (n,), or None."""
    mask = np.asarray(condition)
    index = int(np.argmax(mask)) if mask.size else 0
    return index if mask.size and mask[index] else None


def read_rows(batch: Batch, layout: Layout, member: Member, problems: Problems) -> Rows:
    """The batch as arrays; every cell that is empty, no number, not finite, not whole or out of range is a problem."""
    columns = _Columns(batch, problems)
    doc_id = columns.texts("doc_id") if "doc_id" in layout.fixed else None
    fixed = {name: _fixed(columns, name, member) for name in layout.fixed if name in PLACES}
    has_place = not columns.bad.any()
    fixed |= {name: _fixed(columns, name, member) for name in layout.fixed if name not in (*PLACES, "doc_id")}
    n_rows = batch.table.num_rows
    ids = _stacked((columns.token_ids(name, member) for name in layout.ids), (len(layout.ids), n_rows), np.int32)
    target = columns.floats(layout.target) if layout.target else None
    values = _stacked(map(columns.floats, layout.values), (layout.k, n_rows), np.float64)
    return Rows(
        place=batch.place,
        first_row=batch.first_row,
        doc_id=doc_id,
        fixed=fixed,
        target=target,
        ids=ids if layout.ids else None,
        values=values,
        bad=columns.bad,
        has_place=has_place,
        n_cut=columns.n_cut(layout.values),
    )


def _stacked(columns: Iterable[np.ndarray], shape: tuple[int, int], kind: type) -> np.ndarray:
    """Columns as an array (n, k), each column's values side by side in memory, as they came and as they are written."""
    stacked: np.ndarray = np.empty(shape, dtype=kind)
    for place, column in enumerate(columns):
        stacked[place] = column
    return stacked.T


def _fixed(columns: "_Columns", name: str, member: Member) -> np.ndarray:
    """One of the named columns, in its range."""
    if name == "token_id":
        return columns.token_ids(name, member)
    if name == "target_rank":
        return columns.integers(name, 1, member.vocab_size, "vocab_size")
    if name in ("position", "char_start", "char_end"):
        return columns.integers(name, 0, LARGEST_INT32, "int32")
    if name == "entropy":
        return columns.floats(name, low=-ENTROPY_TOLERANCE, high=math.log(member.vocab_size) + ENTROPY_TOLERANCE)
    return columns.floats(name)


class _Columns:
    """The columns of one batch, cast on demand; `bad` (n,) gathers the rows with a cell that could not be used."""

    def __init__(self, batch: Batch, problems: Problems) -> None:
        self._batch, self._problems = batch, problems
        self.bad = np.zeros(batch.table.num_rows, dtype=bool)
        self._blank: dict[str, np.ndarray] = {}

    def n_cut(self, names: tuple[str, ...]) -> int:
        """Rows whose first value is there and whose last ones are empty or infinite."""
        if names[-1] not in self._blank:
            return 0
        blank = np.column_stack([self._blank.get(name, np.zeros(self.bad.size, dtype=bool)) for name in names])
        goes_on = (blank[:, :-1] & ~blank[:, 1:]).any(axis=1)
        return int((~blank[:, 0] & blank[:, -1] & ~goes_on).sum())

    def _reject(self, check: str, name: str, mask: np.ndarray, describe: _Describe) -> None:
        """Take in the cells of a column where `mask` is True; their rows are bad."""
        if mask.any():
            self.bad |= mask
            at = self._batch.place.at(column=name)
            self._problems.add_rows(
                check, mask, lambda index: describe(at.at(row=self._batch.first_row + index), index)
            )

    def _column(self, name: str) -> pa.Array:
        """A column; dictionaries unpacked, empty cells taken in as problems."""
        column = self._batch.table.column(name)
        if pa_types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.null_count:
            empty = column.is_null().to_numpy(zero_copy_only=False)
            remedy = "Fill the cell or drop the row."
            self._reject(
                "cell-empty", name, empty, lambda at, _: fault(at, "a value", None, remedy, check="cell-empty")
            )
        return column

    def texts(self, name: str) -> pa.Array:
        """A column of non-empty strings without gaps; numbers become their digits."""
        column = self._column(name)
        place = self._batch.place.at(column=name)
        if not (_is_text(column.type) or pa_types.is_integer(column.type) or pa_types.is_null(column.type)):
            raise fault(place, "text", str(column.type), "Write it as strings.", check="cell-text")
        try:
            column.validate(full=True)
            column = column.cast(pa.string()).fill_null("(empty)")
        except pa.ArrowInvalid as error:
            raise fault(place, "UTF-8 text", "other bytes", "Write it as UTF-8.", check="cell-text") from error
        self._reject_names(name, column)
        return column

    def _reject_names(self, name: str, column: pa.Array) -> None:
        """Names that are empty, overlong, or hold what cannot be printed."""
        empty = pc.equal(column, "").to_numpy(zero_copy_only=False)
        remedy = "Name every row's document."
        self._reject(
            "cell-text", name, empty, lambda at, _: fault(at, "a document's name", "", remedy, check="cell-text")
        )
        fits = pc.and_(pc.utf8_is_printable(column), pc.less_equal(pc.utf8_length(column), LONGEST_NAME))
        odd = ~fits.to_numpy(zero_copy_only=False) & ~empty
        requirement = f"a printable name of at most {LONGEST_NAME} characters"
        self._reject(
            "cell-text",
            name,
            odd,
            lambda at, i: fault(at, requirement, column[i].as_py(), "Choose plain names.", check="cell-text"),
        )

    def floats(self, name: str, *, low: float = -math.inf, high: float = math.inf) -> np.ndarray:
        """A column of finite numbers from low to high, float64; 0 where a cell is not."""
        values, known = self._finite(name)
        if low == -math.inf and high == math.inf:
            return values
        outside = ((values < low) | (values > high)) & known
        requirement, remedy = f"from {low:.4g} to {high:.4g}", "Dump it in nats, and check vocab_size."
        self._reject(
            "cell-range",
            name,
            outside,
            lambda at, i: fault(at, requirement, float(values[i]), remedy, check="cell-range"),
        )
        return values

    def token_ids(self, name: str, member: Member) -> np.ndarray:
        """A column of token ids."""
        return self.integers(name, 0, member.vocab_size - 1, "vocab_size")

    def integers(self, name: str, low: int, high: int, limit: str) -> np.ndarray:
        """A column of whole numbers from low to high, int32; `low` where a cell is not."""
        column = self._batch.table.column(name)
        if column.type == pa.int32() and not column.null_count:
            whole: np.ndarray = column.to_numpy()
            if whole.size and low <= whole.min() and whole.max() <= high:
                return whole
        values, known = self._finite(name)
        broken = values != np.floor(values)
        self._reject(
            "cell-range",
            name,
            broken,
            lambda at, i: fault(at, "a whole number", float(values[i]), "Dump integers.", check="cell-range"),
        )
        outside = ((values < low) | (values > high)) & ~broken & known
        is_id = limit == "vocab_size"
        remedy = "Correct the row or vocab_size." if is_id else "Correct the row."
        requirement = f"from {low} to {high}" + (" (vocab_size)" if is_id else "")
        self._reject(
            "cell-range",
            name,
            outside,
            lambda at, i: fault(at, requirement, int(values[i]), remedy, check="cell-range"),
        )
        return np.clip(values, low, high).astype(np.int32)

    def _finite(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column as float64, 0 where a cell is no finite number; and which cells are."""
        column = self._column(name)
        if _is_text(column.type):
            column = self._parsed(name, column)
        elif not _is_numeric(column.type):
            place = self._batch.place.at(column=name)
            raise fault(place, "numbers", str(column.type), "Write it as numbers.", check="cell-number")
        if column.type != pa.float64():
            column = column.cast(pa.float64(), safe=False)
        values: np.ndarray = column.to_numpy(zero_copy_only=False)
        known = np.isfinite(values)
        if known.all():
            return values, known
        self._blank[name] = _is_blank(self._batch.table.column(name), values)
        wild = ~known & column.is_valid().to_numpy(zero_copy_only=False)
        self._reject("cell-finite", name, wild, lambda at, i: _not_finite(at, float(values[i])))
        return np.where(known, values, 0.0), known

    def _parsed(self, name: str, column: pa.Array) -> pa.Array:
        """Strings as float64; null where one is no number."""
        trimmed = pc.utf8_trim_whitespace(column)
        try:
            return trimmed.cast(pa.float64())
        except pa.ArrowInvalid:
            pass
        is_number = pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), True)
        bad = ~is_number.to_numpy(zero_copy_only=False)
        remedy = "Write it with a point."
        self._reject(
            "cell-number",
            name,
            bad,
            lambda at, i: fault(at, "a number", column[i].as_py(), remedy, check="cell-number"),
        )
        kept = pc.if_else(is_number, trimmed, pa.scalar(None, trimmed.type))
        return pa.array([None if text is None else float(text) for text in kept.to_pylist()], pa.float64())


def _is_blank(column: pa.Array, values: np.ndarray) -> np.ndarray:
    """Cells that are empty or -inf."""
    blank = column.is_null().to_numpy(zero_copy_only=False) | (values == -np.inf)
    if _is_text(column.type):
        blank |= pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True).to_numpy(zero_copy_only=False)
    return blank


def _not_finite(place: Place, value: float) -> SubmissionError:
    return fault(place, "a finite number", value, "Dump finite values only.", check="cell-finite")


def _is_text(kind: Any) -> bool:
    """Whether an Arrow type holds strings."""
    return bool(pa_types.is_string(kind) or pa_types.is_large_string(kind) or pa_types.is_string_view(kind))


def _is_numeric(kind: Any) -> bool:
    """Whether an Arrow type holds numbers, or nothing at all."""
    is_number = pa_types.is_floating(kind) or pa_types.is_integer(kind) or pa_types.is_decimal(kind)
    return bool(is_number or pa_types.is_null(kind))
