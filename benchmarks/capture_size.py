"""What a capture takes in memory and on disk.

Run as a script on a file of texts and a number of tokens it prints the memory of one capture, in a process of its own.
"""

import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from brf_exp.config import CaptureConfig, CorpusConfig, Dtype, ModelConfig
from brf_exp.models.load import load_model, resolve
from brf_exp.stages import capture as stage
from brf_exp.storage.captures import MANIFEST, open_capture

MODEL = ModelConfig(name="tiny_prose")
KIB_PER_MIB = 1024
ROWS_PER_PART = (CaptureConfig().rows_per_part, 4096)
SIZE_TOKENS = 20_000


def memory(sizes: Sequence[int], folder: Path) -> Iterator[list[str]]:
    """Cells of the table: tokens, rows, seconds, memory with the model loaded, the capture's peaks above it.

    One peak with the default of `capture.rows_per_part`, one with parts that the smallest capture fills already.
    """
    from shapes import write_texts_of

    loaded = load_model(resolve(MODEL), Dtype.FLOAT32, "cpu")
    for n_tokens in sizes:
        texts = write_texts_of(folder / f"{n_tokens}.jsonl", loaded.tokenizer, n_tokens, 256)
        default, small = (measured(texts, n_tokens, folder / f"{n_tokens}-{rows}", rows) for rows in ROWS_PER_PART)
        above = [f"{found['peak_mib'] - found['loaded_mib']:.0f}" for found in (default, small)]
        yield [
            f"{n_tokens:,}",
            f"{default['rows']:,}",
            f"{default['seconds']:.1f}",
            f"{default['loaded_mib']:.0f}",
            *above,
        ]


def measured(texts: Path, n_tokens: int, folder: Path, rows_per_part: int) -> dict[str, float]:
    """`memory_of_one` in a process of its own."""
    command = [sys.executable, __file__, texts, str(n_tokens), folder, str(rows_per_part)]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(made.stdout.splitlines()[-1])
    return found


def resident_mib(name: str) -> float:
    """VmRSS, memory now, or VmHWM, its highest so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / KIB_PER_MIB


def memory_of_one(texts: Path, n_tokens: int, folder: Path, rows_per_part: int) -> dict[str, float]:
    """Capture with the model in memory before it starts; loading's own peak is forgotten first."""
    settings = CaptureConfig(k=50, rows_per_part=rows_per_part)
    loaded = load_model(resolve(MODEL), settings.dtype, settings.device)
    Path("/proc/self/clear_refs").write_text("5")
    before, started = resident_mib("VmRSS"), time.perf_counter()
    corpus = CorpusConfig(name="file", path=str(texts), max_tokens=n_tokens)
    with mock.patch.object(stage, "load_model", lambda *arguments, **keywords: loaded):
        made = stage.capture(MODEL, corpus, settings, runs_dir=folder)
    seconds, peak = time.perf_counter() - started, resident_mib("VmHWM")
    rows = json.loads((made / MANIFEST).read_text(encoding="utf-8"))["rows"]
    return {"seconds": seconds, "rows": rows, "loaded_mib": before, "peak_mib": peak}


def bytes_per_row(folder: Path) -> list[tuple[str, float]]:
    """A capture of held-out text, and the same rows as pandas writes them."""
    corpus = CorpusConfig(max_tokens=SIZE_TOKENS, max_document_tokens=256)
    made = stage.capture(MODEL, corpus, CaptureConfig(k=50), runs_dir=folder)
    parts = sorted(made.glob("part-*.parquet"))
    rows = frame(parts)
    rows.to_parquet(folder / "pandas.parquet")
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_json(folder / "rows.jsonl", orient="records", lines=True)
    kept = open_capture(made)
    files = {"Parquet, pandas' defaults": "pandas.parquet", "CSV": "rows.csv", "JSON lines": "rows.jsonl"}
    sizes = {what: (folder / name).stat().st_size for what, name in files.items()}
    sizes |= {f"{what}, gzip": zipped(folder / files[what]) for what in ("CSV", "JSON lines")}
    ours = sum(path.stat().st_size for path in parts)
    n_rows = int(kept.documents.offsets[-1])
    return [(what, size / n_rows) for what, size in {"capture": ours, **sizes}.items()]


def frame(parts: Sequence[Path]) -> Any:
    """The rows of part files in a data frame."""
    import pandas as pd

    return pd.concat([pd.read_parquet(path) for path in parts], ignore_index=True)


def zipped(path: Path) -> int:
    """Bytes after gzip at its usual level."""
    return len(gzip.compress(path.read_bytes(), 6))


if __name__ == "__main__":
    texts_file, n, target, rows = sys.argv[1:]
    print(json.dumps(memory_of_one(Path(texts_file), int(n), Path(target), int(rows))))
