"""Real captures with the pairing of documents broken: what is found there, position alone made."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import CaptureConfig, CorpusConfig, IngestStageConfig, ModelConfig
from brf_exp.maths.documents import Offsets, assign_folds, lengths_of, offsets_from_lengths, positions_within, spread
from brf_exp.maths.pairing import derangements, length_blocks
from brf_exp.models.ngram import NgramModel, fit_ngram
from brf_exp.stages import ingest
from brf_exp.stages.capture import capture
from brf_exp.stages.covariates import Covariates, FeatureArray, token_covariates
from brf_exp.stages.gap_rows import GapRows, read_gap_rows
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.phase_test import gaps_in_memory
from brf_exp.storage.captures import Capture, open_capture
from brf_exp.storage.scratch import Scratch
from calibration.components import EVALUATION
from calibration.designs import generator
from calibration.procedure import outcomes

SUBMISSION = Path(__file__).parents[2] / "shared" / "data" / "submissions" / "textgenrnn-hn"
EMBEDDED = ("tiny_prose", "tiny_code", "tiny_mixed")
NGRAM_ORDER = 5
PHASES = ("arctan",)
MAX_DOCUMENT_TOKENS = 256  # as the shipped pair has it


@dataclass(frozen=True)
class CapturedPair:
    """Gaps (2, n) of two models on the same rows, features (n, F) of the rows, and their documents."""

    gaps: np.ndarray
    features: np.ndarray
    categorical: tuple[bool, ...]
    offsets: Offsets


def submission_is_there() -> bool:
    """Is the real submission on this machine?"""
    return SUBMISSION.is_dir()


@lru_cache
def embedded_pair(first: int, second: int, runs_dir: Path) -> CapturedPair:
    """Two of the embedded models on their held-out texts; the third is the difficulty proxy."""
    folders = [
        capture(
            ModelConfig(name=name),
            CorpusConfig(max_document_tokens=MAX_DOCUMENT_TOKENS),
            CaptureConfig(),
            condition="none",
            runs_dir=runs_dir,
            seed=0,
            progress=False,
        )
        for name in EMBEDDED
    ]
    rows = _rows([open_capture(folder) for folder in folders])
    covariates = token_covariates(rows, rows.proxies_of(first, second), np.zeros(rows.offsets.size - 1))
    features = covariates.features.at(slice(0, rows.offsets.size - 1))
    return CapturedPair(rows.gaps[[first, second]], features, tuple(covariates.categorical), rows.offsets)


@lru_cache
def submitted_pair(runs_dir: Path) -> CapturedPair:
    """The submitted pair of character models; the difficulty proxy is an n-gram model of the other documents."""
    folder = ingest.run(IngestStageConfig(submission=str(SUBMISSION), runs_dir=str(runs_dir)))
    rows = _rows([open_capture(folder / name) for name in ("a", "b")])
    assert rows.token_id is not None
    offsets = rows.offsets
    covariates = token_covariates(rows, [], np.zeros(offsets.size - 1))
    features = covariates.features.at(slice(0, offsets.size - 1))
    ngram = ngram_difficulty(rows.token_id, offsets, n_folds=EVALUATION.n_folds)
    # The n-gram's signals follow the two positions; the categories stay last.
    joined = np.column_stack([features[:, :2], ngram, features[:, 2:]])
    categorical = (False, False, *[False] * ngram.shape[1], *covariates.categorical[2:])
    return CapturedPair(rows.gaps, joined, categorical, offsets)


def _rows(captures: list[Capture]) -> GapRows:
    return read_gap_rows(PairInputs("calibration", tuple(captures), None, None, False), Scratch.in_memory())


def ngram_difficulty(token_id: np.ndarray, offsets: Offsets, *, n_folds: int) -> np.ndarray:
    """Surprisal of each token and entropy before it (n, 2), nats, by n-grams counted in other folds' documents."""
    symbols, sequence = np.unique(token_id, return_inverse=True)
    documents = np.split(sequence, offsets[1:-1])
    folds = assign_folds([str(d) for d in range(len(documents))], n_folds, 0)
    found: list[np.ndarray] = [np.empty((0, 2))] * len(documents)
    for fold in np.unique(folds):
        others = [document for document, its in zip(documents, folds, strict=True) if its != fold]
        model = fit_ngram(others, n_symbols=symbols.size, order=NGRAM_ORDER)
        for d in np.flatnonzero(folds == fold):
            found[d] = _surprisal_and_entropy(model, documents[d])
    return np.concatenate(found)


