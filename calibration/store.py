"""Results of rows on disk, one JSON file each, so that an interrupted calibration goes on where it stopped."""

import json
import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from brf_exp.stages.progress import steps
from brf_exp.storage.runs import read_json, write_json
from calibration.rows import Row

SCHEMA = 1
CHUNKS_PER_ROW = 40
Columns = dict[str, list[Any]]


def path_of(folder: Path, row: Row) -> Path:
    """The file of a row's results."""
    return folder / f"{re.sub(r'[^a-z0-9.]+', '-', row.name.lower()).strip('-')}.json"


def read(folder: Path, row: Row) -> Columns | None:
    """Columns of a row's results, one entry per simulation; None where they are not there for these settings."""
    path = path_of(folder, row)
    if not path.is_file():
        return None
    found = read_json(path)
    return found["columns"] if found["determines"] == _determines(row) else None


def compute(folder: Path, rows: Sequence[Row], *, n_processes: int) -> None:
    """Simulate the rows that are not there yet, each written when it is whole."""
    missing = [row for row in rows if read(folder, row) is None]
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    chunks = {row.name: _chunks(row.n) for row in missing}
    pool = ProcessPoolExecutor(n_processes, mp_context=context, initializer=_one_thread)
    with pool, steps("calibration", sum(map(len, chunks.values())), enabled=True) as step:
        for row in missing:
            outcomes, seconds = _simulated(pool, row, chunks[row.name], step)
            columns = {key: [one[key] for one in outcomes] for key in outcomes[0]}
            found = {"name": row.name, "determines": _determines(row), "seconds": seconds, "columns": columns}
            _write(path_of(folder, row), found)


def _write(path: Path, value: Any) -> None:
    partial_path = path.with_name(path.name + ".partial")
    write_json(partial_path, value)
    partial_path.replace(path)


def _simulated(
    pool: ProcessPoolExecutor, row: Row, chunks: Sequence[range], step: Callable[[str], None]
) -> tuple[list[dict[str, Any]], float]:
    """Outcomes of all simulations of a row, in order, and the processor time that they took, seconds."""
    outcomes: list[dict[str, Any]] = []
    seconds = 0.0
    for chunk, spent in pool.map(partial(_simulate, row), chunks):
        step(row.name)
        outcomes += chunk
        seconds += spent
    return outcomes, round(seconds, 1)


def _simulate(row: Row, indexes: range) -> tuple[list[dict[str, Any]], float]:
    started = time.process_time()
    outcomes = [{key: _rounded(value) for key, value in row.simulate(index).items()} for index in indexes]
    return outcomes, time.process_time() - started


def _rounded(value: Any) -> Any:
    """Six digits are more than any rate needs; numpy's scalars become Python's."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value.item() if hasattr(value, "item") else value


def _chunks(n: int) -> list[range]:
    size = max(1, n // CHUNKS_PER_ROW)
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def _determines(row: Row) -> str:
    """What a row's numbers depend on, besides the code."""
    arguments = getattr(row.simulate, "args", ())
    return json.dumps([SCHEMA, row.n, *[repr(one) for one in arguments if not isinstance(one, Path)]])


def _one_thread() -> None:
    """The processes side by side use the cores; a process's own threads would only get in their way."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
