"""Interpolated Kneser-Ney n-grams: what a table of counts knows, beside what a trained model knows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PACKED_BITS = 63


@dataclass(frozen=True)
class _Level:
    """Counts of one order, by packed n-gram: `grams` and `histories` are sorted."""

    grams: np.ndarray
    counts: np.ndarray
    histories: np.ndarray
    totals: np.ndarray
    n_kinds: np.ndarray
    discount: float


@dataclass(frozen=True)
class NgramModel:
    """An interpolated Kneser-Ney model of symbols 0..`n_symbols` - 1; sequences open with `order` - 1 beginnings."""

    order: int
    n_symbols: int
    levels: tuple[_Level, ...]

    @property
    def n_bits(self) -> int:
        """Bits of one packed symbol; the beginning is symbol `n_symbols`."""
        return self.n_symbols.bit_length()

    def log_probabilities(self, sequence: np.ndarray) -> np.ndarray:
        """Natural log-probability of each symbol of a sequence given those before it, shape (n,)."""
        packed = _packed(sequence, order=self.order, n_bits=self.n_bits, beginning=self.n_symbols)
        p = np.full(packed.size, 1.0 / self.n_symbols)
        for order, level in enumerate(self.levels, start=1):
            gram = packed & _mask(order * self.n_bits)
            history = gram >> self.n_bits
            count = _looked_up(level.grams, level.counts, gram)
            total = _looked_up(level.histories, level.totals, history)
            kinds = _looked_up(level.histories, level.n_kinds, history)
            kept = np.maximum(count - level.discount, 0.0) + level.discount * kinds * p
            p = np.divide(kept, total, out=p, where=total > 0)
        return np.asarray(np.log(p))

    def nats(self, sequences: Sequence[np.ndarray]) -> float:
        """What all symbols of the sequences cost together."""
        return -float(sum(self.log_probabilities(sequence).sum() for sequence in sequences))


def fit_ngram(sequences: Sequence[np.ndarray], *, n_symbols: int, order: int = 5) -> NgramModel:
    """Count n-grams up to `order` in sequences of symbols below `n_symbols`.

    The highest order keeps counts, each lower one the number of distinct symbols seen before its n-grams; an n-gram's
    count loses the order's discount n1 / (n1 + 2 n2), which goes to the next lower order, at last to the uniform
    distribution. Raises ValueError where an n-gram does not fit in 63 bits.

    References: Kneser and Ney 1995, doi 10.1109/ICASSP.1995.479394; Chen and Goodman 1999, doi 10.1006/csla.1999.0128.
    """
    n_bits = n_symbols.bit_length()
    if order * n_bits > PACKED_BITS:
        raise ValueError(f"order * {n_bits} bits must be at most {PACKED_BITS}, got order {order}")
    packed = [_packed(s, order=order, n_bits=n_bits, beginning=n_symbols) for s in sequences]
    grams, counts = np.unique(np.concatenate(packed), return_counts=True)
    levels = [_level(grams, counts, n_bits=n_bits)]
    for lower in range(order - 1, 0, -1):
        grams, counts = np.unique(grams & _mask(lower * n_bits), return_counts=True)
        levels.append(_level(grams, counts, n_bits=n_bits))
    return NgramModel(order, n_symbols, tuple(reversed(levels)))


def _level(grams: np.ndarray, counts: np.ndarray, *, n_bits: int) -> _Level:
    histories, first, n_kinds = np.unique(grams >> n_bits, return_index=True, return_counts=True)
    n_ones, n_twos = int((counts == 1).sum()), int((counts == 2).sum())
    discount = n_ones / (n_ones + 2 * n_twos) if n_ones else 0.5
    return _Level(grams, counts, histories, np.add.reduceat(counts, first), n_kinds, discount)


def _packed(sequence: np.ndarray, *, order: int, n_bits: int, beginning: int) -> np.ndarray:
    """Each symbol with the `order` - 1 before it in one integer, the symbol itself in the lowest bits."""
    padded = np.concatenate([np.full(order - 1, beginning), sequence]).astype(np.int64)
    packed = np.zeros(len(sequence), np.int64)
    for offset in range(order):
        packed = (packed << n_bits) | padded[offset : offset + len(sequence)]
    return packed


def _mask(n_bits: int) -> int:
    return (1 << n_bits) - 1


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Value of each wanted key, 0 where it is not among the sorted keys."""
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, values[place], 0)
