"""Values that stand in place of others: a floor for what was filtered out or not given."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from brf_exp.submission.fault import Place, SubmissionError, fault
from brf_exp.submission.rows import Rows

FLOOR: Final = -99.0
# The realised token's value lies this far below the row's best: a token of such odds is never met twice alike.
DROP: Final = 50.0
# What serving stacks and samplers write for no value, beside the lowest number of a type; one of these is enough.
KNOWN: Final = frozenset({-9999.0, -65504.0, *(-(10.0**power) for power in range(3, 31))})
LOWEST: Final = -1e30
MOST_VALUES: Final = 64
ROWS_LISTED: Final = 8


@dataclass
class _Found:
    """Rows with one value: the first of them, and how many."""

    first: Place
    rows: list[str] = field(default_factory=list)
    n: int = 0


@dataclass
class TargetFloors:
    """Low values of realised tokens over a table's rows, each with where it stands."""

    n_rows: int = 0
    found: dict[float, _Found] = field(default_factory=dict)

    def add(self, rows: Rows, column: str | None) -> None:
        """Take sound rows in; `column` is that of the realised token's value, where there is one."""
        if rows.target is None:
            return
        target = rows.target
        self.n_rows += len(target)
        low = (target <= FLOOR) & (rows.values.max(axis=1) - target >= DROP)
        if not low.any():
            return
        values, where = np.unique(target[low], return_inverse=True)
        indices = np.flatnonzero(low)
        for number, value in enumerate(values.tolist()):
            if value in self.found or len(self.found) < MOST_VALUES or _is_known(value):
                self._take(rows, column, value, indices[where == number])

    def _take(self, rows: Rows, column: str | None, value: float, indices: np.ndarray) -> None:
        """Note the rows of one value."""
        found = self.found.setdefault(value, _Found(rows.at(int(indices[0]), column)))
        room = max(0, ROWS_LISTED - len(found.rows))
        found.rows += [str(rows.at(int(index)).row) for index in indices[:room]]
        found.n += len(indices)

    def named(self) -> list[tuple[SubmissionError, int]]:
        """An error for every value that is none of the model's, with the number of its rows."""
        return [
            (self._fault(value, found), found.n)
            for value, found in self.found.items()
            if found.n > 1 or _is_known(value)
        ]

    def _fault(self, value: float, found: _Found) -> SubmissionError:
        more = ", ..." if found.n > len(found.rows) else ""
        remedy = (
            f"This stands in place of a value, in {found.n} of {self.n_rows} rows ({', '.join(found.rows)}{more}): "
            "dump the values themselves, or none of them (null in a log, no column in a table): then coherence alone."
        )
        return fault(found.first, "the realised token's own value", value, remedy, check="target-floor")


def _is_known(value: float) -> bool:
    """Whether a value is one that no model gives."""
    return value in KNOWN or value <= LOWEST
