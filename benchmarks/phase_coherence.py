"""The Phase Coherence Test on captures of 10^5 to 10^7 positions, beside what else one could do with them.

`captures(folder, n)` writes two captures; run as a script on such a folder it prints seconds and peak memory of the
test alone, in a process of its own.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from astropy.stats import circstats

from brf_exp.maths.coherence import shift_null
from brf_exp.maths.pairing import true_pairing
from brf_exp.maths.phases import Phasors
from brf_exp.maths.resampling import ratio_test
from brf_exp.stages.gap_rows import read_gap_rows
from brf_exp.stages.pairs import PairInputs
from brf_exp.storage.captures import MANIFEST, open_capture, part_name, write_part
from brf_exp.storage.scratch import Scratch

SCALE = 1.5
ROWS_PER_PART = 65536


def document_lengths(n: int) -> np.ndarray:
    """Ragged documents of 300 to 700 positions, n in all."""
    lengths = np.random.default_rng(0).integers(300, 701, n // 500 + 1)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), n) + 1]
    lengths[-1] -= lengths.sum() - n
    return lengths[lengths > 0]


def document_parts(lengths: np.ndarray) -> Iterator[range]:
    """Documents of each part file."""
    first = 0
    while first < lengths.size:
        stop = first + max(1, int(np.searchsorted(np.cumsum(lengths[first:]), ROWS_PER_PART, side="right")))
        yield range(first, min(stop, lengths.size))
        first = stop


def captures(folder: Path, n: int) -> None:
    """Two captures of n positions in ragged documents, with the columns that real ones have."""
    lengths = document_lengths(n)
    for model in (1, 2):
        rng = np.random.default_rng(model)
        parts = (_rows(lengths, documents, rng) for documents in document_parts(lengths))
        write_capture(folder / str(model), parts, {"name": f"model-{model}"}, n)


def _rows(lengths: np.ndarray, documents: range, rng: np.random.Generator) -> pa.Table:
    mine = lengths[documents.start : documents.stop]
    rows = int(mine.sum())
    top = rng.normal(18, 3, rows).astype(np.float32)
    names = np.array([f"document-{number:07d}" for number in documents])
    return pa.table(
        {
            "doc_id": np.repeat(names, mine),
            "position": np.concatenate([np.arange(length, dtype=np.int32) for length in mine]),
            "token_id": np.random.default_rng(documents.start).integers(0, 50_000, rows).astype(np.int32),
            "logit_1": top,
            "logit_2": top - rng.exponential(SCALE, rows).astype(np.float32),
        }
    )


def write_capture(folder: Path, parts: Iterable[pa.Table], model: dict[str, object], n: int) -> None:
    """A capture folder with one part file per table."""
    folder.mkdir(parents=True)
    written = []
    for table in parts:
        name = part_name(len(written))
        n_documents = len(table["doc_id"].unique())
        sha256 = write_part(folder / name, table)
        written.append({"name": name, "rows": table.num_rows, "documents": n_documents, "sha256": sha256})
    described = {"schema": 1, "rows": n, "model": model, "parts": written}
    (folder / MANIFEST).write_text(json.dumps(described), encoding="utf-8")


def whole_test(folder: Path) -> float:
    """From Parquet to p-values: statistic, document test and the shift null in closed form."""
    members = tuple(open_capture(folder / name) for name in "12")
    rows = read_gap_rows(PairInputs("bench", members, None, None, False), Scratch(folder, memory_mb=1024))
    pairing = true_pairing(*(Phasors("arctan", gaps, SCALE) for gaps in rows.gaps), rows.offsets)
    rng = np.random.default_rng(0)
    ratio_test(pairing.excess.real, pairing.lengths, confidence_level=0.95, n_resamples=999, rng=rng)
    return shift_null(pairing).pvalue


def read_only(folder: Path) -> list[np.ndarray]:
    """Read doc_id, logit_1 and logit_2 of both models; gaps as complex numbers."""
    gaps = []
    for name in "12":
        parts = sorted(str(path) for path in (folder / name).glob("part-*"))
        table = ds.dataset(parts, format="parquet").to_table(columns=["doc_id", "logit_1", "logit_2"])
        gaps.append((table["logit_1"].to_numpy() - table["logit_2"].to_numpy()).astype(np.complex128))
    return gaps


def read_and_transform(folder: Path, offsets: np.ndarray) -> None:
    """The least that any such test does: the reading, and one complex FFT per document."""
    gaps = read_only(folder)[0]
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        np.fft.fft(gaps[start:stop])


def differences(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Phase differences of all positions, and the documents' offsets."""
    gaps = read_only(folder)
    phi = [2 * np.arctan(gap.real / SCALE) for gap in gaps]
    return phi[0] - phi[1], open_capture(folder / "1").documents.offsets


def brute_force(folder: Path, n_documents: int) -> None:
    """Every circular shift of the first documents, one by one."""
    gaps = read_only(folder)
    offsets = open_capture(folder / "1").documents.offsets
    z = [np.exp(2j * np.arctan(gap.real / SCALE)) for gap in gaps]
    for start, stop in zip(offsets[:n_documents], offsets[1:], strict=False):
        for shift in range(stop - start):
            (z[0][start:stop] * np.conj(np.roll(z[1][start:stop], shift))).sum()


def others(folder: Path) -> dict[str, Callable[[], object]]:
    """What libraries do with the same data: Rayleigh's test of the differences, which is not calibrated here."""
    from pycircstat2.hypothesis import rayleigh_test

    angles, _ = differences(folder)
    wrapped = np.mod(angles, 2 * np.pi)
    return {
        "astropy rayleightest": lambda: circstats.rayleightest(angles),
        "pycircstat2 rayleigh_test": lambda: rayleigh_test(alpha=wrapped),
    }


def peak_mb() -> float:
    """Largest resident memory of this program so far, MiB; getrusage would count the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    target = Path(sys.argv[1])
    started = time.perf_counter()
    whole_test(target)
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}))
