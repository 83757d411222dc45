"""The `logprobs` of OpenAI-style completions: `content` of chat, and the parallel lists of the older interface."""

from typing import Any

from brf_exp.submission.fault import Place, fault
from brf_exp.submission.json_lines import Record, list_at, number, object_of, text_of, whole_number
from brf_exp.submission.positions import Position, at_position, descending, is_last
from brf_exp.submission.token_ids import Token, token_of


def positions(logprobs: Any, offset: int, where: Place) -> list[Position]:
    """The positions of a choice's `logprobs`, counted from `offset`; none where it is null.

    Raises
    ------
    InputError
        Naming line and position of what cannot be read.
    """
    if logprobs is None:
        return []
    if isinstance(logprobs, list):
        return content_positions(logprobs, offset, where)
    logprobs = object_of(logprobs, where, "logprobs")
    if "tokens" in logprobs:
        return _parallel_positions(logprobs, offset, where)
    content = logprobs.get("content")
    return [] if content is None else content_positions(list_at(logprobs, "content", where), offset, where)


def is_echo(logprobs: Any) -> bool:
    """Whether the parallel lists begin with the prompt, whose first token has no log-probability."""
    scores = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    return isinstance(scores, list) and bool(scores) and scores[0] is None


def content_positions(content: list[Any], offset: int, where: Place) -> list[Position]:
    """Objects with token, bytes, logprob and top_logprobs, one per position."""
    return [_content_position(item, offset + index, where) for index, item in enumerate(content)]


def _content_position(item: Any, index: int, where: Place) -> Position:
    """One such object."""
    where = at_position(where, index)
    item = object_of(item, where, "logprobs")
    if "logprob" not in item and ("prob" in item or "top_probs" in item):
        remedy = "Ask again without post_sampling_probs."
        raise fault(where, "log-probabilities before sampling", "probabilities after it", remedy)
    token = _token(item, where)
    entries = [object_of(entry, where, "top_logprobs") for entry in list_at(item, "top_logprobs", where)]
    given = [(_token(entry, where), number(entry.get("logprob"), where, "logprob")) for entry in entries]
    top = descending(given, where)
    # vLLM lists the realised token first, in place of the last of the top where it is not among them.
    if is_last(token, top) and len(top) > 1 and given[0][0] == token:
        top = top[:-1]
    return Position(index, token, number(item.get("logprob"), where, "logprob"), top)


def _token(item: Record, where: Place) -> Token:
    """The id where there is one, else the bytes, else the text."""
    given = item.get("id")
    if isinstance(given, int) and not isinstance(given, bool):
        return whole_number(given, where, "id")
    token = token_of(text_of(item.get("token"), where, "token"))
    octets = item.get("bytes")
    if isinstance(token, int) or not octets:
        return token
    try:
        if not isinstance(octets, list):  # a number would be that many zeros
            raise TypeError
        return bytes(octets)
    except (TypeError, ValueError, OverflowError) as error:
        raise fault(where, "a list of numbers from 0 to 255 at bytes", octets, "Dump the whole response.") from error


def _parallel_positions(logprobs: Record, offset: int, where: Place) -> list[Position]:
    """Lists tokens, token_logprobs and top_logprobs; the first token of all may be without."""
    tokens, scores, tops = (list_at(logprobs, name, where) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not len(tokens) == len(scores) == len(tops):
        got = f"{len(tokens)}, {len(scores)} and {len(tops)}"
        raise fault(where, "tokens, token_logprobs and top_logprobs of one length", got, "Dump the whole response.")
    found = []
    for index, (token, score, top) in enumerate(zip(tokens, scores, tops, strict=True)):
        if index or offset or score is not None:
            found.append(_parallel_position(token, score, top, at_position(where, offset + index), offset + index))
    return found


def _parallel_position(token: Any, score: Any, listed: Any, where: Place, index: int) -> Position:
    """One position of the parallel lists."""
    realised = token_of(text_of(token, where, "tokens"))
    entries = object_of(listed, where, "top_logprobs").items()
    top = descending([(token_of(text), number(value, where, "top_logprobs")) for text, value in entries], where)
    return Position(index, realised, number(score, where, "token_logprobs"), top, doubtful=is_last(realised, top))
