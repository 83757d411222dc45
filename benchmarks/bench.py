"""Ratios measured side by side in one run: `make bench`. Prints a table in Markdown.

Every row is a time of ours over the time of what it rides on, so that a slow machine slows both.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import capture as capture_bench
import discrimination
import ingest_bench
import numpy as np
import phase_coherence
import sweeps

from brf_exp.config import CaptureConfig, CorpusConfig, Dtype, ModelConfig
from brf_exp.maths.resampling import bootstrap_t
from brf_exp.stages.capture import capture
from brf_exp.storage.captures import open_capture

INGEST_ROWS = 115_000
COHERENCE_SIZES = (100_000, 1_000_000, 10_000_000)
SCORING_SIZES = (20_000, 200_000)
N_LOSSES, ARCH_REPLICATES = 1_000_000, 50


def seconds(job: Callable[[], object], repeats: int) -> float:
    """Median wall time of a job."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        job()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def in_a_process(script: str, *arguments: str) -> dict[str, float]:
    """Seconds and peak memory of a job in a process of its own."""
    made = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def bench_coherence(n: int, repeats: int, folder: Path) -> tuple[str, float, float]:
    """The Phase Coherence Test, scale given, over reading its columns and one complex FFT per document."""
    target = folder / f"coherence-{n}"
    phase_coherence.captures(target, n)
    offsets = open_capture(target / "1").documents.offsets
    return (
        f"phase coherence test, 2 x {n:,} positions",
        seconds(lambda: phase_coherence.whole_test(target), repeats),
        seconds(lambda: phase_coherence.read_and_transform(target, offsets), repeats),
    )


def coherence_beside_others(n: int, repeats: int, folder: Path) -> list[tuple[str, str]]:
    """Peak memory of the test in a process of its own, and what else takes how long on the same captures."""
    target = folder / f"coherence-{n}"
    alone = in_a_process(phase_coherence.__file__, str(target))
    rows = [("this test, alone in a process", f"{alone['seconds']:.2f} s, peak {alone['peak_mb']:.0f} MiB")]
    started = time.perf_counter()
    phase_coherence.brute_force(target, 4)
    n_documents = open_capture(target / "1").documents.offsets.size - 1
    scaled = (time.perf_counter() - started) * n_documents / 4
    rows.append(("all circular shifts one by one (4 documents, scaled)", f"{scaled:,.0f} s"))
    for name, job in phase_coherence.others(target).items():
        rows.append((f"{name}, differences in memory, not calibrated here", f"{seconds(job, repeats):.3f} s"))
    return rows


def contrasts_beside_arch(n: int, folder: Path) -> list[tuple[str, str]]:
    """From n stored losses of 17 rules to contrasts, and arch's bootstrap of the mean on the same rows."""
    target = folder / "losses"
    discrimination.losses(target, n)
    alone = in_a_process(discrimination.__file__, "bootstrap", str(target))
    scaled = discrimination.arch_seconds(target, ARCH_REPLICATES) * discrimination.N_RESAMPLES / ARCH_REPLICATES
    return [
        ("contrasts by document, alone in a process", f"{alone['seconds']:.2f} s, peak {alone['peak_mb']:.0f} MiB"),
        (f"arch IIDBootstrap of the mean, rows in memory ({ARCH_REPLICATES} replicates, scaled)", f"{scaled:,.0f} s"),
        ("ratio", f"{scaled / alone['seconds']:,.0f}"),
    ]


def scoring_beside_reading(n: int, repeats: int, folder: Path) -> list[tuple[str, str]]:
    """All rules on two captures of n positions with 50 logits, tuned and not, and one read of the same columns."""
    target = folder / f"scoring-{n}"
    discrimination.captures(target, n)
    reading = seconds(lambda: discrimination.read_once(target), repeats)
    rows = [("one read of the columns", f"{reading:.3f} s")]
    for how in ("untuned", "tuned"):
        alone = in_a_process(discrimination.__file__, "scoring", str(target), how)
        took = f"{alone['seconds']:.1f} s, {n / alone['seconds']:,.0f} positions/s"
        size = f"{alone['seconds'] / reading:,.0f} reads, peak {alone['peak_mb']:.0f} MiB"
        rows.append((f"stage `discriminate`, {how}, all maps, alone in a process", f"{took}, {size}"))
    return rows


