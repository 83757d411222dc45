"""The Cross-Term Discrimination Test on captures of 50 logits, and its contrasts from stored losses.

`captures(folder, n)` and `losses(folder, n)` write what is measured; run as a script, `bootstrap FOLDER` or
`scoring FOLDER tuned|untuned` prints seconds and peak memory of one job alone, in a process of its own.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from phase_coherence import document_lengths, document_parts, peak_mb, write_capture

from brf_exp.config import DiscriminateStageConfig, EvaluationConfig, Split
from brf_exp.maths.discrimination import Contrast, contrasts
from brf_exp.stages import discriminate
from brf_exp.storage import schema
from brf_exp.storage.captures import open_capture

K, VOCABULARY, CANDIDATES = 50, 50257, 64
N_RULES, N_RESAMPLES = 16, 10_000
MEMORY_MB = 256
BATCH_ROWS = 65536


def captures(folder: Path, n: int) -> None:
    """Two captures of n positions that look like related language models: shared Zipf-like logits, own noise."""
    lengths = document_lengths(n)
    for model in (1, 2):
        parts = (_rows(lengths, documents, model) for documents in document_parts(lengths))
        described = {"name": f"model-{model}", "vocabulary_size": VOCABULARY}
        write_capture(folder / str(model), parts, described, n)


def _rows(lengths: np.ndarray, documents: range, model: int) -> pa.Table:
    """Rows of some documents: what both models see comes from the documents' own seed, the rest from the model's."""
    mine = lengths[documents.start : documents.stop]
    n = int(mine.sum())
    shared, own = np.random.default_rng(documents.start), np.random.default_rng([documents.start, model])
    ids = (shared.integers(0, VOCABULARY, (n, 1)) + 7919 * np.arange(CANDIDATES)) % VOCABULARY
    exponent = shared.uniform(1, 3, (n, 1))
    base = 18 - exponent * np.log(np.arange(1, CANDIDATES + 1)) + shared.normal(0, 1, (n, CANDIDATES))
    # The realised token: one of the candidates nearly always, else one that no model has among its best.
    place = np.argmax(base + shared.gumbel(size=base.shape), axis=1)
    is_rare = shared.random(n) < 0.02
    rare = (ids[:, 0] + 7919 * shared.integers(CANDIDATES, 1000, n)) % VOCABULARY
    logits = (base + own.normal(0, 0.7, base.shape)).astype(np.float32)
    order = np.argsort(-logits, axis=1)[:, :K]
    best = np.take_along_axis(logits, order, axis=1)
    rows = np.arange(n)
    target = np.where(is_rare, best[:, -1] - 1, logits[rows, place])
    # What lies beyond the candidates goes on as a power law below the last of them, over the vocabulary.
    left = best[:, -1].astype(np.float64) - 1 + np.log(np.minimum(50 / (exponent[:, 0] - 0.9), VOCABULARY / 4))
    normaliser = np.logaddexp(np.logaddexp.reduce(logits.astype(np.float64), axis=1), left)
    columns = {
        "doc_id": np.repeat([f"document-{number:07d}" for number in documents], mine),
        "position": np.concatenate([np.arange(length, dtype=np.int32) for length in mine]),
        "token_id": np.where(is_rare, rare, ids[rows, place]).astype(np.int32),
        "logsumexp": normaliser,
        "target_logit": target.astype(np.float32),
        "entropy": np.full(n, 3.0, dtype=np.float32),
    }
    top = np.take_along_axis(ids, order, axis=1).astype(np.int32)
    columns |= dict(zip(schema.id_columns(K), np.ascontiguousarray(top.T), strict=True))
    columns |= dict(zip(schema.logit_columns(K), np.ascontiguousarray(best.T), strict=True))
    return pa.table(columns)


def scoring(folder: Path, *, tune: bool) -> None:
    """The whole stage without its planted worlds, from captures to results.json."""
    with tempfile.TemporaryDirectory(dir=folder) as runs_dir:
        evaluation = EvaluationConfig(controls=False, tune=tune, split=Split.CROSS_FIT if tune else Split.NONE)
        discriminate.run(
            DiscriminateStageConfig(
                captures=[str(folder / name) for name in "12"],
                proxy="none",
                evaluation=evaluation,
                memory_mb=MEMORY_MB,
                runs_dir=runs_dir,
                progress=False,
            )
        )


def read_once(folder: Path) -> float:
    """The columns that scoring reads, of both captures, batch by batch."""
    total = 0.0
    for name in "12":
        names = ["token_id", "target_logit", "logsumexp", "entropy", *schema.id_columns(K), *schema.logit_columns(K)]
        for batch in open_capture(folder / name).iter_batches(names, n_rows=BATCH_ROWS):
            total += sum(float(column.to_numpy()[0]) for column in batch.columns)
    return total


def losses(folder: Path, n: int) -> None:
    """Log losses of a candidate and 16 rules at n positions, with their documents, in Parquet."""
    folder.mkdir(parents=True)
    lengths = document_lengths(n)
    names = ["candidate", *(f"rule_{number}" for number in range(N_RULES))]
    writer = None
    for documents in document_parts(lengths):
        mine = lengths[documents.start : documents.stop]
        rng = np.random.default_rng(documents.start)
        values = rng.gamma(2, 1, (int(mine.sum()), 1)) + rng.normal(0, 0.1, (int(mine.sum()), N_RULES + 1))
        table = pa.table({"document": np.repeat(np.array(documents), mine), **dict(zip(names, values.T, strict=True))})
        writer = writer or pq.ParquetWriter(folder / "losses.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def loss_batches(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents (n,) and differences (n, 16) of consecutive rows."""
    with pq.ParquetFile(folder / "losses.parquet") as file:
        for batch in file.iter_batches(BATCH_ROWS):
            documents, candidate, *rules = (column.to_numpy() for column in batch.columns)
            yield documents, candidate[:, None] - np.column_stack(rules)


def bootstrap(folder: Path) -> list[Contrast]:
    """From stored losses to contrasts with 10,000 replicates: differences are added up by document as they are read."""
    n_documents = int(pq.read_table(folder / "losses.parquet", columns=["document"])["document"][-1].as_py()) + 1
    sums, lengths = np.zeros((n_documents, N_RULES)), np.zeros(n_documents, dtype=np.int64)
    for documents, differences in loss_batches(folder):
        found, starts = np.unique(documents, return_index=True)
        sums[found] += np.add.reduceat(differences, starts, axis=0)
        lengths[found] += np.diff(np.append(starts, documents.size))
    return contrasts(
        [f"rule_{number}" for number in range(N_RULES)],
        np.stack([sums, sums]),
        lengths,
        rivals=[True] * N_RULES,
        confidence_level=0.95,
        n_resamples=N_RESAMPLES,
        rng=np.random.default_rng(0),
    )


def arch_seconds(folder: Path, n_replicates: int) -> float:
    """Seconds that so many replicates of arch's IID bootstrap of the mean take on the same rows, held in memory.

    It has no mode that draws documents, so it answers another question.
    """
    from arch.bootstrap import IIDBootstrap

    rows = np.concatenate([differences for _, differences in loss_batches(folder)])
    drawn = IIDBootstrap(rows, seed=np.random.default_rng(0))
    started = time.perf_counter()
    drawn.apply(lambda values: values.mean(axis=0), n_replicates)
    return time.perf_counter() - started


if __name__ == "__main__":
    job, target, *how = sys.argv[1:]
    started = time.perf_counter()
    if job == "bootstrap":
        bootstrap(Path(target))
    else:
        scoring(Path(target), tune=how == ["tuned"])
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}))
