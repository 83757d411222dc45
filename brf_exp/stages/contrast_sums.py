"""Differences of losses, bounded jointly and added up per document: all that contrasts are made of."""

from collections.abc import Mapping

import numpy as np

from brf_exp.maths.documents import Offsets, document_sums
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import CANDIDATE, OTHER_MAP
from brf_exp.maths.topk_bounds import difference_bounds
from brf_exp.maths.tuning import ScoredRule, TunedRule


class ContrastSums:
    """Per-document sums of the bounds of every map's candidate minus every other rule."""

    def __init__(self, offsets: Offsets, tuned: Mapping[str, TunedRule]) -> None:
        self.offsets = offsets
        candidates = [name for name, t in tuned.items() if t.spec.role in (CANDIDATE, OTHER_MAP)]
        self.references = [name for name in tuned if name not in candidates]
        shape = (2, offsets.size - 1, len(self.references))
        self.ends = {name: np.zeros(shape) for name in candidates}
        self.n_undefined = dict.fromkeys(tuned, 0)

    def add(self, rows: FusionRows, documents: slice, scored: Mapping[str, ScoredRule]) -> None:
        """Take the scores of a chunk of whole documents in."""
        for name, rule in scored.items():
            self.n_undefined[name] += int(rule.losses.undefined.sum())
        with np.errstate(invalid="ignore"):
            for candidate, ends in self.ends.items():
                for place, reference in enumerate(self.references):
                    bounds = difference_bounds(scored[candidate].losses, scored[reference].losses)
                    ends[:, documents, place] = document_sums(bounds.T, rows.offsets).T

    def defined(self, candidate: str) -> list[str]:
        """What a map's candidate is compared with: defined everywhere and bounded."""
        finite = np.isfinite(self.ends[candidate].sum(axis=(0, 1)))
        return [name for place, name in enumerate(self.references) if self.n_undefined[name] == 0 and finite[place]]

    def of(self, candidate: str, references: list[str]) -> np.ndarray:
        """Sums per document of the bounds of candidate minus each reference, (2, D, K)."""
        return self.ends[candidate][:, :, [self.references.index(name) for name in references]]

    def mean_width(self, candidate: str, references: list[str]) -> np.ndarray:
        """What truncation leaves open of the mean difference, nats, (K,)."""
        lower, upper = self.of(candidate, references).sum(axis=1)
        return np.asarray((upper - lower) / int(self.offsets[-1]))

    def mean_shift(self, other: "ContrastSums", candidate: str, references: list[str]) -> np.ndarray:
        """|Mean difference on the leading documents - the same on `other`'s|, at the midpoints, nats, (K,).

        `other` holds the same first documents, as many as it has.
        """
        n = other.offsets.size - 1
        ours = self.of(candidate, references)[:, :n].mean(axis=0)
        theirs = other.of(candidate, references).mean(axis=0)
        return np.abs((ours - theirs).sum(axis=0)) / int(other.offsets[-1])
