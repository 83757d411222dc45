"""The `logprobs` of OpenAI-style completions: `content` of chat, and the parallel lists of the older interface."""

from typing import Any, Final

from brf_exp.submission.fault import Place, fault, listed, said
from brf_exp.submission.json_lines import Record, list_at, number, object_of, text_of, whole_number
from brf_exp.submission.positions import Position, at_position, descending, is_last
from brf_exp.submission.token_ids import Token, token_of

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


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
    return Position(index, token, _score(item.get("logprob"), where, "logprob"), top)


def _score(value: Any, where: Place, name: str) -> float | None:
    """The realised token's log-probability; None where the log has null for it."""
    return None if value is None else number(value, where, name)


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
    _check_none_fell_together(found, where)
    return found


def _check_none_fell_together(found: list[Position], where: Place) -> None:
    """Lists by text that are shorter than those of other positions have lost a token to another of the same text.

    A server lists k tokens, and the realised one beside them: no list of a response is shorter than k.
    """
    longest = max((len(position.top) for position in found), default=0)
    k = longest - all(position.doubtful for position in found if len(position.top) == longest)
    short = [str(position.index) for position in found if position.by_text and len(position.top) < k]
    if short:
        sentence = (
            f"must list {k} tokens at every position, got fewer at {listed(short)}: tokens of one text fall together. "
            "Ask for token ids (return_tokens_as_token_ids)."
        )
        raise said(at_position(where, int(short[0])), sentence)


def _parallel_position(token: Any, score: Any, listing: Any, where: Place, index: int) -> Position:
    """One position of the parallel lists."""
    realised = token_of(text_of(token, where, "tokens"))
    entries = object_of(listing, where, "top_logprobs").items()
    top = descending([(token_of(text), number(value, where, "top_logprobs")) for text, value in entries], where)
    by_text = any(not isinstance(token, int) for token, _ in top)
    broken = next((text for text, _ in entries if by_text and REPLACEMENT in text), None)
    if broken is not None:
        remedy = "Ask for token ids (return_tokens_as_token_ids): all tokens that are no text have this one."
        raise fault(where, "a list of tokens that their texts tell apart", broken, remedy)
    known = _score(score, where, "token_logprobs")
    return Position(index, realised, known, top, doubtful=is_last(realised, top), by_text=by_text)
