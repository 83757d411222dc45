"""Document pairings of two models' phases: the true one, and derangements that keep only the position.

The excess cosine of a pair of documents (d of model 1, e of model 2), cropped to the shorter, is
T (mean[z1 conj z2] - mean[z1] conj mean[z2]) = sum z1 conj z2 - (sum z1)(conj sum z2) / T,
which is also the sum less its mean over all circular shifts. Everything the test needs about a pairing is a
sum of such terms and of their shift covariances, so each pair is computed once and every draw is a look-up.
"""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import Offsets, lengths_of

BLOCK_DOCUMENTS = 8


@dataclass(frozen=True)
class PairTable:
    """Per ordered pair of documents that can be partners; shapes (D, P), column 0 being the true partner.

    `partners` the partner's index (-1: none); `lengths` common positions; `excess` the centred sum
    (complex); `shift_covariance` (D, P, 3): Var Re, Var Im, Cov(Re, Im) of the sum over circular shifts.
    """

    partners: np.ndarray
    lengths: np.ndarray
    excess: np.ndarray
    shift_covariance: np.ndarray
    blocks: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Pairing:
    """One choice of a partner per document: its terms, each of shape (D,) (covariance (D, 3))."""

    lengths: np.ndarray
    excess: np.ndarray
    shift_covariance: np.ndarray

    @property
    def kappa(self) -> float:
        """Excess cosine: sum of the real parts over the number of positions."""
        return float(self.excess.real.sum() / self.lengths.sum())


def length_blocks(lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    """Documents sorted by length and cut into blocks of at least min(8, D): partners come from one block."""
    order = np.argsort(lengths, kind="stable")
    n_blocks = max(1, order.size // BLOCK_DOCUMENTS)
    return tuple(np.array_split(order, n_blocks))


def excess_term(z1: np.ndarray, z2: np.ndarray) -> tuple[complex, np.ndarray]:
    """Centred sum of z1 conj z2 and its covariance over circular shifts, for two equally long rows.

    By Parseval the shift moments need no inverse transform: with G = FFT(z1) conj FFT(z2) less its zero
    frequency (which is the mean over shifts), E|C|^2 = sum |G|^2 / T^2 and E C^2 = sum G_k G_-k / T^2.
    """
    n = z1.size
    spectrum = np.fft.fft(z1) * np.conj(np.fft.fft(z2))
    mean = spectrum[0] / n
    excess = spectrum.sum() / n - mean
    spectrum[0] = 0.0
    power = float((spectrum.real**2 + spectrum.imag**2).sum()) / n**2
    pseudo = complex((spectrum * np.concatenate([spectrum[:1], spectrum[:0:-1]])).sum()) / n**2
    return complex(excess), np.array([(power + pseudo.real) / 2, (power - pseudo.real) / 2, pseudo.imag / 2])


def pair_table(z1: np.ndarray, z2: np.ndarray, offsets: Offsets) -> PairTable:
    """Terms of the true pairs and of every other pair within a length block.

    Parameters: `z1`, `z2` unit phasors exp(i phi), shape (n,), rows matched; `offsets` (D + 1,).
    """
    lengths = lengths_of(offsets)
    blocks = length_blocks(lengths)
    width = max(block.size for block in blocks)
    shape = (lengths.size, width)
    partners = np.full(shape, -1, dtype=np.int64)
    common = np.zeros(shape, dtype=np.int64)
    excess = np.zeros(shape, dtype=np.complex128)
    covariance = np.zeros((*shape, 3))
    for block in blocks:
        for place, d in enumerate(block):
            # The true partner first, then the others of the block in a fixed order.
            for column, e in enumerate(np.roll(block, -place)):
                n = min(lengths[d], lengths[e])
                row1 = z1[offsets[d] : offsets[d] + n]
                row2 = z2[offsets[e] : offsets[e] + n]
                partners[d, column], common[d, column] = e, n
                excess[d, column], covariance[d, column] = excess_term(row1, row2)
    return PairTable(partners, common, excess, covariance, blocks)


def true_pairing(table: PairTable) -> Pairing:
    """Every document with itself."""
    return Pairing(table.lengths[:, 0], table.excess[:, 0], table.shift_covariance[:, 0])


def derangements(table: PairTable, n: int, rng: np.random.Generator) -> np.ndarray:
    """Columns (n, D) into a PairTable: blocks are shuffled and shifted by one, so no document keeps its partner."""
    columns = np.zeros((n, table.lengths.shape[0]), dtype=np.int64)
    for block in table.blocks:
        if block.size < 2:
            continue
        places = rng.permuted(np.tile(np.arange(block.size), (n, 1)), axis=1)
        partner_places = np.roll(places, 1, axis=1)
        step = np.empty_like(places)
        np.put_along_axis(step, places, np.mod(partner_places - places, block.size), axis=1)
        columns[:, block] = step
    return columns


def pairing_at(table: PairTable, columns: np.ndarray) -> Pairing:
    """The pairing that takes column `columns[d]` for document d."""
    rows = np.arange(columns.size)
    return Pairing(table.lengths[rows, columns], table.excess[rows, columns], table.shift_covariance[rows, columns])


def kappas_at(table: PairTable, columns: np.ndarray) -> np.ndarray:
    """Excess cosine of each derangement; `columns` (n, D) -> (n,)."""
    rows = np.arange(columns.shape[1])
    return table.excess.real[rows, columns].sum(axis=1) / table.lengths[rows, columns].sum(axis=1)
