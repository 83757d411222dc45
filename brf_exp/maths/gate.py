"""The learned gate c(g_1, g_2): one coherence per cell of the models' gap quantiles. For attribution, not a rival.

With one phase per position cos(phi_1 - phi_2) is itself a function of the two gaps, so that a fine enough gate contains
Born Rule Fusion: if Born Rule Fusion is no worse than it, the phase map does what any function of the gaps could do.
"""

from collections.abc import Sequence

import numpy as np

from brf_exp.maths.distribution import GapDistribution
from brf_exp.maths.documents import Offsets, spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.topk_rules import RuleLosses, coherent_losses

N_BINS = 6  # of each model's gaps: 36 cells of two models
MAX_CELLS = 512
COHERENCES = tuple(float(c) for c in np.linspace(-0.8, 1.0, 19))
# Positions' worth of the best constant coherence that every cell is mixed with: small cells stay near it.
SHRINKAGE = 200.0


def gate_cells(gaps: np.ndarray, distributions: Sequence[GapDistribution]) -> np.ndarray:
    """Cell of each position, (n,) int32, from quantile bins of each model's gaps (M, n)."""
    n_models = gaps.shape[0]
    n_bins = max(2, min(N_BINS, int(MAX_CELLS ** (1 / n_models))))
    cells = np.zeros(gaps.shape[1], dtype=np.int32)
    for row, distribution in zip(gaps, distributions, strict=True):
        edges = distribution.quantile(np.arange(1, n_bins) / n_bins)
        cells = cells * n_bins + np.searchsorted(edges, row).astype(np.int32)
    return cells


def n_cells(n_models: int) -> int:
    """How many cells there are."""
    return max(2, min(N_BINS, int(MAX_CELLS ** (1 / n_models)))) ** n_models


class GateFitter:
    """Collects the loss of every coherence in every cell, by fold; `chosen` then picks one per cell and fold."""

    def __init__(self, fold_of_document: np.ndarray, n_models: int) -> None:
        self._fold_of_document = fold_of_document
        shape = (int(fold_of_document.max()) + 1, n_cells(n_models), len(COHERENCES))
        self._sums, self._counts = np.zeros(shape), np.zeros(shape[:2])

    def add(self, rows: FusionRows, documents: slice) -> None:
        """Take a chunk of whole documents in."""
        assert rows.cells is not None
        fold = spread(self._fold_of_document[documents], rows.offsets)
        cell = fold * self._counts.shape[1] + rows.cells
        size = self._counts.size
        self._counts += np.bincount(cell, minlength=size).reshape(self._counts.shape)
        for place, coherence in enumerate(COHERENCES):
            losses = coherent_losses(rows.known, coherence=coherence)
            values = np.where(losses.undefined, 1e6, losses.middle)
            self._sums[:, :, place] += np.bincount(cell, values, size).reshape(self._counts.shape)

    def chosen(self) -> dict[int, np.ndarray]:
        """Coherence per cell for each fold, fitted on the other folds and shrunk towards the best constant."""
        found = {}
        for fold in range(self._counts.shape[0]):
            others = np.arange(self._counts.shape[0]) != fold
            sums, counts = self._sums[others].sum(axis=0), self._counts[others].sum(axis=0)
            overall = sums.sum(axis=0) / max(counts.sum(), 1.0)
            found[fold] = np.array(COHERENCES)[np.argmin(sums + SHRINKAGE * overall, axis=1)]
        return found


def gate_losses(rows: FusionRows, per_cell: dict[int, np.ndarray], fold_of_document: np.ndarray) -> RuleLosses:
    """Losses of the gate on a chunk of rows, each document with its fold's cells."""
    assert rows.cells is not None
    offsets: Offsets = rows.offsets
    fold = spread(fold_of_document, offsets)
    table = np.stack([per_cell[number] for number in sorted(per_cell)])
    return coherent_losses(rows.known, coherence=table[fold, rows.cells])
