"""Files of a submission, spoiled: bytes flipped, cut, doubled and swapped, and words that readers stumble over."""

from collections.abc import Callable
from typing import Final

import numpy as np

WORDS: Final = (
    b"NaN",
    b"-inf",
    b"1e999",
    b"-0",
    b"",
    b"1_000",
    b"0x10",
    b"9" * 400,
    b"2147483648",
    b"-1",
    b'"',
    b"'",
    b"\\",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "\u202e\u200b\ufeff".encode(),
    b"\r",
    b"\n\n",
    b",,,,",
    b"[" * 300,
    b"{" * 300,
    b"null",
    b"true",
    b'"\\ud800"',
    b"=cmd()",
    b"<script>",
    b"&a [*a]",
    b"!!python/object:x",
    b"'\\UFFFFFFFF'",
    b"../../x",
    b"%s%n",
    b"position",
    b"logit_1",
    b"logit_99999999999999",
    b"logsumexp_t" + b"9" * 300,
)
Mutation = Callable[[bytearray, np.random.Generator], None]


def flip(data: bytearray, rng: np.random.Generator) -> None:
    """Change single bits."""
    for place in rng.integers(len(data), size=rng.integers(1, 8)):
        data[place] ^= 1 << int(rng.integers(8))


def cut(data: bytearray, rng: np.random.Generator) -> None:
    """Leave a piece out, often the end."""
    first = int(rng.integers(len(data)))
    last = len(data) if rng.random() < 0.5 else min(len(data), first + int(rng.integers(1, 64)))
    del data[first:last]


def double(data: bytearray, rng: np.random.Generator) -> None:
    """Repeat a piece."""
    first = int(rng.integers(len(data)))
    piece = data[first : first + int(rng.integers(1, 200))]
    data[first:first] = piece * int(rng.integers(1, 20))


def put_word(data: bytearray, rng: np.random.Generator) -> None:
    """Insert a word, or write it over what is there."""
    word = WORDS[int(rng.integers(len(WORDS)))]
    first = int(rng.integers(len(data) + 1))
    last = first + (len(word) if rng.random() < 0.5 else 0)
    data[first:last] = word


def replace_cell(data: bytearray, rng: np.random.Generator) -> None:
    """Put a word between two separators."""
    places = [index for index, byte in enumerate(data) if byte in b",\n:"]
    if len(places) < 2:
        return
    pick = int(rng.integers(len(places) - 1))
    data[places[pick] + 1 : places[pick + 1]] = WORDS[int(rng.integers(len(WORDS)))]


def swap_lines(data: bytearray, rng: np.random.Generator) -> None:
    """Exchange, drop or repeat lines."""
    lines = bytes(data).split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        here, there = (int(place) for place in rng.integers(len(lines), size=2))
        lines[here] = lines[there]
        if rng.random() < 0.3 and len(lines) > 1:
            del lines[there]
    data[:] = b"\n".join(lines)


def change_number(data: bytearray, rng: np.random.Generator) -> None:
    """Overwrite four or eight bytes with an extreme integer: lengths and offsets of binary formats."""
    width = int(rng.choice([1, 2, 4, 8]))
    if len(data) < width:
        return
    first = int(rng.integers(len(data) - width + 1))
    value = int(rng.choice([0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1])) % 256**width
    data[first : first + width] = value.to_bytes(width, str(rng.choice(["little", "big"])))  # type: ignore[arg-type]


MUTATIONS: Final[tuple[Mutation, ...]] = (flip, cut, double, put_word, replace_cell, swap_lines, change_number)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes after one to three mutations."""
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if made:
            MUTATIONS[int(rng.integers(len(MUTATIONS)))](made, rng)
    return bytes(made)
