"""One model's predictions carried over to another tokenizer's tokens of the same text, by character offsets."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import Offsets, spread


@dataclass(frozen=True)
class Spans:
    """Characters of each token, documents one behind the other.

    `start` and `end` (n,) count code points of the token's own document, `end` is the one behind the token;
    `offsets` (D + 1,) says which rows each document has. A document may have none.
    """

    start: np.ndarray
    end: np.ndarray
    offsets: Offsets


def align(
    target: Spans, source: Spans, *, surprisal: np.ndarray, predictions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the source tokens' model says of the target tokens, each value of shape (n_target,), NaN where nothing.

    Use it where two tokenizers cut the same texts differently. The assumption that fails first: within a source
    token, surprisal is spread evenly over its characters.

    Parameters
    ----------
    target, source : spans of the same D documents. Source tokens are in reading order; where tokens share a
        character (the bytes of one code point), each has an equal part of it, in order.
    surprisal : surprisal of each source token in nats, (n_source,).
    predictions : further values of each source token, (n_source,) each, e.g. the entropy at its position.

    Returns
    -------
    `surprisal`: the sum over source tokens of their surprisal times the share of their characters that the target
    token has; NaN where the target begins or ends outside the source tokens; 0 for an empty span. And every entry of
    `predictions`: that of the source token that the target's first character belongs to.

    Raises
    ------
    ValueError
        Where documents differ in number, or source tokens are not in reading order.
    """
    if target.offsets.size != source.offsets.size:
        raise ValueError(f"spans must have as many documents, got {target.offsets.size - 1}, {source.offsets.size - 1}")
    base = _character_base(target, source)
    start, end = _on_one_line(target, base)
    wide = source.end > source.start
    source_start, source_end = (side[wide] for side in _on_one_line(source, base))
    if (source_start[1:] < source_end[:-1]).any():
        raise ValueError("source tokens must be in reading order and share no more than single characters")
    place = np.searchsorted(source_start, start, side="right") - 1
    covered = (target.start >= 0) & (target.end >= target.start) & (place >= 0)
    covered[covered] = start[covered] < source_end[place[covered]]
    last_end = np.full(base.size, -np.inf)
    np.maximum.at(last_end, _document_of_row(source)[wide], source_end)
    whole = covered & (end <= spread(last_end, target.offsets))
    total = np.full(start.size, np.nan)
    before, after = _cumulative(np.stack([start[whole], end[whole]]), source_start, source_end, surprisal[wide])
    total[whole] = after - before
    return {"surprisal": total} | {name: _taken(values[wide], place, covered) for name, values in predictions.items()}


def _taken(values: np.ndarray, place: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Values at places, NaN where nothing covers."""
    found = np.full(place.size, np.nan)
    found[covered] = values[place[covered]]
    return found


def _cumulative(at: np.ndarray, start: np.ndarray, end: np.ndarray, surprisal: np.ndarray) -> np.ndarray:
    """Surprisal of all text before each place: linear within a token, level between tokens."""
    token = np.searchsorted(start, at, side="right") - 1
    share = np.minimum((at - start[token]) / (end[token] - start[token]), 1)
    before = np.cumsum(surprisal) - surprisal
    return before[token] + share * surprisal[token]


def _document_of_row(spans: Spans) -> np.ndarray:
    return spread(np.arange(spans.offsets.size - 1), spans.offsets)


def _character_base(*tokenisations: Spans) -> np.ndarray:
    """Where each document begins, (D,), when all stand on one line of characters with a free one in between."""
    width = np.ones(tokenisations[0].offsets.size - 1)
    for spans in tokenisations:
        np.maximum.at(width, _document_of_row(spans), np.maximum(spans.start, spans.end) + 1.0)
    return np.cumsum(width) - width


def _on_one_line(spans: Spans, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends on one line of characters, float64; a character that several tokens touch is split evenly.

    A document whose spans are not in reading order keeps them whole.
    """
    shift = spread(base, spans.offsets)
    start, end = spans.start + shift, spans.end + shift
    wide = np.flatnonzero((spans.end > spans.start) & (spans.start >= 0))
    first, last = start[wide], end[wide] - 1
    document = _document_of_row(spans)[wide]
    backward = (np.diff(document) == 0) & ((np.diff(first) < 0) | (np.diff(last) < 0))
    ordered = ~np.isin(document, document[1:][backward])
    rank, n_touching = _rank_at(first, first, last)
    start[wide[ordered]] += (rank / n_touching)[ordered]
    rank, n_touching = _rank_at(last, first, last)
    end[wide[ordered]] = (last + (rank + 1) / n_touching)[ordered]
    return start, end


def _rank_at(character: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The i-th token's rank among those that touch the i-th character, and their number (at least 1)."""
    n_before = np.searchsorted(last, character, side="left")
    n_touching = np.searchsorted(first, character, side="right") - n_before
    return np.arange(first.size) - n_before, np.maximum(n_touching, 1)
