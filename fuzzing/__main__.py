"""`python -m fuzzing --cases 100000`: run cases in processes of their own, and print what broke."""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from fuzzing.runner import Outcome, run_range

CHUNK = 500


def main() -> int:
    """Run the cases; 0 where all of them kept the promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    start, total = time.perf_counter(), Outcome()
    stop = options.first + options.cases
    ranges = [(first, min(first + CHUNK, stop)) for first in range(options.first, stop, CHUNK)]
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
                waiting = [pool.submit(run_range, *span, options.seed, folder) for span in ranges]
                for done in as_completed(waiting):
                    _add(total, done.result())
                    print(f"\r{total.n_cases} of {options.cases} cases", end="", file=sys.stderr, flush=True)
        except BrokenProcessPool:
            running = sorted(int(path.read_text()) for path in Path(folder).iterdir())
            print(f"A process died in one of the cases {running} (seed {options.seed}).")
            return 1
    seconds = time.perf_counter() - start
    for number, text in total.broken[:20]:
        print(f"case {number}, seed {options.seed}:\n{text}")
    print(
        f"{total.n_cases} cases in {seconds:.0f} s ({total.n_cases / seconds:.0f} per second): "
        f"{total.accepted.total()} accepted, {total.refused.total()} refused, {len(total.broken)} broke the promise."
    )
    print(f"accepted {_counted(total.accepted)}; refused {_counted(total.refused)}")
    return 1 if total.broken else 0


def _add(total: Outcome, more: Outcome) -> None:
    total.accepted += more.accepted
    total.refused += more.refused
    total.broken += more.broken


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
