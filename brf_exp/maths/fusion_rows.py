"""What rules are scored on: positions of whole documents with what is known of every model's tokens and phases."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from brf_exp.maths.documents import Offsets, document_chunks
from brf_exp.maths.phases import PhaseTable, phases
from brf_exp.maths.topk import KnownTokens


@dataclass(frozen=True)
class FusionRows:
    """Positions of whole documents of M models.

    `known` what the top-k rows tell, at temperature 1; `at_temperatures` the same at others. `gaps` (M, n) logits;
    `shifted_gaps` the gaps circularly shifted within documents; `ranks`, `shifted_ranks` uniform ranks for the
    quantile map; `random_phases` (M, n) radians; `entropies` (M, n) nats or None; `cells` (n,) cell of each
    position on a grid of the models' gap quantiles, for the gate.
    """

    known: KnownTokens
    gaps: np.ndarray
    shifted_gaps: np.ndarray
    ranks: np.ndarray
    shifted_ranks: np.ndarray
    random_phases: np.ndarray
    offsets: Offsets
    entropies: np.ndarray | None = None
    cells: np.ndarray | None = None
    table: PhaseTable | None = None
    at_temperatures: Mapping[float, KnownTokens] | None = None

    @property
    def n(self) -> int:
        """Positions."""
        return int(self.offsets[-1])

    @property
    def n_models(self) -> int:
        """M."""
        return self.known.n_models

    def known_at(self, temperature: float) -> KnownTokens:
        """Top-k knowledge of the models' distributions at a temperature whose normaliser is stored."""
        if temperature == 1.0:
            return self.known
        assert self.at_temperatures is not None
        return self.at_temperatures[temperature]

    def take(self, rows: np.ndarray) -> "FusionRows":
        """The chosen positions; they are no longer whole documents."""
        return self._cut(rows, np.array([0, rows.size]))

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, "FusionRows"]]:
        """Consecutive documents of about `n_rows` positions together, as views: their numbers and their rows."""
        for documents in document_chunks(self.offsets, n_rows):
            first, last = int(self.offsets[documents.start]), int(self.offsets[documents.stop])
            yield documents, self._cut(slice(first, last), self.offsets[documents.start : documents.stop + 1] - first)

    def _cut(self, rows: np.ndarray | slice, offsets: Offsets) -> "FusionRows":
        others = self.at_temperatures or {}
        return replace(
            self,
            known=self.known.take(rows),
            gaps=self.gaps[:, rows],
            shifted_gaps=self.shifted_gaps[:, rows],
            ranks=self.ranks[:, rows],
            shifted_ranks=self.shifted_ranks[:, rows],
            random_phases=self.random_phases[:, rows],
            offsets=offsets,
            entropies=None if self.entropies is None else self.entropies[:, rows],
            cells=None if self.cells is None else self.cells[rows],
            at_temperatures={t: known.take(rows) for t, known in others.items()},
        )


PhaseFunction = Callable[[FusionRows, float | None], np.ndarray]


def position_phases(name: str, *, shifted: bool = False, flipped: bool = False) -> PhaseFunction:
    """One phase per model and position under a map, (M, n); `flipped` turns the first model's by pi."""

    def made(rows: FusionRows, scale: float | None) -> np.ndarray:
        gaps, ranks = (rows.shifted_gaps, rows.shifted_ranks) if shifted else (rows.gaps, rows.ranks)
        phi = np.stack(
            [phases(name, g, scale=scale, table=rows.table, ranks=u) for g, u in zip(gaps, ranks, strict=True)]
        )
        if flipped:
            phi[0] += np.pi
        return phi

    return made


def zero_phases(rows: FusionRows, scale: float | None) -> np.ndarray:
    """No phases at all, (M, n)."""
    return np.zeros((rows.n_models, rows.n))


def random_phases(rows: FusionRows, scale: float | None) -> np.ndarray:
    """Phases that know nothing, (M, n)."""
    return rows.random_phases


def coherences(phi: np.ndarray) -> np.ndarray:
    """cos(phi_i - phi_j) of every pair of models, (M, ...) -> (P, ...), in the order of itertools.combinations."""
    return np.stack([np.cos(phi[i] - phi[j]) for i, j in combinations(range(phi.shape[0]), 2)])


def token_phases(name: str, rows: FusionRows, scale: float | None, phi: np.ndarray) -> np.ndarray:
    """A phase per token of S from its own gap z_(1) - z_t in logits, whatever the temperature, (M, n, k + 1).

    `phi` (M, n) the position's phases; their difference from the map of the position's own gap (0 for the candidate, a
    shift, a turn or noise for a control) is added to every token's phase. The quantile map has no gaps of tokens.
    """
    if name == "quantile":
        raise ValueError("phase map `quantile` knows the gaps of positions only: set phase.scope=position")
    own = position_phases(name)(rows, scale)
    below_top = rows.known.max_log_p[:, :, None] - rows.known.shared
    used = np.isfinite(below_top)
    gaps = np.where(used, np.maximum(np.where(used, below_top, 0.0), 0.0), 0.0)
    of_tokens = np.stack([phases(name, model, scale=scale, table=rows.table) for model in gaps])
    return of_tokens + (phi - own)[:, :, None]
