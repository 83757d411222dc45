"""Classes of token strings: what kind of text a token is, for tokenizers of any kind."""

import unicodedata

import numpy as np

UNKNOWN, SPACE, NEWLINE, WORD_START, WORD_PART, CAPITAL, DIGIT, PUNCTUATION, OTHER = range(9)


def token_classes(text: str, char_start: np.ndarray, char_end: np.ndarray) -> np.ndarray:
    """Class of each token of a document from the characters it spans, (n,) int8; UNKNOWN for an empty span."""
    of_characters = _character_classes(text)
    n = of_characters.size
    classes = np.full(char_start.size, UNKNOWN, dtype=np.int8)
    first = np.minimum(char_start, max(n - 1, 0))
    inside = (char_end > char_start) & (char_start >= 0) & (char_end <= n)
    if not inside.any():
        return classes
    # A leading blank marks the start of a word: the class is that of the next character.
    leading = (of_characters[first] == SPACE) & (char_end - char_start > 1)
    looked_at = np.minimum(first + leading, n - 1)
    found = of_characters[looked_at]
    starts_word = leading | (looked_at == 0) | np.isin(of_characters[np.maximum(looked_at - 1, 0)], (SPACE, NEWLINE))
    found = np.where((found == WORD_PART) & starts_word, WORD_START, found)
    classes[inside] = found[inside]
    return classes


def _character_classes(text: str) -> np.ndarray:
    known = {character: _class_of(character) for character in set(text)}
    return np.array([known[character] for character in text], dtype=np.int8)


def _class_of(character: str) -> int:
    if character in "\n\r":
        return NEWLINE
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    if category == "Lu":
        return CAPITAL
    if category[0] in "LM":
        return WORD_PART
    if category[0] == "N":
        return DIGIT
    return PUNCTUATION if category[0] == "P" else OTHER
