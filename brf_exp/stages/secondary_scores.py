"""Brier score, calibration error and recalibrated loss of every rule: secondary scores, which decide nothing.

They need a whole forecast, which top-k rows bound for two models. Sums are per document, and rows are taken in blocks
that are cut within documents alone, so that how documents are cut into chunks changes no digit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.brier import ballot_brier, brier_scores
from brf_exp.maths.calibration_error import CalibrationSums
from brf_exp.maths.documents import Offsets, document_chunks, document_sums
from brf_exp.maths.forecast_rows import PartialForecast
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.recalibration import TEMPERATURES, lumped_losses
from brf_exp.maths.top_probability import ballot_top_probability, top_probability
from brf_exp.maths.tuning import Folds, ScoredRule, TunedRule
from brf_exp.maths.vote_forecasts import VoteForecast
from brf_exp.stages.rule_forecasts import MORE_MODELS, FoldRows, forecast_of, why_none
from brf_exp.storage.scratch import Scratch

BLOCK_ROWS = 8192
BLOCKS_AT_A_TIME = 8
# Bins of equal mass are those of the first whole documents of so many positions.
EDGE_POSITIONS = 65_536
BRIER, UNDEFINED, UNBOUNDED, LUMPED = slice(0, 2), 2, 3, slice(4, 4 + len(TEMPERATURES))


@dataclass(frozen=True)
class _Block:
    """Rows of a chunk: whole documents, or a piece of one long document; `offsets` of its documents within it."""

    first_document: int
    rows: slice
    offsets: Offsets


@dataclass(frozen=True)
class _BlockScores:
    """One rule's scores on a block: `sums` per document (17, d); `confidence` (2, n) and `correct` (2, n)."""

    sums: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


class SecondaryScores:
    """Per-document sums of every rule's Brier score, lumped losses and, by bin of its confidence, hits.

    `folds`: those that rules were tuned on, None where they were not. `scratch` holds the sums of the bins.
    """

    def __init__(
        self,
        offsets: Offsets,
        tuned: Mapping[str, TunedRule],
        folds: Folds | None,
        *,
        scratch: Scratch | None = None,
        edge_positions: int = EDGE_POSITIONS,
    ) -> None:
        self.offsets, self.tuned, self.folds = offsets, dict(tuned), folds
        self.missing: dict[str, str] = {}
        self._scratch, self._edge_positions = scratch or Scratch.in_memory(), edge_positions
        self._sums: dict[str, np.ndarray] = {}
        self.bins: dict[str, CalibrationSums] = {}

    def add(
        self,
        rows: FusionRows,
        documents: slice,
        scored: Mapping[str, ScoredRule],
        run: Callable[..., Iterable[dict[str, _BlockScores]]] = map,
    ) -> None:
        """Take a chunk of whole documents in; `run` maps a function over blocks (a thread pool's map, say)."""
        for name, rule in scored.items():
            reason = MORE_MODELS if rows.n_models > 2 else why_none(rule)
            if reason is not None:
                self.missing[name] = reason
        usable = {name: rule for name, rule in scored.items() if name not in self.missing}
        blocks = list(_blocks(rows.offsets)) if usable else []
        for first in range(0, len(blocks), BLOCKS_AT_A_TIME):
            group = blocks[first : first + BLOCKS_AT_A_TIME]
            for block, found in zip(group, run(lambda b: self._scores(b, rows, documents, usable), group), strict=True):
                for name, scores in found.items():
                    self._take(name, block, documents, scores)

    def _take(self, name: str, block: _Block, documents: slice, scores: _BlockScores) -> None:
        if name not in self._sums:
            self._sums[name] = np.zeros((scores.sums.shape[0], self.offsets.size - 1))
            self.bins[name] = CalibrationSums(
                self.offsets, n_positions_for_edges=self._edge_positions, allocate=self._scratch.empty
            )
        first = documents.start + block.first_document
        numbers = np.arange(first, first + block.offsets.size - 1)
        self._sums[name][:, numbers] += scores.sums
        self.bins[name].add(np.repeat(numbers, np.diff(block.offsets)), scores.confidence, scores.correct)

    def _scores(
        self, block: _Block, rows: FusionRows, documents: slice, usable: Mapping[str, ScoredRule]
    ) -> dict[str, _BlockScores]:
        """Every usable rule on a block; the rows of one fold at a time."""
        n = int(block.offsets[-1])
        values = {name: np.empty((LUMPED.stop, n)) for name in usable}
        confidence = {name: np.zeros((2, n)) for name in usable}
        correct = {name: np.zeros((2, n), dtype=bool) for name in usable}
        for mine, part in self._parts(block, rows, documents):
            for name, rule in usable.items():
                found = forecast_of(rule, part)
                values[name][:, mine] = _values(found, part.top().target_listed)
                if not values[name][UNDEFINED, mine].any():
                    top = ballot_top_probability(found) if isinstance(found, VoteForecast) else top_probability(found)
                    confidence[name][:, mine], correct[name][:, mine] = top.confidence, top.correct
        return {
            name: _BlockScores(document_sums(values[name].T, block.offsets).T, confidence[name], correct[name])
            for name in usable
        }

    def _parts(self, block: _Block, rows: FusionRows, documents: slice) -> Iterator[tuple[np.ndarray, FoldRows]]:
        """Row numbers within the block, and the rows, of each fold."""
        n_documents = block.offsets.size - 1
        first = documents.start + block.first_document
        fold_of_document = np.full(n_documents, -1)
        if self.folds is not None:
            fold_of_document = self.folds.of_document[first : first + n_documents]
        fold_of_row = np.repeat(fold_of_document, np.diff(block.offsets))
        for fold in np.unique(fold_of_document).tolist():
            mine = np.flatnonzero(fold_of_row == fold)
            yield mine, FoldRows(rows, block.rows.start + mine, fold)

    def sums(self, name: str) -> np.ndarray:
        """Sums per document, (17, D): Brier score from below and above, positions where the forecast may be undefined
        and where its normaliser is unbounded, lumped loss at every temperature."""
        return self._sums[name]

    def defined(self, name: str) -> bool:
        """Whether the rule has a forecast at every position."""
        return name in self._sums and not self._sums[name][UNDEFINED].any()

    def bounded(self, name: str) -> bool:
        """Whether its normaliser is bounded at every position, too."""
        return self.defined(name) and not self._sums[name][UNBOUNDED].any()


def _values(found: PartialForecast | VoteForecast, listed: np.ndarray) -> np.ndarray:
    """What is added up, (17, n); `listed` (n,): whether both models list the realised token."""
    if isinstance(found, VoteForecast):
        brier, likely = ballot_brier(found), found.likely
    else:
        brier, likely = brier_scores(found), found
    flags = np.stack([brier.undefined, likely.unbounded])
    return np.concatenate([brier.bounds, flags, lumped_losses(likely, listed)])


def _blocks(offsets: Offsets) -> Iterator[_Block]:
    """Documents of about BLOCK_ROWS rows together; longer ones in pieces counted from their own start."""
    for documents in document_chunks(offsets, BLOCK_ROWS):
        first, stop = int(offsets[documents.start]), int(offsets[documents.stop])
        if stop - first <= BLOCK_ROWS:
            yield _Block(documents.start, slice(first, stop), offsets[documents.start : documents.stop + 1] - first)
            continue
        for start in range(first, stop, BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, stop)
            yield _Block(documents.start, slice(start, end), np.array([0, end - start]))