def bench_bootstrap(repeats: int) -> tuple[str, float, float]:
    """10,000 bootstrap-t replicates of 16 rules over 400 documents against literal resampling, scaled from 20."""
    rng = np.random.default_rng(0)
    lengths = np.full(400, 250)
    rows = rng.normal(size=(100_000, 16))
    sums = rows.reshape(400, 250, 16).sum(axis=1)

    def ours() -> object:
        return bootstrap_t(sums, lengths, n_resamples=10_000, rng=rng)

    def literal() -> None:
        for _ in range(20):
            drawn = rng.integers(0, 400, 400)
            np.concatenate([rows[d * 250 : (d + 1) * 250] for d in drawn]).mean(axis=0)

    return (
        "10,000 document bootstraps, 1e5 positions x 16 rules",
        seconds(ours, repeats),
        seconds(literal, repeats) * 500,
    )


def bench_capture(repeats: int, folder: Path) -> tuple[str, float, float]:
    """Capture of held-out text with the embedded prose model over a bare forward pass on the same tokens."""
    import torch

    from brf_exp.models.load import load_model, resolve

    corpus = CorpusConfig(max_tokens=20_000, max_document_tokens=256)
    settings = CaptureConfig(k=50)
    loaded = load_model(resolve(ModelConfig(name="tiny_prose")), Dtype.FLOAT32, "cpu")
    rows = torch.randint(0, loaded.true_vocabulary_size, (32, 256))

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(20_000 // rows.numel() + 1):
                loaded.model(input_ids=rows, use_cache=False)

    counter = iter(range(1000))

    def ours() -> Path:
        return capture(ModelConfig(name="tiny_prose"), corpus, settings, runs_dir=folder / str(next(counter)))

    return "capture of 20,000 tokens, tiny_prose, k = 50, with start-up", seconds(ours, repeats), seconds(bare, repeats)


def coherence_and_pipeline(repeats: int, folder: Path) -> None:
    """Ratios of the Phase Coherence Test and of everything that makes captures."""
    print("| what | seconds | base, seconds | ratio |\n|---|---|---|---|")
    jobs: list[Callable[[], tuple[str, float, float]]] = [
        *(lambda n=n: bench_coherence(n, repeats, folder) for n in COHERENCE_SIZES),
        lambda: bench_bootstrap(repeats),
        lambda: bench_capture(repeats, folder),
    ]
    for job in jobs:
        what, ours, base = job()
        print(f"| {what} | {ours:.3f} | {base:.3f} | {ours / base:.3g} |", flush=True)
    for n in COHERENCE_SIZES:
        print_pairs(f"2 x {n:,} positions", coherence_beside_others(n, repeats, folder))


def discrimination_alone(repeats: int, folder: Path, sizes: Sequence[int], n_losses: int) -> None:
    """The Cross-Term Discrimination Test: the bootstrap, and scoring."""
    print_pairs(
        f"{n_losses:,} positions x {discrimination.N_RULES} rules, {discrimination.N_RESAMPLES:,} replicates",
        contrasts_beside_arch(n_losses, folder),
    )
    for n in sizes:
        title = f"2 x {n:,} positions, k = {discrimination.K}, memory_mb={discrimination.MEMORY_MB}"
        print_pairs(title, scoring_beside_reading(n, repeats, folder))


def print_pairs(title: str, rows: list[tuple[str, str]]) -> None:
    """A table of two columns."""
    print(f"\n| {title} | |\n|---|---|")
    for what, text in rows:
        print(f"| {what} | {text} |", flush=True)


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each job; the median counts")
    parts = ["coherence", "discrimination", "ingest", "capture", "sweeps"]
    parser.add_argument("--only", choices=parts, help="one part; coherence: with the pipeline")
    parser.add_argument("--positions", type=int, nargs="*", default=SCORING_SIZES, help="sizes of captures scored")
    parser.add_argument("--losses", type=int, default=N_LOSSES, help="stored positions that contrasts are made of")
    chosen = parser.parse_args()
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as name:
        if chosen.only in (None, "coherence"):
            coherence_and_pipeline(chosen.repeats, Path(name))
        if chosen.only in (None, "discrimination"):
            discrimination_alone(chosen.repeats, Path(name), chosen.positions, chosen.losses)
        if chosen.only in (None, "ingest"):
            rows = ingest_bench.ingest_beside_arrow(INGEST_ROWS, chosen.repeats, Path(name))
            print_pairs(f"2 CSVs of {INGEST_ROWS:,} rows, k = {ingest_bench.K}", rows)
    if chosen.only in (None, "capture"):
        capture_bench.print_tables(capture_bench.arguments(["--rounds", str(chosen.repeats)]))
    if chosen.only in (None, "sweeps"):
        sweeps.print_tables(chosen.repeats)


if __name__ == "__main__":
    main()
