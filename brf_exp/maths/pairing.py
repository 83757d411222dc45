"""Document pairings of two models' phases: the true one, and derangements that keep only the position.

The excess cosine of a pair of documents (d of model 1, e of model 2), cropped to the shorter, is
T (mean[z1 conj z2] - mean[z1] conj mean[z2]) = sum z1 conj z2 - (sum z1)(conj sum z2) / T,
which is also the sum less its mean over all circular shifts. Everything the test needs about a pairing is a
sum of such terms and of their shift covariances, so each pair is computed once and every draw is a look-up.

By Parseval the shift moments need no inverse transform: with G = FFT(z1) conj FFT(z2) less its zero frequency
(which is the mean over shifts), E|C|^2 = sum |G|^2 / T^2 and E C^2 = sum G_k G_-k / T^2.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import fft

from brf_exp.maths.documents import Offsets, centred, document_chunks, lengths_of

BLOCK_DOCUMENTS = 8


class Rows(Protocol):
    """One model's unit phasors exp(i phi), sliced by row: an array (n,), or `Phasors`."""

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Pairing:
    """One choice of a partner per document: its terms, each of shape (D,).

    `lengths` common positions; `excess` the centred sum (complex); `shift_covariance` (D, 3): Var Re, Var Im,
    Cov(Re, Im) of the sum over circular shifts.
    """

    lengths: np.ndarray
    excess: np.ndarray
    shift_covariance: np.ndarray

    @property
    def kappa(self) -> float:
        """Excess cosine: sum of the real parts over the number of positions."""
        return float(self.excess.real.sum() / self.lengths.sum())


@dataclass(frozen=True)
class MatchedPairing(Pairing):
    """Every document with itself. `sums` (3, D): sums of z1 conj z2, of z1 and of z2 over each document."""

    sums: np.ndarray

    @property
    def n(self) -> int:
        """Positions."""
        return int(self.lengths.sum())

    @property
    def mean(self) -> complex:
        """Mean of exp(i (phi_1 - phi_2)): its length is R, its angle the mean direction."""
        return complex(self.sums[0].sum() / self.n)

    @property
    def independent_length(self) -> float:
        """R_0 = |mean z1| |mean z2|: the mean resultant length if the two models were independent."""
        return float(abs(self.sums[1].sum() / self.n) * abs(self.sums[2].sum() / self.n))


@dataclass(frozen=True)
class PairTable:
    """Terms of every ordered pair of documents that can be partners; shapes (D, P).

    Column p of the document at place i of its block is the document at place i + p (cyclically); column 0 is the
    document itself. `partners` is -1 where a block is narrower. `shift_covariance` (D, P, 3), or None where it was
    not asked for.
    """

    partners: np.ndarray
    lengths: np.ndarray
    excess: np.ndarray
    shift_covariance: np.ndarray | None
    blocks: tuple[np.ndarray, ...]


