"""`python -m calibration`: simulate what is missing, then write the page of results."""

import argparse
from dataclasses import replace
from pathlib import Path

from brf_exp.errors import BrfError
from calibration.captures import PAIRS, available_pairs
from calibration.discrimination_rows import discrimination_rows
from calibration.report import page
from calibration.rows import Row, capture_rows, simulated_rows
from calibration.store import compute, read

DOCS = Path(__file__).parents[1] / "docs" / "calibration.md"
N_PROCESSES = 2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where captures and results go")
    parser.add_argument("--processes", type=int, default=N_PROCESSES, help="simulations side by side")
    parser.add_argument("--only", default="", help="rows whose name contains this; no page is written")
    parser.add_argument("--at-most", type=int, help="simulations per row, for a rough look; no page in docs/ then")
    parser.add_argument("--page", action="store_true", help="only write the page of what is there")
    return parser.parse_args()


def _importance(row: Row) -> int:
    """What is cheap first, then real captures, then the whole procedure, power last: a run may be interrupted."""
    order = ("components", "kuramoto", "losses", "ranks", "truth", "broken separate", "broken", "true", "procedure")
    return next((place for place, start in enumerate(order) if row.name.startswith(start)), len(order))


def main() -> None:
    """Simulate, and write the page where all rows are there."""
    chosen = arguments()
    runs_dir: Path = chosen.runs_dir.absolute()
    everything = [*simulated_rows(), *discrimination_rows(), *capture_rows(runs_dir)]
    rows = [row for row in everything if chosen.only in row.name]
    folder, target = runs_dir / "calibration", DOCS
    if chosen.at_most:
        rows = [replace(row, n=min(row.n, chosen.at_most)) for row in rows]
        folder = runs_dir / f"calibration-{chosen.at_most}"
        target = folder / DOCS.name
    if chosen.page:
        target.write_text(page(folder, rows), encoding="utf-8")
        return
    # Captures are made here, once, before several processes would make them at the same time.
    for name in available_pairs():
        if any(name in row.name and read(folder, row) is None for row in rows):
            PAIRS[name](runs_dir)
    compute(folder, sorted(rows, key=_importance), n_processes=chosen.processes)
    if not chosen.only:
        target.write_text(page(folder, rows), encoding="utf-8")
        print(target)


if __name__ == "__main__":
    try:
        main()
    except BrfError as error:
        raise SystemExit(str(error)) from error
