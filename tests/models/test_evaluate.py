import gzip
import math

import numpy as np
import pytest

from brf_exp.models.evaluate import as_bytes, bits_per_byte, compressed_bits_per_byte


def test_bits_per_byte_by_hand() -> None:
    assert bits_per_byte(8 * math.log(2) * 100, 100) == pytest.approx(8.0)
    assert bits_per_byte(math.log(256), 1) == pytest.approx(8.0)


def test_compressors_of_random_and_of_known_text() -> None:
    rng = np.random.default_rng(0)
    noise = "".join(chr(97 + n) for n in rng.integers(0, 16, 4000))  # 4 bits each
    fresh = compressed_bits_per_byte([noise], [])
    assert 4.0 < fresh["gzip"] < 5.0
    assert 4.0 < fresh["xz"] < 5.0
    seen = compressed_bits_per_byte([noise], [noise, "more"])
    assert seen["xz_primed"] < 0.2 < seen["xz"]
    assert seen["xz"] == fresh["xz"]


def test_texts_are_compressed_one_behind_the_other() -> None:
    found = compressed_bits_per_byte(["naïve ", "text"], [])
    raw = "naïve text".encode()
    assert found["gzip"] == 8 * len(gzip.compress(raw, 9, mtime=0)) / len(raw)


def test_bytes_are_symbols() -> None:
    assert as_bytes("aï").tolist() == [97, 195, 175]
