"""Secondary statistics of the Phase Coherence Test: reported beside the decision, never deciding."""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths.coherence import shift_null
from brf_exp.maths.documents import Offsets, document_chunks
from brf_exp.maths.pairing import MatchedPairing, Pairing, Rows, true_pairing
from brf_exp.maths.resampling import holm, ratio_estimate, sign_flip_pvalues
from brf_exp.maths.undefined import UndefinedStatisticError

N_HARMONICS = 4
# Documents and numbers that the matrix of all document pairs is computed for at most.
MAX_DOCUMENTS = 2000


@dataclass(frozen=True)
class Harmonic:
    """The k-th harmonic of one model's phases, exp(i k phi)."""

    rows: Rows
    order: int

    def __getitem__(self, rows: slice) -> np.ndarray:
        """exp(i k phi) of these rows."""
        return self.rows[rows] ** self.order


@dataclass(frozen=True)
class HarmonicResult:
    """Mean resultant length, excess cosine and shift p-value of k times the phases; `pvalue_adjusted` by Holm.

    The p-values are None where k times the phases do not vary (phases 0 and pi, k = 2).
    """

    order: int
    resultant_length: float
    excess: float
    pvalue: float | None
    pvalue_adjusted: float | None


def harmonics(z1: Rows, z2: Rows, offsets: Offsets) -> list[HarmonicResult]:
    """Harmonics 1..4 against circular shifts: they see relations with several peaks, which k = 1 does not."""
    pairings = [true_pairing(Harmonic(z1, k), Harmonic(z2, k), offsets) for k in range(1, N_HARMONICS + 1)]
    pvalues = [_shift_pvalue(pairing) for pairing in pairings]
    adjusted = iter(holm(np.array([p for p in pvalues if p is not None])).tolist())
    return [
        HarmonicResult(k, abs(pairing.mean), pairing.kappa, p, None if p is None else next(adjusted))
        for k, (pairing, p) in enumerate(zip(pairings, pvalues, strict=True), start=1)
    ]


def _shift_pvalue(pairing: MatchedPairing) -> float | None:
    try:
        return shift_null(pairing).pvalue
    except UndefinedStatisticError:
        return None


@dataclass(frozen=True)
class DocumentPermutation:
    """All permutations of equally long documents, by their first two moments: q ~ chi2(2), or (1) as in ShiftNull."""

    statistic: float
    pvalue: float


def document_permutation(z1: Rows, z2: Rows, offsets: Offsets) -> DocumentPermutation:
    """Test of sum C_dd against all permutations of documents, M_de = sum_n z1_d(n) conj z2_e(n) doubly centred.

    Var = sum |M|^2 / (D - 1), and likewise for the squares. Keeps what positions share. Only for equally long
    documents: cropping or padding ragged ones is another test, padding a wrong one (its size reaches 1).
    Raises UndefinedStatisticError where lengths differ or there are more than MAX_DOCUMENTS documents.
    """
    lengths = np.diff(offsets)
    if np.unique(lengths).size > 1:
        raise UndefinedStatisticError("unequal lengths")
    if not 3 <= lengths.size <= MAX_DOCUMENTS:
        raise UndefinedStatisticError("documents", f"needs 3 to {MAX_DOCUMENTS} documents")
    products = _document_products(z1, z2, offsets)
    centred = products - products.mean(axis=0) - products.mean(axis=1, keepdims=True) + products.mean()
    re, im = centred.real.ravel(), centred.imag.ravel()
    covariance = np.array([[re @ re, im @ im, re @ im]]) / (lengths.size - 1)
    found = shift_null(Pairing(lengths, np.diagonal(centred), covariance))
    return DocumentPermutation(found.statistic, found.pvalue)


def _document_products(z1: Rows, z2: Rows, offsets: Offsets) -> np.ndarray:
    """z1_d . conj z2_e for all documents d, e, from a few documents of each model at a time, (D, D)."""
    n_documents, length = offsets.size - 1, int(offsets[1] - offsets[0])
    products = np.empty((n_documents, n_documents), dtype=np.complex128)
    slices = [(part, slice(int(offsets[part.start]), int(offsets[part.stop]))) for part in document_chunks(offsets)]
    for part, rows in slices:
        first = z1[rows].reshape(-1, length)
        for other, other_rows in slices:
            products[part, other] = first @ np.conj(z2[other_rows].reshape(-1, length)).T
    return products


def sign_flip_pvalue(
    pairing: MatchedPairing,
    *,
    null_value: float,
    null_variance: float = 0.0,
    n_resamples: int,
    rng: np.random.Generator,
) -> float:
    """Two-sided p of the excess against `null_value` when whole documents' deviations change sign at random.

    `null_variance`: that of the null value, where it is itself an estimate; the observed deviation shrinks by as much
    as its standard error grows.
    """
    sums = pairing.excess.real - null_value * pairing.lengths
    error = float(ratio_estimate(sums[:, None], pairing.lengths).standard_error[0])
    shrink = error / np.hypot(error, np.sqrt(null_variance)) if null_variance > 0 else 1.0
    pvalues, _ = sign_flip_pvalues(sums[:, None], pairing.lengths, shrink=shrink, n_resamples=n_resamples, rng=rng)
    return float(pvalues[0])
