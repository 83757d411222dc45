"""Cross-fitting in two passes over chunks of documents: every document is scored by parameters fitted on others.

First pass: per document, the summed loss of every candidate of every rule; the best of the other folds is chosen.
Second pass: every position is scored once, with its fold's parameters.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import spread
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import Given, Parameters, RuleSpec, together
from brf_exp.maths.topk_rules import RuleLosses

# Positions of which all candidates are scored at a time: enough to outweigh a call, few enough for the cache.
BLOCK_ROWS = 2048
# A fold's row numbers in a chunk, and its rows.
FoldPart = tuple[np.ndarray, FusionRows]


@dataclass(frozen=True)
class Folds:
    """Fold of each document and the default scale of the phase maps outside each fold (None: maps without one)."""

    of_document: np.ndarray
    scales: Mapping[int, float]

    @property
    def numbers(self) -> list[int]:
        """The folds that have documents."""
        return [int(fold) for fold in np.unique(self.of_document)]


@dataclass(frozen=True)
class TunedRule:
    """A rule with the parameters of each fold; one entry, under fold -1, where nothing was tuned."""

    spec: RuleSpec
    parameters: Mapping[int, Parameters]

    @property
    def listed(self) -> list[Parameters]:
        """Parameters in the order of the folds."""
        return [self.parameters[fold] for fold in sorted(self.parameters)]


@dataclass(frozen=True)
class ScoredRule:
    """A rule's losses on a chunk of rows, and cos(phase difference) per pair of models where it has phases.

    `by_fold`: the chunk's rows fold by fold, as all rules share them.
    """

    tuned: TunedRule
    losses: RuleLosses
    coherence: np.ndarray | None = None
    fold_of_document: np.ndarray | None = None
    by_fold: Mapping[int, FoldPart] | None = None

    @property
    def spec(self) -> RuleSpec:
        """What was scored."""
        return self.tuned.spec

    def parts(self, rows: FusionRows) -> Iterator[tuple[np.ndarray, Parameters]]:
        """Row numbers of each fold of the chunk, with the parameters they were scored by."""
        if len(self.tuned.parameters) == 1 or self.fold_of_document is None:
            (parameters,) = self.tuned.parameters.values()
            yield np.arange(rows.n), parameters
            return
        fold_of_row = spread(self.fold_of_document, rows.offsets)
        for fold in np.unique(fold_of_row).tolist():
            yield np.flatnonzero(fold_of_row == fold), self.tuned.parameters[fold]

    def pieces(self, rows: FusionRows) -> Iterator[tuple[np.ndarray, FusionRows, Parameters]]:
        """Row numbers of each fold of the chunk, those rows, and the parameters they were scored by."""
        if len(self.tuned.parameters) == 1 or self.fold_of_document is None:
            (parameters,) = self.tuned.parameters.values()
            yield np.arange(rows.n), rows, parameters
            return
        parts = split_by_fold(rows, self.fold_of_document) if self.by_fold is None else self.by_fold
        for fold, (chosen, part) in parts.items():
            yield chosen, part, self.tuned.parameters[fold]


def split_by_fold(rows: FusionRows, fold_of_document: np.ndarray) -> dict[int, FoldPart]:
    """Row numbers and rows of each fold of a chunk: copies, so made once for all rules."""
    fold_of_row = spread(fold_of_document, rows.offsets)
    found = {}
    for fold in np.unique(fold_of_row).tolist():
        chosen = np.flatnonzero(fold_of_row == fold)
        found[fold] = chosen, rows.take(chosen)
    return found


def candidates_of(spec: RuleSpec, default_scale: float | None) -> list[Parameters]:
    """A rule's candidates with scales in logits where they are multiples of the default one."""
    if not spec.scaled:
        return list(spec.candidates)
    assert default_scale is not None
    found = []
    for candidate in spec.candidates:
        factor = candidate["scale_factor"]
        assert isinstance(factor, float)
        rest = {name: value for name, value in candidate.items() if name != "scale_factor"}
        found.append({**rest, "scale": factor * default_scale})
    return found


