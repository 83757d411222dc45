"""Calibration of the top-1 probability: how far accuracy is from confidence, with documents as the unit.

Calibration error is not a proper score: a forecast that always gives the base rate is perfectly calibrated and says
nothing. It is reported beside the log loss and the Brier score and decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import special

from brf_exp.maths.documents import Offsets, lengths_of, spread
from brf_exp.maths.resampling import replicate_chunks
from brf_exp.maths.undefined import UndefinedStatisticError

N_BINS = 15


@dataclass(frozen=True)
class ReliabilityTable:
    """Accuracy against confidence in K bins: `edges` (K + 1,), `mean_confidence`, `accuracy` and `counts` (K,)."""

    edges: np.ndarray
    mean_confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value, its confidence interval over documents, and what truncation leaves open of it."""

    value: float
    interval: tuple[float, float]
    truncation: tuple[float, float]


@dataclass(frozen=True)
class CalibrationError:
    """Calibration error of the top-1 probability over bins of equal mass.

    `expected`: mean |accuracy - confidence| over the bins, debiased. `squared`: mean (accuracy - confidence)^2,
    unbiased. Either may come out negative where there is no sign of an error. `plug_in`: `expected` without the
    correction, what is called ECE elsewhere. `pvalue`: of perfect calibration in every bin, one-sided.
    """

    expected: Estimate
    squared: Estimate
    pvalue: float
    plug_in: float
    table: ReliabilityTable
    confidence_level: float
    n_positions: int
    n_documents: int


