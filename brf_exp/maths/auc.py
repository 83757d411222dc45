"""Area under the ROC curve with the document as the unit: does a score rank correct tokens above wrong ones?

The direction is fixed in advance: a higher score says "more likely correct", and an AUC of .4 stays .4. DeLong's
test over tokens rejects up to half of true nulls on text, so placement values are summed over documents first
(Obuchowski). An AUC above .5 alone says little, since gaps predict correctness: look at `auc_differences`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brf_exp.maths.documents import Offsets, document_sums, lengths_of, spread
from brf_exp.maths.resampling import holm, ratio_test
from brf_exp.maths.undefined import UndefinedStatisticError

# A standard error below this is rounding: it is a mean of placement values, which are at most 1.
ROUNDING = 1e-14


@dataclass(frozen=True)
class ClusteredAuc:
    """AUCs of K scores on the same rows, with their covariance by documents.

    `aucs` (K,); `covariance` (K, K); `roots` (3 D, K), whose products are the covariance: scores that rank alike have
    equal columns, so that their difference has a variance of exactly 0. Positive rows are those labelled True.
    """

    aucs: np.ndarray
    covariance: np.ndarray
    roots: np.ndarray
    n_positive: int
    n_negative: int
    n_documents: int

    @property
    def df(self) -> int:
        """Degrees of freedom of the t approximation."""
        return self.n_documents - 1

    @property
    def standard_errors(self) -> np.ndarray:
        """Standard errors of the AUCs, shape (K,)."""
        return np.sqrt(np.diagonal(self.covariance))

    def interval(self, index: int, *, confidence_level: float) -> tuple[float, float] | None:
        """t(D - 1) interval of one AUC, or None where its standard error is 0 (a constant or a perfect score).

        Not clipped: an end beyond 0 or 1 says that the approximation is strained.
        """
        value, error = float(self.aucs[index]), float(self.standard_errors[index])
        return _t_interval(value, error, self.df, confidence_level) if error > ROUNDING else None


@dataclass(frozen=True)
class AucDifference:
    """AUC of the candidate minus that of score number `reference`; `pvalue_adjusted` by Holm over the references.

    `statistic`, `interval` and both p-values are None where the standard error is 0: the two scores rank all rows
    alike, or each is constant or perfect. Such references are left out of the family that Holm corrects for.
    """

    reference: int
    difference: float
    standard_error: float
    df: int
    statistic: float | None
    interval: tuple[float, float] | None
    pvalue: float | None
    pvalue_adjusted: float | None


@dataclass(frozen=True)
class WithinDocumentAuc:
    """AUC over pairs of rows of the same document: its interval, and the p-value for .5.

    `n_dropped` documents had rows of one class only. `interval`, `pvalue` and `method` are None, and the standard
    error is 0, where all other documents have the same AUC.
    """

    value: float
    standard_error: float
    interval: tuple[float, float] | None
    pvalue: float | None
    method: str | None
    n_documents: int
    n_dropped: int
    n_pairs: int


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of (positive, negative) pairs of rows in which the positive has the higher score, ties as a half.

    `scores` (n,), any real numbers, infinities included; `labels` (n,) bool. Raises UndefinedStatisticError
    ("one class") where all labels are equal, ValueError for NaN, other labels or unequal lengths.
    Reference: Hanley & McNeil (1982), doi 10.1148/radiology.143.1.7063747.

    >>> normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]  # their table 1: ratings 1 to 5 of 109 images
    >>> ratings = np.repeat([1, 2, 3, 4, 5] * 2, normal + abnormal)
    >>> round(auc(ratings, np.arange(109) >= 58), 3)
    0.893
    """
    return float(placement_values(scores, labels)[labels].mean())


