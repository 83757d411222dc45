"""The learned gate c(g_1, g_2): one coherence per cell of the models' gap quantiles. For attribution, not a rival.

With one phase per position cos(phi_1 - phi_2) is itself a function of the two gaps, so that a fine enough gate with
the same weights and temperatures contains Born Rule Fusion: if Born Rule Fusion is no worse than it, the phase map does
what any function of the gaps could do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.distribution import GapDistribution
from brf_exp.maths.documents import spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import (
    GATE,
    N_WEIGHTS,
    Given,
    Parameters,
    RuleSpec,
    temperature_of,
    weight_choices,
    weight_of,
)
from brf_exp.maths.topk_rules import RuleLosses, coherent_losses, weights_of
from brf_exp.maths.tuning import BLOCK_ROWS, FoldPart, Piece, ScoredRule, TunedRule, joined, split_by_fold

N_BINS = 6  # of each model's gaps: 36 cells of two models
MAX_CELLS = 512
COHERENCES = tuple(float(c) for c in np.linspace(-0.8, 1.0, 19))
# Positions' worth of the best constant coherence that every cell is mixed with: small cells stay near it.
SHRINKAGE = 200.0
# What a position without a fused distribution costs a candidate: more than any other can.
UNDEFINED_NATS = 1e6


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


@dataclass(frozen=True)
class FittedGate:
    """One fold's gate: `parameters` weight and temperature (none of the latter where there is but one), and the
    `coherences` (cells,)."""

    parameters: Parameters
    coherences: np.ndarray


class GateFitter:
    """Collects the loss of every coherence, weight and temperature in every cell, by fold.

    `chosen` then picks, for each fold on the others, a coherence per cell, and the weight and temperature that lose
    least with them. Sums are added up row by row, so that how documents are cut into chunks changes no digit.
    """

    def __init__(self, fold_of_document: np.ndarray, n_models: int, temperatures: Sequence[float] = (1.0,)) -> None:
        self._fold_of_document = fold_of_document
        self._weights, self._temperatures = weight_choices(n_models, N_WEIGHTS), tuple(temperatures)
        self._shape = (int(fold_of_document.max()) + 1, n_cells(n_models))
        size = self._shape[0] * self._shape[1]
        self._counts = np.zeros(size)
        self._sums = np.zeros((len(self._temperatures), len(COHERENCES), len(self._weights), size))

    def add(self, rows: FusionRows, documents: slice) -> None:
        """Take a chunk of whole documents in."""
        folds = self._fold_of_document[documents]
        for inside, block in rows.blocks(BLOCK_ROWS):
            assert block.cells is not None
            cell = spread(folds[inside], block.offsets) * self._shape[1] + block.cells
            np.add.at(self._counts, cell, 1.0)
            for sums, temperature in zip(self._sums, self._temperatures, strict=True):
                self._add(sums, block, temperature, cell)

    def _add(self, sums: np.ndarray, block: FusionRows, temperature: float, cell: np.ndarray) -> None:
        weights = np.array([weights_of(weight_of({"weight": w}), block.n_models) for w in self._weights])
        for of_coherence, coherence in zip(sums, COHERENCES, strict=True):
            losses = coherent_losses(block.known_at(temperature), coherence=coherence, weight=weights)
            values = np.where(losses.undefined, UNDEFINED_NATS, losses.middle)
            for of_weight, row in zip(of_coherence, values, strict=True):
                np.add.at(of_weight, cell, row)

    def chosen(self) -> dict[int, FittedGate]:
        """The gate of each fold, fitted on the other folds and shrunk towards the best constant."""
        counts, sums = self._counts.reshape(self._shape), self._sums.reshape(*self._sums.shape[:3], *self._shape)
        found = {}
        for fold in np.unique(self._fold_of_document).tolist():
            others = np.arange(self._shape[0]) != fold
            found[fold] = self._fitted(sums[..., others, :].sum(axis=-2), counts[others].sum())
        return found

    def _fitted(self, sums: np.ndarray, n: float) -> FittedGate:
        """The best of all weights and temperatures, from sums (temperatures, coherences, weights, cells)."""
        overall = sums.sum(axis=-1, keepdims=True) / max(n, 1.0)
        best = np.argmin(sums + SHRINKAGE * overall, axis=1)
        totals = np.take_along_axis(sums, best[:, None], axis=1)[:, 0].sum(axis=-1)
        temperature, weight = np.unravel_index(int(np.argmin(totals)), totals.shape)
        parameters: Parameters = {"weight": self._weights[weight]}
        if len(self._temperatures) > 1:
            parameters["temperature"] = self._temperatures[temperature]
        return FittedGate(parameters, np.array(COHERENCES)[best[temperature, weight]])


def tuned_gate(fitted: Mapping[int, FittedGate]) -> TunedRule:
    """The gate as a rule among others: its numerator is that of Born Rule Fusion, a coherence per position."""

    def losses(rows: FusionRows, parameters: Given) -> RuleLosses:
        raise AssertionError("the gate is scored by score_gate")

    spec = RuleSpec("gate", GATE, "brf", losses, {})
    return TunedRule(spec, {fold: dict(gate.parameters) for fold, gate in fitted.items()})


def score_gate(
    tuned: TunedRule,
    fitted: Mapping[int, FittedGate],
    rows: FusionRows,
    fold_of_document: np.ndarray,
    by_fold: Mapping[int, FoldPart] | None = None,
) -> ScoredRule:
    """Scores of the gate on a chunk of rows, each document with its fold's; `by_fold` as in tuning.score."""
    parts = split_by_fold(rows, fold_of_document) if by_fold is None else by_fold
    pieces: list[Piece] = []
    for fold, (chosen, part) in parts.items():
        assert part.cells is not None
        gate, known = fitted[fold], part.known_at(temperature_of(fitted[fold].parameters))
        c = np.broadcast_to(gate.coherences[part.cells], (known.overlaps.shape[0], part.n))
        pieces.append((chosen, coherent_losses(known, coherence=c, weight=weight_of(gate.parameters)), c))
    return joined(tuned, pieces, rows.n, fold_of_document, parts)
