"""Rates, coverage and predicted power from the columns of results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.maths.power import Pilot, power_at
from brf_exp.storage.runs import read_json
from calibration.rows import N_ALWAYS_RESIDUAL, PILOT_DOCUMENTS, WITHOUT_DEPENDENCE, Row, procedure_name, truth_name
from calibration.store import Columns, path_of, read

ALPHA = 0.05


class Results:
    """The results of rows, read where they are asked for; KeyError for a row that was not computed."""

    def __init__(self, folder: Path, made: Sequence[Row]) -> None:
        self._folder = folder
        self._rows = {row.name: row for row in made}

    def has(self, name: str) -> bool:
        """Was this row asked for and computed?"""
        return name in self._rows and read(self._folder, self._rows[name]) is not None

    @property
    def missing(self) -> list[str]:
        """Rows that were asked for and are not there."""
        return [name for name in self._rows if not self.has(name)]

    def n(self, name: str) -> int:
        """Simulations of a row."""
        return self._rows[name].n

    def columns(self, name: str) -> Columns:
        """All numbers of a row."""
        found = read(self._folder, self._rows[name])
        if found is None:
            raise KeyError(name)
        return found

    def phase_columns(self, name: str, phase: str) -> Columns:
        """The numbers of one map."""
        return {
            key.removeprefix(f"{phase}."): values
            for key, values in self.columns(name).items()
            if key.startswith(f"{phase}.")
        }

    def with_residual(self, name: str, phase: str) -> Columns:
        """The numbers of one map in the simulations whose regressor was run whatever P1 said."""
        columns = self.phase_columns(name, phase)
        chosen = N_ALWAYS_RESIDUAL if name in map(procedure_name, WITHOUT_DEPENDENCE) else self.n(name)
        return {key: values[:chosen] for key, values in columns.items()}

    def truth(self, residual: float, phase: str) -> dict[str, float]:
        """Shares `plain` and `residual` that stand for the truth."""
        columns = self.phase_columns(truth_name(residual), phase)
        return {kind: float(np.mean(columns[f"{kind}_share"])) for kind in ("plain", "residual")}

    @property
    def n_simulations(self) -> int:
        """Simulations of all rows."""
        return sum(row.n for row in self._rows.values() if self.has(row.name))

    @property
    def seconds(self) -> float:
        """Processor time that all rows took."""
        there = [row for row in self._rows.values() if self.has(row.name)]
        return float(sum(read_json(path_of(self._folder, row))["seconds"] for row in there))


def rate(values: Sequence[Any]) -> float:
    """Share of true values."""
    return float(np.mean([bool(value) for value in values]))


def rates_below(columns: Mapping[str, Sequence[Any]], *, alpha: float = ALPHA) -> dict[str, float]:
    """Share of p-values below alpha, for every column that holds numbers."""
    numeric = {
        key: values for key, values in columns.items() if all(isinstance(v, int | float) for v in values) and values
    }
    return {key: float(np.mean(np.array(values) < alpha)) for key, values in numeric.items()}


def verdict_rate(columns: Mapping[str, Sequence[Any]], verdict: str) -> float:
    """Share of simulations with this verdict."""
    return rate([found == verdict for found in columns["verdict"]])


def supported_rate(columns: Mapping[str, Sequence[Any]]) -> float:
    """Share of simulations that end `supported`."""
    return verdict_rate(columns, "supported")


def reasons(columns: Mapping[str, Sequence[Any]]) -> str:
    """How often each verdict was given for each reason, the most frequent first."""
    counted = Counter(zip(columns["verdict"], columns["reason"], strict=True))
    return ", ".join(f"{count} {verdict} ({reason})" for (verdict, reason), count in counted.most_common())


def median(values: Sequence[float | None]) -> float:
    """Median of what is there."""
    return float(np.median([value for value in values if value is not None]))


def coverage(columns: Mapping[str, Sequence[Any]], kind: str, truth: float) -> float:
    """Share of the intervals of a share that hold the truth."""
    ends = zip(columns[f"{kind}_lower"], columns[f"{kind}_upper"], strict=True)
    return rate([lower <= truth <= upper for lower, upper in ends])


def planned_power(columns: Mapping[str, Sequence[Any]], effect: float, n_positions: int) -> np.ndarray:
    """Power at a number of positions as each simulation predicts it when taken for a pilot, (n,)."""
    pilots = [
        Pilot(error, positions, PILOT_DOCUMENTS)
        for error, positions in zip(columns["residual_standard_error"], columns["residual_n_positions"], strict=True)
    ]
    return np.array([power_at(n_positions, effect=effect, pilot=pilot).power for pilot in pilots])
