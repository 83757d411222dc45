"""Token positions of a serving stack's log, whatever its format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brf_exp.submission.fault import Place, fault
from brf_exp.submission.token_ids import Token, shown_token

Listed = tuple[Token, float]


@dataclass(frozen=True)
class Position:
    """One position of a document: the realised token, its log-probability (None: not in the log), and the top list.

    `top` is descending and holds every token once. A serving stack may append the realised token to its top list:
    `doubtful` says that the last of `top` may be such a one. `by_text`: tokens are keys of a mapping by their texts, so
    that of several with one text a single one is left.
    """

    index: int
    token: Token
    logprob: float | None
    top: tuple[Listed, ...]
    doubtful: bool = False
    by_text: bool = False


@dataclass(frozen=True)
class Document:
    """One response: its name and its positions in order; `n_left_out` further choices of it are no documents."""

    doc_id: str
    where: Place
    positions: tuple[Position, ...]
    n_left_out: int = 0


def at_position(where: Place, index: int) -> Place:
    """The place of a position in a line."""
    return Place(f"{where.file} position {index}")


def descending(entries: Iterable[Listed], where: Place) -> tuple[Listed, ...]:
    """The entries by falling log-probability; InputError where a token is listed twice."""
    top = tuple(sorted(entries, key=lambda entry: -entry[1]))
    seen: set[Token] = set()
    for token, _ in top:
        if token in seen:
            remedy = "Ask the server for token ids or bytes: several of its tokens have this text."
            raise fault(where, "a list of different tokens", f"{shown_token(token)} twice", remedy)
        seen.add(token)
    return top


def is_last(token: Token, top: Sequence[Listed]) -> bool:
    """Whether the token stands last in a top list."""
    return bool(top) and top[-1][0] == token