def equal_mass_edges(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    """Edges (K + 1,) of at most `n_bins` bins with about equally many of `confidence` (n,).

    Edges are values that occur and equal values share a bin, so that no bin is empty and the order of the positions
    does not matter; where many values are equal there are fewer bins.
    """
    ranked = np.sort(confidence)
    inner = np.unique(ranked[ranked.size * np.arange(1, n_bins) // n_bins])
    return np.concatenate([ranked[:1], inner[inner > ranked[0]], ranked[-1:]])


def reliability_table(confidence: np.ndarray, correct: np.ndarray, *, n_bins: int = N_BINS) -> ReliabilityTable:
    """Mean confidence and accuracy in bins of equal mass, from `confidence` (n,) and `correct` (n,).

    >>> table = reliability_table(np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, True, True]), n_bins=2)
    >>> table.mean_confidence.round(3), table.accuracy
    (array([0.3, 0.7]), array([0.5, 1. ]))
    """
    sums = CalibrationSums(np.array([0, confidence.size]), n_bins=n_bins)
    sums.add(np.zeros(confidence.size, dtype=np.int64), confidence, correct)
    return sums.table


def calibration_error(
    confidence: np.ndarray,
    correct: np.ndarray,
    offsets: Offsets,
    *,
    n_bins: int = N_BINS,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> CalibrationError:
    """Calibration error of the top-1 probability, debiased, with an interval by resampling documents.

    Not a proper score: report it beside one, never choose a rule by it. It sees miscalibration between bins only, so
    it is a lower bound of what finer bins would show. `CalibrationSums` takes the same chunk by chunk.

    Parameters: `confidence` (n,), or (2, n) bounds; `correct` (n,) bool, or (2, n) surely and possibly;
    `offsets` (D + 1,). Raises UndefinedStatisticError for fewer than two documents, or a bin that one document fills.

    Notes: D_b is accuracy minus confidence in bin b, v_b its variance, clustered by document. `squared` is
    sum_b n_b (D_b^2 - v_b) / n; with one position per document and one confidence per bin it is the estimator of
    Broecker 2012 (doi 10.1007/s00382-011-1191-1) and Kumar, Liang & Ma 2019 (arXiv 1909.10155). `expected` is
    sum_b n_b (2 |D_b| - E|N(D_b, v_b)|) / n, their correction of the ECE in closed form; at perfect calibration it
    keeps 0.59 of the plug-in's bias. Intervals are basic bootstraps about the plug-in, as theirs: resampled documents
    have the plug-in error as their truth, and their bins are those of the data. |D_b| has a kink at 0 where that
    fails, so the lower end of `expected` is 0 unless resampling about D_b = 0 rejects perfect calibration. Bounds: bins
    are made by the midpoints and v_b taken there; confidences and open positions move freely within their bounds.
    """
    n = int(offsets[-1])
    for name, values in (("confidence", confidence), ("correct", correct)):
        if values.shape not in ((n,), (2, n)):
            raise ValueError(f"`{name}` must have shape ({n},) or (2, {n}), got {values.shape}")
    sums = CalibrationSums(offsets, n_bins=n_bins)
    sums.add(spread(np.arange(lengths_of(offsets).size), offsets), confidence, correct)
    return sums.error(confidence_level=confidence_level, n_resamples=n_resamples, rng=rng)


class CalibrationSums:
    """Confidences and hits added up per document and bin, chunk by chunk; `error` is then the calibration error.

    Bins of equal mass are those of the first whole documents of at most `n_positions_for_edges` positions (at least
    one document; by default all of them), whose rows are held until they are complete. `allocate` makes the arrays
    of sums, (..., D, K).
    """

    def __init__(
        self,
        offsets: Offsets,
        *,
        n_bins: int = N_BINS,
        n_positions_for_edges: int | None = None,
        allocate: Callable[[tuple[int, ...], type], np.ndarray] = np.empty,
    ) -> None:
        self._offsets, self._n_bins, self._allocate = offsets, n_bins, allocate
        last = int(np.searchsorted(offsets, n_positions_for_edges or offsets[-1], side="right")) - 1
        self._n_for_edges = int(offsets[max(last, 1)])
        self._held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._n_held = 0
        self._edges: np.ndarray | None = None

    def add(self, document: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> None:
        """Take rows in, in their order: `document` (n,) number of each, `confidence` and `correct` (n,) or (2, n)."""
        shape = (2, document.size)
        hits = np.broadcast_to(correct.astype(bool), shape)
        rows = document, np.broadcast_to(confidence, shape), hits
        if self._edges is not None:
            self._count(*rows)
            return
        self._held.append(rows)
        self._n_held += document.size
        if self._n_held >= self._n_for_edges:
            first = np.concatenate([bounds.mean(axis=0) for _, bounds, _ in self._held])[: self._n_for_edges]
            self._make_bins(equal_mass_edges(first, self._n_bins))
            for held in self._held:
                self._count(*held)
            self._held = []

    def _make_bins(self, edges: np.ndarray) -> None:
        shape = (self._offsets.size - 1, edges.size - 1)
        self._edges = edges
        self._confidence = self._allocate((2, *shape), np.float64)
        self._correct, self._counts = self._allocate((2, *shape), np.int32), self._allocate(shape, np.int32)
        for sums in (self._confidence, self._correct, self._counts):
            sums[...] = 0

    def _count(self, document: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> None:
        assert self._edges is not None
        first, n_bins = int(document[0]), self._edges.size - 1
        shape = (int(document[-1]) - first + 1, n_bins)
        bins = np.searchsorted(self._edges[1:-1], confidence.mean(axis=0), side="right")
        cells, theirs = (document - first) * n_bins + bins, slice(first, first + shape[0])
        size = shape[0] * n_bins
        self._counts[theirs] += np.bincount(cells, minlength=size).reshape(shape).astype(np.int32)
        for end in (0, 1):
            self._confidence[end, theirs] += np.bincount(cells, confidence[end], size).reshape(shape)
            hits = np.bincount(cells[correct[end]], minlength=size)
            self._correct[end, theirs] += hits.reshape(shape).astype(np.int32)

    @property
    def table(self) -> ReliabilityTable:
        """Mean confidence and accuracy of each bin, at the midpoints."""
        assert self._edges is not None
        counts = self._counts.sum(axis=0, dtype=np.int64)
        confidence, correct = (sums.sum(axis=1).mean(axis=0) for sums in (self._confidence, self._correct))
        return ReliabilityTable(self._edges, confidence / counts, correct / counts, counts)

    def error(self, *, confidence_level: float, n_resamples: int, rng: np.random.Generator) -> CalibrationError:
        """The calibration error, as `calibration_error` gives it, once all rows are in."""
        n_documents = self._offsets.size - 1
        if n_documents < 2:
            raise UndefinedStatisticError("documents", f"at least 2 documents are needed, got {n_documents}")
        sums = _BinSums(
            least=self._correct[0] - self._confidence[1],
            middle=self._correct.mean(axis=0) - self._confidence.mean(axis=0),
            most=self._correct[1] - self._confidence[0],
            counts=self._counts.astype(np.float64),
        )
        observed = sums.errors(np.ones((1, n_documents)))
        if (observed.documents[0] < 2).any():
            message = f"every bin needs 2 documents or more; `n_bins` is {self._n_bins}, take fewer"
            raise UndefinedStatisticError("bins", message)
        drawn = _resampled(sums, n_documents, n_resamples, rng)
        pvalue = float((1 + (drawn.under_null >= observed.debiased[0, 0]).sum()) / (n_resamples + 1))
        expected = _estimate(observed.debiased, drawn.debiased, observed.plug_in, confidence_level)
        if pvalue > (1 - confidence_level) / 2:
            expected = replace(expected, interval=(0.0, expected.interval[1]))
        return CalibrationError(
            expected=expected,
            squared=_estimate(observed.unbiased, drawn.unbiased, observed.plug_in_squared, confidence_level),
            pvalue=pvalue,
            plug_in=float(observed.plug_in[0, 1]),
            table=self.table,
            confidence_level=confidence_level,
            n_positions=int(self._offsets[-1]),
            n_documents=n_documents,
        )


@dataclass(frozen=True)
class _Errors:
    """Errors of R replicates, (R, 3) each: at the lower end, the middle and the upper end of |D_b|."""

    debiased: np.ndarray
    unbiased: np.ndarray
    plug_in: np.ndarray
    plug_in_squared: np.ndarray
    under_null: np.ndarray
    documents: np.ndarray


@dataclass(frozen=True)
class _BinSums:
    """Per document and bin, (D, K): sums of correct minus confidence at its least, middle and most, and counts."""

    least: np.ndarray
    middle: np.ndarray
    most: np.ndarray
    counts: np.ndarray

    def errors(self, weights: np.ndarray) -> _Errors:
        """The errors of samples in which document d counts `weights` (R, D) times; `under_null` (R,) is the debiased
        error about the mean of each bin, as if accuracy and confidence were equal there."""
        counts = weights @ self.counts
        filled = np.maximum(counts, 1)
        least, middle, most = (weights @ sums / filled for sums in (self.least, self.middle, self.most))
        variance, documents = self._variance(weights, middle, filled)
        smallest = np.maximum(np.maximum(least, -most), 0)
        sizes = np.stack([smallest, np.abs(middle), np.maximum(np.abs(least), np.abs(most))], axis=2)
        share = (counts / counts.sum(axis=1, keepdims=True))[:, :, None]
        deviation, squares = np.sqrt(variance)[:, :, None], sizes**2
        moved = np.abs(middle - self.middle.sum(axis=0) / self.counts.sum(axis=0))[:, :, None]
        return _Errors(
            debiased=(share * (2 * sizes - _folded_mean(sizes, deviation))).sum(axis=1),
            unbiased=(share * (squares - variance[:, :, None])).sum(axis=1),
            plug_in=(share * sizes).sum(axis=1),
            plug_in_squared=(share * squares).sum(axis=1),
            under_null=(share * (2 * moved - _folded_mean(moved, deviation))).sum(axis=(1, 2)),
            documents=documents,
        )

    def _variance(self, weights: np.ndarray, mean: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance of each bin's mean by documents (R, K), and how many documents the bin has."""
        documents = weights @ (self.counts > 0)
        squares, cross, sizes = (weights @ v for v in (self.middle**2, self.middle * self.counts, self.counts**2))
        deviations = np.maximum(squares - 2 * mean * cross + mean**2 * sizes, 0)
        return documents / np.maximum(documents - 1, 1) * deviations / counts**2, documents


def _resampled(sums: _BinSums, n_documents: int, n_resamples: int, rng: np.random.Generator) -> _Errors:
    """Errors of samples of whole documents with replacement."""
    even = np.full(n_documents, 1 / n_documents)
    chunks = replicate_chunks(n_resamples, n_documents)
    parts = [sums.errors(rng.multinomial(n_documents, even, size=rows).astype(np.float64)) for rows in chunks]
    return _Errors(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Errors)})


def _folded_mean(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """E|X| for X ~ N(mean, deviation^2)."""
    ratio = np.divide(mean, deviation, out=np.full(np.broadcast(mean, deviation).shape, np.inf), where=deviation > 0)
    around = deviation * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
    return around + np.abs(mean) * (1 - 2 * special.ndtr(-np.abs(ratio)))


def _estimate(observed: np.ndarray, replicates: np.ndarray, truth: np.ndarray, confidence_level: float) -> Estimate:
    """Basic bootstrap: error minus its truth is distributed as a replicate minus the plug-in; each end its own."""
    tail = (1 - confidence_level) / 2
    below = np.quantile(replicates[:, 0] - truth[0, 0], 1 - tail)
    above = np.quantile(replicates[:, 2] - truth[0, 2], tail)
    low, value, high = (float(end) for end in observed[0])
    return Estimate(value, (max(low - float(below), 0.0), max(high - float(above), 0.0)), (low, high))