class Tuner:
    """Collects the losses of all candidates, chunk by chunk; `chosen` then picks the best of the other folds.

    Scaled rules have candidates of their own per fold: the default scale is that of the other folds.
    """

    def __init__(self, specs: Sequence[RuleSpec], folds: Folds) -> None:
        self._specs, self._folds = [spec for spec in specs if spec.candidates], folds
        n_documents = folds.of_document.size
        self._sums = {
            (spec.name, fold): np.zeros((n_documents, len(spec.candidates)))
            for spec in self._specs
            for fold in (folds.numbers if spec.scaled else [-1])
        }

    def add(self, rows: FusionRows, documents: slice, run: Callable[..., Iterable[None]] = map) -> None:
        """Take a chunk of whole documents in; `run` maps a function over jobs (a thread pool's map, say)."""

        blocks = list(rows.blocks(BLOCK_ROWS))

        def one(key: tuple[str, int]) -> None:
            spec = next(spec for spec in self._specs if spec.name == key[0])
            candidates = candidates_of(spec, self._folds.scales.get(key[1]))
            sums, groups = self._sums[key][documents], together(candidates, spec.along, rows.n_models)
            for inside, block in blocks:
                for places, given in groups:
                    sums[inside, places] = np.atleast_2d(candidate_sums(spec, block, given)).T

        list(run(one, self._sums))

    def chosen(self) -> dict[str, TunedRule]:
        """Every tuned rule with the parameters of each fold: those with the least loss on the other folds.

        A candidate that is undefined or unbounded anywhere, on the own fold too, would cost the rule its mean.
        """
        found = {}
        for spec in self._specs:
            parameters = {}
            for fold in self._folds.numbers:
                key = (spec.name, fold if spec.scaled else -1)
                sums = self._sums[key]
                outside = sums[self._folds.of_document != fold].sum(axis=0)
                best = int(np.argmin(np.where(np.isfinite(sums).all(axis=0), outside, np.inf)))
                parameters[fold] = candidates_of(spec, self._folds.scales.get(fold))[best]
            found[spec.name] = TunedRule(spec, parameters)
        return found


def candidate_sums(spec: RuleSpec, rows: FusionRows, parameters: Given) -> np.ndarray:
    """Summed midpoint loss per document, (D,) or of many candidates (C, D); +inf where a position is undefined or
    unbounded."""
    losses = spec.losses(rows, parameters)
    middle = losses.middle
    middle[losses.undefined] = np.inf
    return np.add.reduceat(middle, rows.offsets[:-1], axis=-1)


def untuned(spec: RuleSpec) -> TunedRule:
    """The rule at its defaults."""
    return TunedRule(spec, {-1: dict(spec.defaults)})


def score(
    tuned: TunedRule,
    rows: FusionRows,
    fold_of_document: np.ndarray | None,
    by_fold: Mapping[int, FoldPart] | None = None,
) -> ScoredRule:
    """Losses of a chunk of rows, each document with its fold's parameters.

    `by_fold`: what `split_by_fold` makes of the rows, where several rules are scored.
    """
    spec = tuned.spec
    if len(tuned.parameters) == 1 or fold_of_document is None:
        (parameters,) = tuned.parameters.values()
        return ScoredRule(tuned, spec.losses(rows, parameters), spec.coherence(rows, parameters), fold_of_document)
    parts = split_by_fold(rows, fold_of_document) if by_fold is None else by_fold
    pieces = []
    for fold, (chosen, part) in parts.items():
        parameters = tuned.parameters[fold]
        pieces.append((chosen, spec.losses(part, parameters), spec.coherence(part, parameters)))
    return joined(tuned, pieces, rows.n, fold_of_document, parts)


Piece = tuple[np.ndarray, RuleLosses, np.ndarray | None]


def joined(
    tuned: TunedRule, pieces: list[Piece], n: int, fold_of_document: np.ndarray, by_fold: Mapping[int, FoldPart]
) -> ScoredRule:
    """A rule's scores on a chunk of n rows from those of each fold: row numbers, losses, coherence or None."""
    return ScoredRule(tuned, _joined(pieces, n), _joined_coherence(pieces, n), fold_of_document, by_fold)


def _joined(pieces: list[Piece], n: int) -> RuleLosses:
    """Losses of all rows from those of each fold; the overlap form survives only where all folds have it."""
    bounds, undefined = np.empty((2, n)), np.empty(n, dtype=bool)
    forms = [(losses.coefficients, losses.overlaps) for _, losses, _ in pieces]
    coefficients, overlaps = (_like([form[part] for form in forms], n) for part in (0, 1))
    for rows, losses, _ in pieces:
        bounds[:, rows], undefined[rows] = losses.bounds, losses.undefined
        if coefficients is not None:
            coefficients[:, rows] = losses.coefficients
        if overlaps is not None:
            overlaps[..., rows] = losses.overlaps
    return RuleLosses(bounds, coefficients, undefined, overlaps)


def _like(pieces: list[np.ndarray | None], n: int) -> np.ndarray | None:
    """Room for all rows of arrays whose last axis is rows; None where a piece is missing."""
    first = pieces[0]
    if first is None or any(piece is None for piece in pieces):
        return None
    return np.empty((*first.shape[:-1], n))


def _joined_coherence(pieces: list[Piece], n: int) -> np.ndarray | None:
    values = [c for _, _, c in pieces]
    if any(c is None for c in values):
        return None
    joined = np.empty((values[0].shape[0], n))  # type: ignore[union-attr]
    for rows, _, c in pieces:
        joined[:, rows] = c
    return joined
