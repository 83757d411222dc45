"""All scores of all rules, added up per document chunk by chunk: nothing here grows with the number of positions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from brf_exp.config import EvaluationConfig
from brf_exp.maths.documents import Offsets, document_sums
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.tuning import ScoredRule, TunedRule
from brf_exp.stages.accuracy import right_bounds
from brf_exp.stages.below_minimum import BelowMinimum
from brf_exp.stages.contrast_sums import ContrastSums


class RuleScores:
    """Per-document sums of every rule's scores and of every map's contrasts."""

    def __init__(self, offsets: Offsets, tuned: Mapping[str, TunedRule], evaluation: EvaluationConfig) -> None:
        self.offsets, self.tuned = offsets, dict(tuned)
        n_documents = offsets.size - 1
        self.contrasts = ContrastSums(offsets, tuned)
        self._losses = {name: np.zeros((2, n_documents)) for name in tuned}
        self._right: dict[str, np.ndarray | None] = {name: np.zeros((2, n_documents)) for name in tuned}
        self.below_minimum = BelowMinimum(offsets, tuned)
        self._overlap = np.zeros((2, n_documents))

    def add(self, rows: FusionRows, documents: slice, scored: Mapping[str, ScoredRule]) -> None:
        """Take the scores of a chunk of whole documents in."""
        self.contrasts.add(rows, documents, scored)
        with np.errstate(invalid="ignore"):
            for name, rule in scored.items():
                self._losses[name][:, documents] = document_sums(rule.losses.bounds.T, rows.offsets).T
                self._add_accuracy(name, rule, rows, documents)
        self.below_minimum.add(rows, documents, scored)
        self._overlap[:, documents] = document_sums(rows.known.overlaps[0].T, rows.offsets).T

    def _add_accuracy(self, name: str, rule: ScoredRule, rows: FusionRows, documents: slice) -> None:
        kept, right = self._right[name], right_bounds(rule, rows)
        if kept is None or right is None:
            self._right[name] = None
        else:
            kept[:, documents] = document_sums(right.T.astype(np.float64), rows.offsets).T

    @property
    def n_undefined(self) -> Mapping[str, int]:
        """Positions at which each rule may be undefined."""
        return self.contrasts.n_undefined

    @property
    def n(self) -> int:
        """Positions."""
        return int(self.offsets[-1])

    def mean_loss(self, name: str) -> np.ndarray:
        """Mean log loss from below and from above, nats, (2,); the upper one is inf where nothing bounds it."""
        return self._losses[name].sum(axis=1) / self.n

    def accuracy(self, name: str) -> np.ndarray | None:
        """Share of positions whose realised token is the top one, surely and possibly, (2,); None where unknown."""
        right = self._right[name]
        return None if right is None else right.sum(axis=1) / self.n

    def overlap(self) -> np.ndarray:
        """Mean B of the first two models from below and from above, (2,)."""
        return self._overlap.sum(axis=1) / self.n


def plain(values: np.ndarray) -> list[Any]:
    """Numbers for JSON: null where one is not finite."""
    return [float(v) if np.isfinite(v) else None for v in values]
