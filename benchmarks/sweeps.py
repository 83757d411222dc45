"""What a sweep adds to each of its jobs, and what asking for help costs: `python benchmarks/sweeps.py`.

A sweep by the basic launcher over settings of `capture`, against one process that runs stage `capture` with the same
settings one after the other, in turns; and the same again when every capture is there already. Both start Python and
import torch once, so that the difference belongs to the sweep: Hydra, its record of jobs, its table.
Run as a script with `--alone`, it is that process.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np

MODELS = ("tiny_prose", "tiny_code", "tiny_mixed")
KS = (10, 20, 30, 40)
N_JOBS = len(MODELS) * len(KS)
N_TOKENS = 2000
HELP_ROUNDS = 11


def sweep(runs: Path, n_tokens: int) -> list[str]:
    """The command of the sweep; its own log goes beside the captures."""
    return [
        *(sys.executable, "-m", "brf_exp", "capture", "-m"),
        f"model={','.join(MODELS)}",
        f"capture.k={','.join(map(str, KS))}",
        f"corpus.max_tokens={n_tokens}",
        f"runs_dir={runs}",
    ]


def alone(runs: Path, n_tokens: int) -> None:
    """The same captures without Hydra, one after the other."""
    from brf_exp.config import CaptureConfig, CaptureStageConfig, CorpusConfig, ModelConfig
    from brf_exp.stages.capture import run

    for model, k in product(MODELS, KS):
        settings = {"model": ModelConfig(name=model), "corpus": CorpusConfig(max_tokens=n_tokens)}
        run(CaptureStageConfig(runs_dir=str(runs), capture=CaptureConfig(k=k), progress=False, **settings))


def timed(command: Sequence[str | Path], folder: Path) -> float:
    """Seconds of a command that must succeed; Hydra's folders go where it runs."""
    started = time.perf_counter()
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    took = time.perf_counter() - started
    if made.returncode:
        raise RuntimeError(f"{command} ended with {made.returncode}:\n{made.stderr[-2000:]}")
    return took


def one_round(folder: Path, n_tokens: int) -> list[float]:
    """Seconds of the sweep and of the process without it: with the work to do, and with all of it done."""
    sides = []
    for name, command in (
        ("swept", lambda runs: sweep(runs, n_tokens)),
        ("alone", lambda runs: [sys.executable, __file__, "--alone", runs, "--tokens", str(n_tokens)]),
    ):
        runs = folder / name
        runs.mkdir(parents=True)
        sides.append([timed(command(runs), folder) for _ in ("to do", "done")])
    (swept, swept_again), (base, base_again) = sides
    return [swept, base, swept_again, base_again]


def overhead_rows(rounds: int, n_tokens: int) -> list[tuple[str, str]]:
    """Medians, and what the sweep adds per job."""
    with tempfile.TemporaryDirectory() as name:
        times = np.array([one_round(Path(name) / str(index), n_tokens) for index in range(rounds)])
    swept, base, swept_again, base_again = np.median(times, axis=0)
    added = (times[:, 0] - times[:, 1]) / N_JOBS
    added_again = (times[:, 2] - times[:, 3]) / N_JOBS
    return [
        (f"`capture -m`, {N_JOBS} jobs of {n_tokens:,} tokens", f"{swept:.2f} s"),
        ("the same captures in one process without a sweep", f"{base:.2f} s"),
        ("added per job", spread(added)),
        ("`capture -m` again, all of them there", f"{swept_again:.2f} s"),
        ("the same without a sweep", f"{base_again:.2f} s"),
        ("added per job", spread(added_again)),
    ]


def spread(seconds: np.ndarray) -> str:
    """Median and range in milliseconds."""
    low, middle, high = 1000 * np.quantile(seconds, [0, 0.5, 1])
    return f"**{middle:.0f} ms** ({low:.0f} to {high:.0f})"


def help_rows() -> list[tuple[str, str]]:
    """Asking for help, importing Hydra, and Python alone, in turns."""
    commands = {
        "`brf-exp capture --help`": [Path(sys.executable).with_name("brf-exp"), "capture", "--help"],
        '`python -c "import hydra"`': [sys.executable, "-c", "import hydra"],
        '`python -c ""`': [sys.executable, "-c", ""],
    }
    with tempfile.TemporaryDirectory() as folder:
        rounds = [[timed(command, Path(folder)) for command in commands.values()] for _ in range(HELP_ROUNDS)]
    medians = np.median(rounds, axis=0)
    ratio = np.median(np.divide(*np.array(rounds).T[:2]))
    rows = [(what, f"{1000 * middle:.0f} ms") for what, middle in zip(commands, medians, strict=True)]
    return [*rows, ("help over importing Hydra", f"**{ratio:.2f}**")]


def main(given: Sequence[str] | None = None) -> None:
    """Print the tables, or be the process that they compare with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side, in turns; medians count")
    parser.add_argument("--tokens", type=int, default=N_TOKENS, help="of each job's capture")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(given)
    if chosen.alone:
        alone(chosen.alone, chosen.tokens)
        return
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print_tables(chosen.rounds, chosen.tokens)


def print_tables(rounds: int, n_tokens: int = N_TOKENS) -> None:
    """What a sweep adds, and what the command line costs."""
    for title, rows in (
        (f"sweep, basic launcher, medians of {rounds}", overhead_rows(rounds, n_tokens)),
        (f"command line, medians of {HELP_ROUNDS}", help_rows()),
    ):
        print(f"\n| {title} | |\n|---|---|")
        for what, text in rows:
            print(f"| {what} | {text} |", flush=True)


if __name__ == "__main__":
    main()