def length_blocks(lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    """Documents sorted by length and cut into blocks of at least min(8, D): partners come from one block."""
    order = np.argsort(lengths, kind="stable")
    n_blocks = max(1, order.size // BLOCK_DOCUMENTS)
    return tuple(np.array_split(order, n_blocks))


def true_pairing(z1: Rows, z2: Rows, offsets: Offsets) -> MatchedPairing:
    """Every document with itself, chunk by chunk.

    Parameters: `z1`, `z2` unit phasors of matched rows; `offsets` (D + 1,).
    """
    lengths = lengths_of(offsets)
    sums = np.empty((3, lengths.size), dtype=np.complex128)
    covariance = np.empty((lengths.size, 3))
    for documents in document_chunks(offsets):
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        first, second = z1[rows], z2[rows]
        starts = offsets[documents] - rows.start
        for total, values in zip(sums, (first * np.conj(second), first, second), strict=True):
            total[documents] = np.add.reduceat(values, starts)
        within = np.append(starts, first.size)
        covariance[documents] = _shift_covariances(centred(first, within), centred(second, within), within)
    return MatchedPairing(lengths, sums[0] - sums[1] * np.conj(sums[2]) / lengths, covariance, sums)


def _shift_covariances(z1: np.ndarray, z2: np.ndarray, offsets: Offsets) -> np.ndarray:
    """Shift covariance of each document, (D, 3), from centred phasors: one transform for all of one length.

    float32 is enough once the mean is gone: its error is 1e-6 of the covariance.
    """
    lengths = lengths_of(offsets)
    power, pseudo = np.zeros(lengths.size), np.zeros(lengths.size, dtype=np.complex128)
    narrow = z1.astype(np.complex64), z2.astype(np.complex64)
    order = np.argsort(lengths, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        n = int(lengths[members[0]])
        rows = offsets[members][:, None] + np.arange(n)
        first, second = (fft.fft(z[rows], axis=1, overwrite_x=True)[:, 1:] for z in narrow)
        cross = first * np.conj(second)
        power[members] = np.einsum("mk,mk->m", cross, np.conj(cross)).real
        pseudo[members] = np.einsum("mk,mk->m", cross, cross[:, ::-1])
    return _covariance(power, pseudo, lengths)


def _covariance(power: np.ndarray, pseudo: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """E|C|^2 and E C^2, times n^2, as Var Re, Var Im, Cov; (..., 3)."""
    twice = 2.0 * np.square(n, dtype=np.float64)
    return np.stack([(power + pseudo.real) / twice, (power - pseudo.real) / twice, pseudo.imag / twice], axis=-1)


def pair_table(z1: Rows, z2: Rows, offsets: Offsets, *, shift_moments: bool = True) -> PairTable:
    """Terms of every pair of documents within a length block, the true pairs among them.

    Parameters: `z1`, `z2` unit phasors of matched rows; `offsets` (D + 1,); `shift_moments`: covariances over
    circular shifts as well, which cost two transforms per pair.
    """
    lengths = lengths_of(offsets)
    blocks = length_blocks(lengths)
    shape = (lengths.size, max(block.size for block in blocks))
    partners = np.full(shape, -1, dtype=np.int64)
    common = np.zeros(shape, dtype=np.int64)
    excess = np.zeros(shape, dtype=np.complex128)
    covariance = np.zeros((*shape, 3)) if shift_moments else None
    for block in blocks:
        places = np.mod(np.arange(block.size)[:, None] + np.arange(block.size), block.size)
        width = slice(0, block.size)
        mine = lengths[block]
        first, second = (padded(z, block, offsets) for z in (z1, z2))
        of_pairs = np.minimum(mine[:, None], mine)
        partners[block, width] = block[places]
        common[block, width] = np.take_along_axis(of_pairs, places, axis=1)
        excess[block, width] = np.take_along_axis(cross_excess(first, second, mine), places, axis=1)
        if covariance is not None:
            moments = _block_moments(first, second, mine)
            covariance[block, width] = np.take_along_axis(moments, places[:, :, None], axis=1)
    return PairTable(partners, common, excess, covariance, blocks)


def padded(rows: Rows, block: np.ndarray, offsets: Offsets) -> np.ndarray:
    """The rows of a block's documents, zeros behind the shorter ones, (m, longest)."""
    found = [rows[slice(int(offsets[d]), int(offsets[d + 1]))] for d in block]
    table = np.zeros((block.size, max(row.size for row in found)), dtype=found[0].dtype)
    for row, values in zip(table, found, strict=True):
        row[: values.size] = values
    return table


def cross_excess(first: np.ndarray, second: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Centred sums of every pair of rows, both cropped to the shorter: (m, T) twice -> (m, m).

    sum a conj b - (sum a)(conj sum b) / n over the common n positions. Products with the padding are zero, and the
    sums of the cropped rows are looked up in running sums: centring at the crop makes the padding harmless.
    """
    n = np.minimum(lengths[:, None], lengths)
    sums1 = np.take_along_axis(np.cumsum(first, axis=1), n - 1, axis=1)
    sums2 = np.take_along_axis(np.cumsum(second, axis=1), n - 1, axis=1).T
    return first @ np.conj(second).T - sums1 * np.conj(sums2) / n


def _block_moments(first: np.ndarray, second: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Shift covariance of every pair of rows, cropped to the shorter, (m, m, 3).

    |G|^2 and G_k G_-k are products of one factor per row: all pairs of equal length are two matrix products.
    """
    moments = np.zeros((lengths.size, lengths.size, 3))
    for n in np.unique(lengths):
        long = np.flatnonzero(lengths >= n)
        factors = []
        for z in (first, second):
            cropped = z[long, :n] - z[long, :n].mean(axis=1, keepdims=True)
            spectrum = fft.fft(cropped.astype(np.complex64), axis=1, overwrite_x=True)[:, 1:]
            factors.append((spectrum.real**2 + spectrum.imag**2, spectrum * spectrum[:, ::-1]))
        power = factors[0][0] @ factors[1][0].T
        pseudo = factors[0][1] @ np.conj(factors[1][1]).T
        exact = lengths[long] == n
        pairs = exact[:, None] | exact
        target = np.ix_(long, long)
        covariance = _covariance(power.astype(np.float64), pseudo.astype(np.complex128), int(n))
        moments[target] = np.where(pairs[:, :, None], covariance, moments[target])
    return moments


def derangements(blocks: tuple[np.ndarray, ...], n: int, rng: np.random.Generator) -> np.ndarray:
    """Columns (n, D) into a PairTable: blocks are shuffled and shifted by one, so no document keeps its partner."""
    columns = np.zeros((n, sum(block.size for block in blocks)), dtype=np.int8)
    for block in blocks:
        if block.size < 2:
            continue
        places = rng.permuted(np.tile(np.arange(block.size, dtype=np.int8), (n, 1)), axis=1)
        partner_places = np.roll(places, 1, axis=1)
        step = np.empty_like(places)
        np.put_along_axis(step, places.astype(np.intp), np.mod(partner_places - places, block.size), axis=1)
        columns[:, block] = step
    return columns


def pairing_at(table: PairTable, columns: np.ndarray) -> Pairing:
    """The pairing that takes column `columns[d]` for document d; the table must hold shift moments."""
    rows = np.arange(columns.size)
    assert table.shift_covariance is not None
    return Pairing(table.lengths[rows, columns], table.excess[rows, columns], table.shift_covariance[rows, columns])


def kappas_at(table: PairTable, columns: np.ndarray) -> np.ndarray:
    """Excess cosine of each derangement; `columns` (n, D) -> (n,)."""
    excess, positions = np.zeros(len(columns)), np.zeros(len(columns), dtype=np.int64)
    for block in table.blocks:
        rows, chosen = block[None, :], columns[:, block]
        excess += table.excess.real[rows, chosen].sum(axis=1)
        positions += table.lengths[rows, chosen].sum(axis=1)
    return excess / positions
