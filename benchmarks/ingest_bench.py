"""Ingest of a large CSV beside pyarrow's own CSV reader on the same files, and the memory that it takes.

`tables(folder, n)` writes a submission of two CSVs; run as a script on such a folder it ingests it and prints seconds
and peak memory of that alone, in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import yaml
from scipy.special import logsumexp

from brf_exp.config import IngestStageConfig
from brf_exp.stages import ingest
from brf_exp.submission.tables import open_source

K = 50
VOCABULARY = 50_257
TOKENS_PER_DOCUMENT = 500


def tables(folder: Path, n: int) -> int:
    """Two CSVs of n rows with every column of discrimination, k = 50; their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    places = {
        "doc_id": pa.array([f"doc-{row // TOKENS_PER_DOCUMENT:05d}" for row in range(n)]),
        "position": np.arange(n) % TOKENS_PER_DOCUMENT,
        "token_id": rng.integers(VOCABULARY, size=n),
    }
    for key in "ab":
        table = pa.table(places | _values(n, places["token_id"], rng))
        pa_csv.write_csv(table, folder / f"{key}.csv", pa_csv.WriteOptions(quoting_style="none"))
    models = {
        key: {"name": key, "tokenizer": "t", "vocab_size": VOCABULARY, "value_kind": "logit", "capture": f"{key}.csv"}
        for key in "ab"
    }
    (folder / "submission.yaml").write_text(yaml.safe_dump({"schema": 1, "name": "large", "models": models}))
    return sum((folder / f"{key}.csv").stat().st_size for key in "ab")


def _values(n: int, tokens: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Top-50 logits as float32 prints them, and what has to fit them."""
    logits = -np.sort(-rng.normal(8, 3, size=(n, K)).astype(np.float32), axis=1)
    ids = (rng.integers(VOCABULARY, size=(n, 1)) + np.arange(K) * 997) % VOCABULARY
    hit = ids == tokens[:, np.newaxis]
    rest = np.log(VOCABULARY - K) + logits[:, -1] - 3
    values = {
        "logsumexp": np.logaddexp(logsumexp(logits.astype(float), axis=1), rest),
        "target_logit": np.where(hit.any(axis=1), (logits * hit).sum(axis=1), logits[:, -1] - 1).astype(np.float32),
    }
    values |= {f"id_{rank + 1}": ids[:, rank] for rank in range(K)}
    return values | {f"logit_{rank + 1}": logits[:, rank] for rank in range(K)}


def arrow_alone(folder: Path) -> None:
    """pyarrow's reader, with its own number of threads; both tables in memory."""
    for key in "ab":
        pa_csv.read_csv(folder / f"{key}.csv")


def reader_alone(folder: Path) -> None:
    """What ingest reads with: every column of both tables, batch by batch."""
    for key in "ab":
        source = open_source(folder, f"{key}.csv")
        for _ in source.batches(list(source.names)):
            pass


def whole_ingest(folder: Path) -> None:
    """Hash, read, check, write captures."""
    with tempfile.TemporaryDirectory() as runs:
        ingest.run(IngestStageConfig(submission=str(folder), runs_dir=runs))


JOBS: dict[str, Callable[[Path], None]] = {
    "arrow": arrow_alone,
    "reader": reader_alone,
    "ingest": whole_ingest,
}


def measured(job: str, folder: Path) -> dict[str, float]:
    """Wall seconds, processor seconds and peak MiB of one job in a process of its own."""
    done = subprocess.run([sys.executable, __file__, job, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ingest_beside_arrow(n: int, repeats: int, folder: Path) -> list[tuple[str, str]]:
    """Rows of a table: medians of some runs of each job in turn, as MB/s, ratio to pyarrow's, and memory."""
    size = tables(folder / "large", n)
    runs = [{job: measured(job, folder / "large") for job in JOBS} for _ in range(repeats)]
    wall = {job: float(np.median([run[job]["seconds"] for run in runs])) for job in JOBS}
    used = {job: float(np.median([run[job]["processor_seconds"] for run in runs])) for job in JOBS}
    return [
        (
            f"{job}, 2 CSVs of {size / 2e6:.0f} MB",
            f"{wall[job]:.2f} s, {size / wall[job] / 1e6:.0f} MB/s, {wall['arrow'] / wall[job]:.2f} of pyarrow's speed "
            f"({used['arrow'] / used[job]:.2f} by processor time), {max(run[job]['peak_mib'] for run in runs):.0f} MiB",
        )
        for job in JOBS
    ]


def main() -> None:
    """One job, twice: the first time loads what has to be loaded."""
    job, folder = JOBS[sys.argv[1]], Path(sys.argv[2])
    job(folder)
    wall, processor = time.perf_counter(), time.process_time()
    job(folder)
    found = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    # Of this process alone: the peak that getrusage tells includes that of the process it was forked from.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps(found | {"peak_mib": peak}))


if __name__ == "__main__":
    main()