def placement_values(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the other class that each row is on the right side of, ties as a half; (n,), (n,) bool -> (n,).

    V10 = values[labels] and V01 = values[~labels]; the mean of either is the AUC. Takes O(n log n) time and O(n)
    memory. Raises as `auc` does.
    Reference: DeLong, DeLong & Clarke-Pearson (1988), doi 10.2307/2531595.
    """
    _check_rows(scores, labels, n_dimensions=1)
    ranks = np.unique(scores, return_inverse=True)[1]
    n_positive = np.count_nonzero(labels)
    above_negatives = _rows_below(ranks, ~labels) / (labels.size - n_positive)
    return np.where(labels, above_negatives, 1 - _rows_below(ranks, labels) / n_positive)


def obuchowski(scores: np.ndarray, labels: np.ndarray, offsets: Offsets) -> ClusteredAuc:
    """AUCs of K scores with their covariance when rows of a document depend on each other.

    `scores` (n, K), `labels` (n,) bool, `offsets` (D + 1,), documents not empty. Positive and negative rows may share
    documents or not; where every document has one row this is DeLong's covariance. Trust fails first where few
    documents hold most rows of a class: D - 1 degrees of freedom are then too many. Sizes measured with 15 and
    40 documents for a stated .05: .04 to .06 with equal lengths and half of the rows positive, .05 to .07 with very
    unequal lengths, .07 to .11 with 5 % of the rows positive.

    Cov = S10 / M + S01 / N + (S11 + S11') / (M N) for M positive and N negative rows, with e1_d and e0_d the sums of
    V10 - AUC and V01 - AUC over document d, S10 = I1 / ((I1 - 1) M) sum e1_d e1_d', S01 likewise,
    S11 = D / (D - 1) sum e1_d e0_d', I1 and I0 the numbers of documents with positive and with negative rows.

    Raises as `auc` does, and UndefinedStatisticError ("documents") where the rows of a class are all in one document.
    Reference: Obuchowski (1997), doi 10.2307/2533958.
    """
    _check_rows(scores, labels, n_dimensions=2)
    _check_offsets(offsets, labels.size)
    counts = _class_counts(labels, offsets)
    corrections = _corrections(counts)
    n_positive, n_negative = (int(count) for count in counts.sum(axis=1))
    aucs, positive, negative = zip(*(_document_errors(column, labels, offsets) for column in scores.T), strict=True)
    roots = _roots(np.column_stack(positive) / n_positive, np.column_stack(negative) / n_negative, corrections)
    return ClusteredAuc(np.array(aucs), roots.T @ roots, roots, n_positive, n_negative, counts.shape[1])


def auc_differences(estimate: ClusteredAuc, *, candidate: int = 0, confidence_level: float) -> list[AucDifference]:
    """Candidate minus each other score, with t(D - 1) intervals and two-sided p-values, in the order of the columns.

    Raises ValueError where there is no score number `candidate`.
    """
    n_scores = estimate.aucs.size
    if not 0 <= candidate < n_scores:
        raise ValueError(f"`candidate` must be from 0 to {n_scores - 1}, got {candidate!r}. It is a column of scores.")
    references = [k for k in range(n_scores) if k != candidate]
    errors = np.linalg.norm(estimate.roots[:, [candidate]] - estimate.roots[:, references], axis=0)
    differences = estimate.aucs[candidate] - estimate.aucs[references]
    defined = errors > ROUNDING
    statistics = differences[defined] / errors[defined]
    pvalues = 2 * stats.t.sf(np.abs(statistics), estimate.df)
    tests = iter(zip(statistics.tolist(), pvalues.tolist(), holm(pvalues).tolist(), strict=True))
    made = []
    for reference, difference, error in zip(references, differences.tolist(), errors.tolist(), strict=True):
        interval = statistic = pvalue = adjusted = None
        if error > ROUNDING:
            interval = _t_interval(difference, error, estimate.df, confidence_level)
            statistic, pvalue, adjusted = next(tests)
        made.append(AucDifference(reference, difference, error, estimate.df, statistic, interval, pvalue, adjusted))
    return made


def within_document_auc(
    scores: np.ndarray,
    labels: np.ndarray,
    offsets: Offsets,
    *,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> WithinDocumentAuc:
    """AUC over pairs within documents: what is left once differences in difficulty between documents are gone.

    `scores` (n,), `labels` (n,) bool, `offsets` (D + 1,). The mean of the documents' AUCs, weighted by their numbers
    of (positive, negative) pairs, hence a ratio by document (`ratio_test`): long documents count by the square of
    their length, so that few may carry it (size .10 for a stated .05 with 15 documents of very unequal lengths).
    Raises as `auc` does, and UndefinedStatisticError ("documents") for fewer than two documents with both classes.
    """
    _check_rows(scores, labels, n_dimensions=1)
    _check_offsets(offsets, labels.size)
    # As floats, since the square of the number of pairs leaves the range of integers.
    pairs = _class_counts(labels, offsets).prod(axis=0).astype(np.float64)
    kept = pairs > 0
    n_documents = int(kept.sum())
    if n_documents < 2:
        raise UndefinedStatisticError(
            "documents", f"at least 2 documents with both classes are needed, got {n_documents}"
        )
    concordant, pairs = _concordant_pairs(scores, labels, offsets)[kept], pairs[kept]
    counts = n_documents, kept.size - n_documents, int(pairs.sum())
    try:
        found = ratio_test(
            concordant, pairs, null_value=0.5, confidence_level=confidence_level, n_resamples=n_resamples, rng=rng
        )
    except UndefinedStatisticError:  # no variation between documents
        return WithinDocumentAuc(float(concordant.sum() / pairs.sum()), 0.0, None, None, None, *counts)
    return WithinDocumentAuc(found.value, found.standard_error, found.interval, found.pvalue, found.method, *counts)


def _check_rows(scores: np.ndarray, labels: np.ndarray, *, n_dimensions: int) -> None:
    if labels.dtype != np.bool_ or labels.ndim != 1:
        raise ValueError(
            f"`labels` must be a row of booleans, got {labels.dtype} of shape {labels.shape}. "
            "Compare them with the value that means correct."
        )
    if scores.ndim != n_dimensions or scores.shape[0] != labels.size or scores.shape[1:] == (0,):
        wanted = f"({labels.size},)" if n_dimensions == 1 else f"({labels.size}, number of scores)"
        raise ValueError(f"`scores` must have the shape {wanted}, got {scores.shape}. Rows are those of `labels`.")
    n_nan = np.count_nonzero(np.isnan(scores))
    if n_nan:
        raise ValueError(f"`scores` must be numbers, got {n_nan} NaN. Leave such rows out of all scores.")
    n_positive = np.count_nonzero(labels)
    if n_positive in (0, labels.size):
        counts = f"{n_positive} positive and {labels.size - n_positive} negative"
        raise UndefinedStatisticError("one class", f"an AUC needs rows of both classes, got {counts}")


def _check_offsets(offsets: Offsets, n_rows: int) -> None:
    if offsets[0] != 0 or offsets[-1] != n_rows or (lengths_of(offsets) < 1).any():
        raise ValueError(
            f"`offsets` must rise from 0 to {n_rows} without empty documents, "
            f"got {offsets[0]} to {offsets[-1]}, the shortest of {lengths_of(offsets).min(initial=n_rows)}."
        )


def _document_errors(scores: np.ndarray, labels: np.ndarray, offsets: Offsets) -> tuple[float, np.ndarray, np.ndarray]:
    """AUC of one score, and the sums e1 and e0 of V10 - AUC and V01 - AUC over each document, (D,) both."""
    values = placement_values(scores, labels)
    value = float(values[labels].mean())
    e1, e0 = (document_sums(np.where(rows, values - value, 0.0), offsets) for rows in (labels, ~labels))
    return value, e1, e0


def _rows_below(ranks: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Number of `counted` rows with a lower rank than each row, and half of those with the same; (n,)."""
    counts = np.bincount(ranks[counted], minlength=int(ranks.max()) + 1)
    return (np.cumsum(counts) - counts / 2)[ranks]


def _class_counts(labels: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Positive and negative rows of each document, (2, D)."""
    n_positive = document_sums(labels.astype(np.int64), offsets)
    return np.stack([n_positive, lengths_of(offsets) - n_positive])


def _corrections(counts: np.ndarray) -> np.ndarray:
    """I / (I - 1) for the documents with positive rows, with negative rows, and all of them."""
    n_holding = np.array([*(counts > 0).sum(axis=1), counts.shape[1]])
    if n_holding.min() < 2:
        found = f"{n_holding[0]} and {n_holding[1]}"
        raise UndefinedStatisticError(
            "documents", f"at least 2 documents with positive and 2 with negative rows are needed, got {found}"
        )
    return n_holding / (n_holding - 1)


def _roots(positive: np.ndarray, negative: np.ndarray, corrections: np.ndarray) -> np.ndarray:
    """Columns whose products are Obuchowski's covariance, from u = e1 / M and v = e0 / N, both (D, K).

    a u'u + b v'v + c (u'v + v'u) = c (u + v)'(u + v) + (a - c) u'u + (b - c) v'v, and c is the smallest of the three.
    """
    a, b, c = corrections
    return np.concatenate([np.sqrt(c) * (positive + negative), np.sqrt(a - c) * positive, np.sqrt(b - c) * negative])


def _concordant_pairs(scores: np.ndarray, labels: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Pairs of rows of the same document in which the positive has the higher score, ties as a half; (D,)."""
    order = np.lexsort((scores, spread(np.arange(offsets.size - 1), offsets)))
    # Sorted within documents, so a document still starts at its offset: ranks of no two documents are equal.
    ordered = scores[order]
    is_new = np.append(True, ordered[1:] != ordered[:-1])
    is_new[offsets[:-1]] = True
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[order] = np.cumsum(is_new) - 1
    negatives = _class_counts(labels, offsets)[1]
    in_earlier_documents = spread(np.cumsum(negatives) - negatives, offsets)
    return document_sums(np.where(labels, _rows_below(ranks, ~labels) - in_earlier_documents, 0.0), offsets)


def _t_interval(value: float, error: float, df: int, confidence_level: float) -> tuple[float, float]:
    half_width = float(stats.t.ppf((1 + confidence_level) / 2, df)) * error
    return value - half_width, value + half_width
