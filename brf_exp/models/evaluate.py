"""How well held-out text is predicted, in bits per byte: the measure, and compressors to hold a model against."""

import gzip
import lzma
import math
from collections.abc import Sequence

import numpy as np

LEVEL = 9
N_BYTES = 256


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per UTF-8 byte of a text that costs so many nats."""
    return nats / math.log(2) / n_bytes


def compressed_bits_per_byte(held_out: Sequence[str], training: Sequence[str]) -> dict[str, float]:
    """Sizes of the held-out texts, one behind the other, after `gzip -9` and `xz -9`, in bits per byte.

    `xz_primed` is what the held-out texts add to the compressed training texts: xz then has seen what a model has.
    """
    text, seen = "".join(held_out).encode(), "".join(training).encode()
    sizes = {
        "gzip": len(gzip.compress(text, LEVEL, mtime=0)),
        "xz": _xz_size(text),
        "xz_primed": _xz_size(seen + text) - _xz_size(seen),
    }
    return {name: 8 * size / len(text) for name, size in sizes.items()}


def _xz_size(raw: bytes) -> int:
    return len(lzma.compress(raw, preset=LEVEL))


def as_bytes(text: str) -> np.ndarray:
    """A text's UTF-8 bytes as symbols."""
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
