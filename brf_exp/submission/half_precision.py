"""Whether a column logsumexp was summed or stored in half precision."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from brf_exp.submission.fault import Place, SubmissionError, said
from brf_exp.submission.rows import Rows

LEAST_ROWS: Final = 20
# Beyond this many nats, rounding is of the size of the differences that the discrimination test looks for.
LARGEST_ERROR_NATS: Final = 0.01
# Bits of the significand behind the first.
BITS: Final = {"float16": 10, "bfloat16": 7}


@dataclass
class HalfPrecision:
    """Gathers whether all of a table's logsumexp are numbers of half precision."""

    n_rows: int = 0
    low: float = np.inf
    high: float = -np.inf
    float16: bool = True
    bfloat16: bool = True

    def add(self, rows: Rows) -> None:
        """Take sound rows in."""
        column = rows.fixed.get("logsumexp")
        if column is None or not (self.float16 or self.bfloat16):
            return
        self.n_rows += len(column)
        self.low, self.high = min(self.low, float(column.min())), max(self.high, float(column.max()))
        with np.errstate(over="ignore"):
            single = column.astype(np.float32)
            self.float16 = self.float16 and bool((column.astype(np.float16) == column).all())
        is_cut = (single == column) & (single.view(np.uint32) & 0xFFFF == 0)
        self.bfloat16 = self.bfloat16 and bool(is_cut.all())

    def named(self, place: Place, *, contradicted: bool) -> SubmissionError | None:
        """An error where the rounding matters, a warning where it may; `contradicted`: rows do not fit it."""
        if self.n_rows < LEAST_ROWS or self.low == self.high or not (self.float16 or self.bfloat16):
            return None
        kind = "bfloat16" if self.bfloat16 else "float16"  # of few bits, what the one holds the other does too
        exponent = np.floor(np.log2(max(abs(self.low), abs(self.high))))
        error = float(2.0 ** (exponent - BITS[kind] - 1))
        sentence = (
            f"must be summed in float32 or finer, got numbers of {kind} in all {self.n_rows} rows: off by up to "
            f"{error:.2g} nats, and every probability by {np.expm1(error):.1%}"
        )
        is_error = contradicted or error > LARGEST_ERROR_NATS
        also = ", so that listed ones sum to more than 1" if contradicted else ""
        remedy = "Sum the dumped logits again in float32, over the whole vocabulary."
        check = "looks-half-precision" if is_error else "half-precision"
        return said(place.at(column="logsumexp"), f"{sentence}{also}. {remedy}", check=check)