def _surprisal_and_entropy(model: NgramModel, document: np.ndarray) -> np.ndarray:
    """Surprisal and entropy at each symbol of a document, (n, 2)."""
    begun = np.concatenate([np.full(model.order - 1, model.n_symbols), document])
    windows = np.lib.stride_tricks.sliding_window_view(begun, model.order)
    # Every window with every symbol at its end, as one sequence: only the last place of each window is looked at.
    asked = np.repeat(windows, model.n_symbols, axis=0)
    asked[:, -1] = np.tile(np.arange(model.n_symbols), document.size)
    log_p = model.log_probabilities(asked.ravel())[model.order - 1 :: model.order].reshape(document.size, -1)
    entropy = -(np.exp(log_p) * log_p).sum(axis=1)
    return np.column_stack([-log_p[np.arange(document.size), document], entropy])


def deranged_documents(lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All documents of model 1, and for each another one of similar length for model 2, (D,) twice.

    One of the test's own derangements. Re-pairing such a pair brings true partners together, one in seven of them
    where blocks hold eight documents: what they have in common shows in the re-pairing mean.
    """
    blocks = length_blocks(lengths)
    steps = derangements(blocks, 1, rng)[0].astype(np.int64)
    partners = np.empty(lengths.size, dtype=np.int64)
    for block in blocks:
        partners[block] = block[(np.arange(block.size) + steps[block]) % block.size]
    return np.arange(lengths.size), partners


def separate_documents(lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Half of the documents for model 1, others of similar length for model 2, (D / 2,) twice.

    No re-pairing of such a pair brings true partners together.
    """
    shuffled = [rng.permutation(block) for block in length_blocks(lengths)]
    halves = [(block[: block.size // 2], block[block.size // 2 : 2 * (block.size // 2)]) for block in shuffled]
    first, second = (np.concatenate(documents) for documents in zip(*halves, strict=True))
    return first, second


BREAKS = {"separate": separate_documents, "deranged": deranged_documents}


def broken_outcome(pair: CapturedPair, name: str, index: int, *, how: str) -> dict[str, Any]:
    """The whole procedure where model 2 has read other documents than model 1, both cropped to the shorter."""
    rng = generator(name, index)
    lengths = lengths_of(pair.offsets)
    first, second = BREAKS[how](lengths, rng)
    offsets = offsets_from_lengths(np.minimum(lengths[first], lengths[second]))
    place = positions_within(offsets)
    rows = [spread(pair.offsets[documents], offsets) + place for documents in (first, second)]
    return _outcomes(pair, rows, offsets, seed=int(rng.integers(2**31)), always_residual=how == "separate")


def true_outcome(pair: CapturedPair, seed: int) -> dict[str, Any]:
    """The whole procedure on the pair as it is."""
    rows = np.arange(pair.offsets[-1])
    return _outcomes(pair, [rows, rows], pair.offsets, seed=seed, always_residual=True)


def _outcomes(
    pair: CapturedPair, rows: list[np.ndarray], offsets: Offsets, *, seed: int, always_residual: bool
) -> dict[str, Any]:
    gaps = np.stack([model[its] for model, its in zip(pair.gaps, rows, strict=True)])
    folds = assign_folds([f"document-{d}" for d in range(offsets.size - 1)], EVALUATION.n_folds, seed)
    covariates = [Covariates(FeatureArray(pair.features[its], offsets), pair.categorical, folds) for its in rows]
    in_memory = gaps_in_memory(gaps, offsets, seed=seed)
    return outcomes(in_memory, covariates, PHASES, seed, always_residual=always_residual)


PAIRS: dict[str, Callable[[Path], CapturedPair]] = {
    "textgenrnn default / hacker_news (proxy: n-grams)": submitted_pair,
    "tiny_prose / tiny_code (proxy: tiny_mixed)": lambda runs_dir: embedded_pair(0, 1, runs_dir),
    "tiny_prose / tiny_mixed (proxy: tiny_code)": lambda runs_dir: embedded_pair(0, 2, runs_dir),
}


def available_pairs() -> Iterable[str]:
    """Names of the pairs that this machine has."""
    return [name for name, load in PAIRS.items() if load is not submitted_pair or submission_is_there()]
