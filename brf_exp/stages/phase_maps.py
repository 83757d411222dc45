"""The phase map that a user chose: what determines it, and the user's own table of phases."""

from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import PhaseConfig
from brf_exp.errors import InputError
from brf_exp.maths.phases import PhaseTable
from brf_exp.storage.tables import read_csv

LARGEST = 1e9  # beyond it, phases between two rows overflow or lose their digits


def phase_identity(phase: PhaseConfig) -> dict[str, Any]:
    """What determines a phase map: name, scale, and a table's values rather than its path."""
    table = load_table(phase)
    values = None if table is None else [table.gaps.tolist(), table.phases_rad.tolist()]
    return {"name": phase.name, "scale": phase.scale, "table": values}


def load_table(phase: PhaseConfig) -> PhaseTable | None:
    """The user's own phase map, where `phase=table`."""
    if phase.name != "table":
        return None
    if not phase.table or not Path(phase.table).is_file():
        raise InputError(f"`phase.table` must be a CSV file with columns gap,phase, got {phase.table!r}.")
    try:
        rows = read_csv(Path(phase.table), ["gap", "phase"])
        if any((np.abs(values) > LARGEST).any() for values in rows.values()):
            raise ValueError(f"its numbers must be at most {LARGEST:g}")
        return PhaseTable(rows["gap"], rows["phase"])
    except (KeyError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise InputError(f"`phase.table` must be a CSV file with columns gap,phase: {phase.table}: {text}.") from error
