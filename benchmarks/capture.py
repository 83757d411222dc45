"""Capture over the bare forward pass that it rides on, and beside other tools: `python benchmarks/capture.py`.

`speed`: tokens per second of the whole stage `capture` (texts read and tokenised, windows, forward passes, top 50 and
sums, Parquet, hashes, manifest) over those of `model(input_ids, use_cache=False).logits` on the very batches that
capture fed, in turns in one process; the model is in memory before either starts. Weights are random: on another
machine, `--device cuda` needs nothing but the package.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import capture_rivals
import capture_size
import numpy as np
import pyarrow.dataset as ds
import torch
from shapes import NO_FILES, SHAPES, random_folder, random_loaded, write_texts_of

from brf_exp.config import CaptureConfig, CorpusConfig, Dtype
from brf_exp.models.load import LoadedModel, load_model, resolve_spec
from brf_exp.stages import capture as stage

K = 50
PARTS = ("speed", "rivals", "memory", "size")
BARS = {"cpu": 0.90, "cuda": 0.95}
SPLITS = (1024, 2048, 4096, 8192)  # tokens of a bare pass, of which the fastest is taken
# Meant for 20 to 40 seconds a round on two cores, and on one large GPU, where no round has been timed yet.
TOKENS = {
    "cpu": {"pythia-70m": 16_384, "qwen2.5-0.5b": 512, "qwen2.5-7b": 256},
    "cuda": {"pythia-70m": 4_000_000, "qwen2.5-0.5b": 1_000_000, "qwen2.5-7b": 200_000},
}
RIVAL_SHAPE, RIVAL_TOKENS = "pythia-70m", 8192
Batches = list[torch.Tensor]


@dataclass(frozen=True)
class Captured:
    """One capture: seconds, of those tokenising, its rows and the sum of their log probabilities in nats."""

    seconds: float
    tokenising: float
    rows: int
    nats: float


@dataclass(frozen=True)
class Speed:
    """Seconds of each round: capture, the same batches bare, bare at its best batch; of capture's, tokenising."""

    tokens: int
    capture: np.ndarray
    bare: np.ndarray
    best: np.ndarray
    tokenising: np.ndarray


