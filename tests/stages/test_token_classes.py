"""Classes of token strings: by example, and against a look at one token at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brf_exp.stages import token_classes as t

NAMES = "unknown space newline word_start word_part capital digit punctuation other".split()


def named(text: str, spans: list[tuple[int, int]]) -> list[str]:
    starts, ends = (np.array([span[end] for span in spans], dtype=np.int32) for end in (0, 1))
    return [NAMES[number] for number in t.token_classes(text, starts, ends)]


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("word", (0, 4), "word_start"),
        ("word", (1, 4), "word_part"),
        ("a word", (1, 6), "word_start"),  # with its leading blank
        ("a word", (2, 6), "word_start"),  # behind a blank of its own
        ("a\nword", (2, 6), "word_start"),
        ("a Word", (1, 6), "capital"),
        ("aWord", (1, 5), "capital"),
        ("a 12", (1, 4), "digit"),
        ("x²", (1, 2), "digit"),
        ("a (b", (1, 4), "punctuation"),
        ("“q”", (2, 3), "punctuation"),
        ("(b)", (1, 2), "word_part"),
        ("a  b", (1, 2), "space"),
        ("a  b", (1, 3), "space"),
        ("a\tb", (1, 2), "space"),
        ("a\u2028b", (1, 2), "space"),
        ("a\nb", (1, 2), "newline"),
        ("a \nb", (1, 3), "newline"),
        ("a\r\nb", (1, 3), "newline"),
        ("a \U0001f600", (1, 3), "other"),
        ("a+b", (1, 2), "other"),
        ("naïve", (2, 3), "word_part"),
        ("e\u0301t", (1, 2), "word_part"),  # a combining accent
        ("中文", (0, 1), "word_start"),
        ("word", (2, 2), "unknown"),
        ("word", (3, 2), "unknown"),
        ("word", (3, 5), "unknown"),
        ("word", (-1, 2), "unknown"),
        ("word", (9, 12), "unknown"),
        ("", (0, 0), "unknown"),
        ("", (0, 4), "unknown"),
        (" ", (0, 1), "space"),
    ],
)
def test_by_example(text: str, span: tuple[int, int], expected: str) -> None:
    assert named(text, [span]) == [expected]
    around = [(0, len(text)), span, (0, 0), span]
    assert named(text, around)[1::2] == [expected, expected]


def one_at_a_time(text: str, start: int, end: int) -> str:
    """The class of one token, straight from the definition."""
    if not 0 <= start < end <= len(text):
        return "unknown"
    kinds = [NAMES[number] for number in t._character_classes(text)]
    leads = kinds[start] == "space" and end - start > 1
    place = start + leads
    begins = leads or place == 0 or kinds[place - 1] in ("space", "newline")
    return "word_start" if kinds[place] == "word_part" and begins else kinds[place]


@given(
    text=st.text(st.sampled_from("ab A9.,\n\té中+\U0001f600"), max_size=12),
    cuts=st.lists(st.tuples(st.integers(-2, 14), st.integers(-2, 14)), min_size=1, max_size=8),
)
def test_all_tokens_at_once_are_each_by_itself(text: str, cuts: list[tuple[int, int]]) -> None:
    assert named(text, cuts) == [one_at_a_time(text, start, end) for start, end in cuts]


def test_no_tokens() -> None:
    assert named("word", []) == []


def test_the_classes_are_small_numbers() -> None:
    made = t.token_classes("a 1", np.array([0, 1]), np.array([1, 3]))
    assert made.dtype == np.int8
    assert len(NAMES) == t.OTHER + 1
