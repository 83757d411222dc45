"""All scores of all rules, added up per document chunk by chunk: nothing here grows with the number of positions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from brf_exp.config import EvaluationConfig
from brf_exp.maths.discrimination import below_minimum
from brf_exp.maths.documents import Offsets, document_sums
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import CANDIDATE, OTHER_MAP, RIVAL
from brf_exp.maths.topk_bounds import difference_bounds
from brf_exp.maths.tuning import ScoredRule, TunedRule
from brf_exp.stages.accuracy import right_bounds


class RuleScores:
    """Per-document sums of every rule's scores and of every map's contrasts."""

    def __init__(self, offsets: Offsets, tuned: Mapping[str, TunedRule], evaluation: EvaluationConfig) -> None:
        self.offsets, self.tuned = offsets, dict(tuned)
        n_documents = offsets.size - 1
        self._candidates = [name for name, t in tuned.items() if t.spec.role in (CANDIDATE, OTHER_MAP)]
        self._references = [name for name in tuned if name not in self._candidates]
        self._losses = {name: np.zeros((2, n_documents)) for name in tuned}
        self._right: dict[str, np.ndarray | None] = {name: np.zeros((2, n_documents)) for name in tuned}
        self._ends = {name: np.zeros((2, n_documents, len(self._references))) for name in self._candidates}
        self._below = {name: np.zeros(3) for name, t in tuned.items() if t.spec.phases is not None}
        self.n_undefined = dict.fromkeys(tuned, 0)
        self._overlap = np.zeros((2, n_documents))

    def add(self, rows: FusionRows, documents: slice, scored: Mapping[str, ScoredRule]) -> None:
        """Take the scores of a chunk of whole documents in."""
        with np.errstate(invalid="ignore"):
            for name, rule in scored.items():
                self._losses[name][:, documents] = document_sums(rule.losses.bounds.T, rows.offsets).T
                self.n_undefined[name] += int(rule.losses.undefined.sum())
                self._add_accuracy(name, rule, rows, documents)
            for candidate, ends in self._ends.items():
                for place, reference in enumerate(self._references):
                    bounds = difference_bounds(scored[candidate].losses, scored[reference].losses)
                    ends[:, documents, place] = document_sums(bounds.T, rows.offsets).T
        for name, counts in self._below.items():
            counts += below_minimum(scored[name].losses.bounds, rows.known.target).sum(axis=1)
        self._overlap[:, documents] = document_sums(rows.known.overlaps[0].T, rows.offsets).T

    def _add_accuracy(self, name: str, rule: ScoredRule, rows: FusionRows, documents: slice) -> None:
        kept, right = self._right[name], right_bounds(rule, rows)
        if kept is None or right is None:
            self._right[name] = None
        else:
            kept[:, documents] = document_sums(right.T.astype(np.float64), rows.offsets).T

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

    def below(self, name: str) -> np.ndarray:
        """Share of realised tokens below every model: surely, at the midpoint, possibly; (3,)."""
        return self._below[name] / self.n

    def overlap(self) -> np.ndarray:
        """Mean B of the first two models from below and from above, (2,)."""
        return self._overlap.sum(axis=1) / self.n

    @property
    def with_phases(self) -> list[str]:
        """Rules that have phases."""
        return list(self._below)

    def references_of(self, rule: str) -> list[str]:
        """What a map's candidate is compared with: defined everywhere and bounded."""
        finite = np.isfinite(self._ends[rule].sum(axis=(0, 1)))
        return [name for place, name in enumerate(self._references) if self.n_undefined[name] == 0 and finite[place]]

    def contrast_ends(self, rule: str, references: list[str]) -> np.ndarray:
        """Sums per document of the bounds of candidate minus reference, (2, D, K)."""
        return self._ends[rule][:, :, [self._references.index(name) for name in references]]

    def rivals(self) -> list[str]:
        """Names of the rivals."""
        return [name for name, t in self.tuned.items() if t.spec.role == RIVAL]


def plain(values: np.ndarray) -> list[Any]:
    """Numbers for JSON: null where one is not finite."""
    return [float(v) if np.isfinite(v) else None for v in values]