class TimedTokenizer:
    """A tokenizer that counts the seconds of its calls."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.seconds = tokenizer, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        found = self.tokenizer(*arguments, **keywords)
        self.seconds += time.perf_counter() - started
        return found


@contextmanager
def in_place_of_loading(loaded: LoadedModel) -> Iterator[TimedTokenizer]:
    """Stage `capture` meets a model that is in memory already."""
    tokenizer = TimedTokenizer(loaded.tokenizer)
    timed = replace(loaded, tokenizer=tokenizer)
    with mock.patch.multiple(
        stage,
        fetch=lambda reference: reference,
        identify=lambda reference: NO_FILES,
        load_model=lambda *arguments, **keywords: timed,
    ):
        yield tokenizer


def capture_once(loaded: LoadedModel, corpus: CorpusConfig, settings: CaptureConfig) -> Captured:
    """A capture into a new folder."""
    with tempfile.TemporaryDirectory() as runs, in_place_of_loading(loaded) as tokenizer:
        started = time.perf_counter()
        made = stage.capture(loaded.reference, corpus, settings, runs_dir=Path(runs))
        took = time.perf_counter() - started
        rows = ds.dataset(sorted(made.glob("part-*.parquet"))).to_table(columns=["target_logit", "logsumexp"])
        nats = rows["target_logit"].to_numpy() - rows["logsumexp"].to_numpy()
        return Captured(took, tokenizer.seconds, nats.size, float(nats.sum()))


def batches_fed(model: torch.nn.Module, job: Callable[[], object]) -> Batches:
    """Input ids of every forward pass that a job makes."""
    fed: Batches = []

    def keep(module: torch.nn.Module, arguments: tuple, keywords: dict) -> None:
        fed.append((keywords["input_ids"] if "input_ids" in keywords else arguments[0]).clone())

    hook = model.base_model.register_forward_pre_hook(keep, with_kwargs=True)
    job()
    hook.remove()
    return fed


def bare_seconds(loaded: LoadedModel, batches: Batches) -> float:
    """Seconds of forward passes whose logits are dropped at once."""
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            loaded.model(input_ids=batch, use_cache=False).logits  # noqa: B018
    if loaded.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def best_batches(loaded: LoadedModel, batches: Batches) -> Batches:
    """The same rows in smaller batches, of the size at which the bare pass is fastest."""
    tried = {}
    for n_tokens in SPLITS:
        split = [part for batch in batches for part in batch.split(max(1, n_tokens // batch.shape[1]))]
        tried[n_tokens] = (bare_seconds(loaded, split), split)
    return min(tried.values(), key=lambda found: found[0])[1]


def speed(loaded: LoadedModel, corpus: CorpusConfig, settings: CaptureConfig, rounds: int, compiled: bool) -> Speed:
    """Both sides in turns, after one round that only warms up."""
    batches = batches_fed(loaded.model, lambda: capture_once(loaded, corpus, settings))
    if compiled:
        loaded.model.base_model.compile(dynamic=True)
        capture_once(loaded, corpus, settings)
    bare_seconds(loaded, batches)
    best = best_batches(loaded, batches)
    times = []
    for _ in range(rounds):
        made = capture_once(loaded, corpus, settings)
        times.append((made.seconds, bare_seconds(loaded, batches), bare_seconds(loaded, best), made.tokenising))
    return Speed(made.rows, *np.array(times).T)


def speed_row(name: str, dtype: str, device: str, chosen: argparse.Namespace, folder: Path) -> str:
    """One line of the table of speeds."""
    loaded = random_loaded(name, dtype, device)
    n_tokens = chosen.tokens or TOKENS[device][name]
    texts = write_texts_of(folder / f"{name}.jsonl", loaded.tokenizer, n_tokens, chosen.longest)
    corpus = CorpusConfig(name="file", path=str(texts), max_tokens=n_tokens)
    settings = CaptureConfig(k=K, dtype=Dtype(dtype), device=device, batch_tokens=chosen.batch_tokens)
    found = speed(loaded, corpus, settings, chosen.rounds, chosen.compile)
    ratios = found.bare / found.capture
    bar = BARS[device] if (device, dtype) != ("cpu", "bfloat16") and not chosen.compile else None
    cells = [
        f"{name}, {dtype}{', compiled' if chosen.compile else ''}",
        f"{found.tokens:,}",
        f"{found.tokens / np.median(found.bare):,.0f}",
        f"{found.tokens / np.median(found.capture):,.0f}",
        f"**{np.median(ratios):.3f}** ({ratios.min():.3f} to {ratios.max():.3f})",
        f"{bar:.2f}" if bar else "",
        f"{np.median(found.best / found.capture):.3f}",
        f"{np.median(found.tokenising):.2f} of {np.median(found.capture):.1f}",
    ]
    return row(cells)


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def heading(*columns: str) -> str:
    """The head of a Markdown table."""
    return f"\n{row(columns)}\n|{'---|' * len(columns)}"


def print_speed(chosen: argparse.Namespace, folder: Path) -> None:
    """Shapes and number types, one line each."""
    columns = ("tokens", "bare pass, tokens/s", "capture, tokens/s", "capture / bare", "bar")
    print(heading("shape", *columns, "over bare at its best batch", "tokenising, s"))
    for dtype in chosen.dtypes:
        for name in chosen.shapes:
            print(speed_row(name, dtype, chosen.device, chosen, folder), flush=True)
            if chosen.device == "cuda":
                torch.cuda.empty_cache()


def print_rivals(chosen: argparse.Namespace, folder: Path) -> None:
    """What a user would pick instead, on the same texts and model folder, float32 on the CPU."""
    model = random_folder(RIVAL_SHAPE, folder / "rival-model")
    loaded = load_model(resolve_spec(str(model)), Dtype.FLOAT32, "cpu")
    n_tokens = chosen.tokens or RIVAL_TOKENS
    texts = write_texts_of(folder / "rival.jsonl", loaded.tokenizer, n_tokens, chosen.longest)
    corpus = CorpusConfig(name="file", path=str(texts))
    settings = CaptureConfig(k=K, batch_tokens=chosen.batch_tokens)

    def ours() -> tuple[float, int, float]:
        made = capture_once(loaded, corpus, settings)
        return made.seconds, made.rows, made.nats

    print(heading("tool", "best batch", "positions", "tokens/s", "capture's speed over it", "bar", "nats per position"))
    for cells in capture_rivals.compare(ours, model, texts, chosen.rounds, chosen.cache):
        print(row(cells), flush=True)


def print_memory(chosen: argparse.Namespace, folder: Path) -> None:
    """Peak memory beside what is there once the model is loaded."""
    columns = ("rows", "seconds", "with the model, MiB", "peak above it, MiB", "with parts of 4,096 rows, MiB")
    print(heading("tokens, tiny_prose, k = 50", *columns))
    for cells in capture_size.memory(chosen.memory_tokens, folder):
        print(row(cells), flush=True)


def print_size(chosen: argparse.Namespace, folder: Path) -> None:
    """Bytes per row in several formats."""
    print(heading("format, k = 50", "bytes per row"))
    for what, size in capture_size.bytes_per_row(folder):
        print(row((what, f"{size:.0f}")), flush=True)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what is not given depends on the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="default: all on the CPU, speed alone elsewhere")
    parser.add_argument("--device", choices=sorted(BARS), default="cpu")
    parser.add_argument("--shapes", nargs="*", choices=sorted(SHAPES), help="models with random weights")
    parser.add_argument("--dtypes", nargs="*", choices=[dtype.value for dtype in Dtype], help="of the forward pass")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side, in turns; medians count")
    parser.add_argument("--tokens", type=int, help="of a round (default: 20 to 40 seconds' worth)")
    parser.add_argument("--longest", type=int, default=512, help="tokens of the longest text")
    parser.add_argument("--batch-tokens", type=int, default=CaptureConfig().batch_tokens)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model's body on both sides")
    parser.add_argument("--memory-tokens", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--cache", type=Path, default=capture_rivals.CACHE, help="where the other tools are installed")
    chosen = parser.parse_args(given)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU and a build of torch for it; there is none here")
    on_cpu = chosen.device == "cpu"
    chosen.parts = chosen.parts or (list(PARTS) if on_cpu else ["speed"])
    chosen.shapes = chosen.shapes or (["pythia-70m", "qwen2.5-0.5b"] if on_cpu else ["qwen2.5-0.5b", "qwen2.5-7b"])
    chosen.dtypes = chosen.dtypes or (["float32", "bfloat16"] if on_cpu else ["bfloat16"])
    return chosen


def machine(device: str) -> str:
    """Date, hardware and versions in a line."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{date.today()}, {name}, {cores}, Python {platform.python_version()}, torch {torch.__version__}"


def main(given: Sequence[str] | None = None) -> None:
    """Print the tables."""
    chosen = arguments(given)
    print(machine(chosen.device))
    print_tables(chosen)


def print_tables(chosen: argparse.Namespace) -> None:
    """The chosen parts."""
    printers = {"speed": print_speed, "rivals": print_rivals, "memory": print_memory, "size": print_size}
    for part in chosen.parts:
        with tempfile.TemporaryDirectory() as folder:
            printers[part](chosen, Path(folder))


if __name__ == "__main__":
    main()
