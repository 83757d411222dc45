"""`prompt_logprobs` and completion `logprobs` keyed by token id, as vLLM writes them."""

from typing import Any, Final

from brf_exp.submission.fault import Place, fault
from brf_exp.submission.json_lines import Record, list_at, number, object_of, whole_number
from brf_exp.submission.positions import Position, at_position, descending, is_last
from brf_exp.submission.token_ids import Token

Ranked = tuple[Token, float, int | None]
ORDER_LOST: Final = "Add prompt_token_ids to the response, and keep the order of keys."


def prompt_positions(record: Record, where: Place) -> list[Position]:
    """The positions of `prompt_logprobs`; the first token, which nothing predicts, is null there."""
    scored = list_at(record, "prompt_logprobs", where)
    tokens = record.get("prompt_token_ids")
    return _positions(scored, tokens, 0, where)


def request_output(record: Record, output: Record, where: Place) -> list[Position]:
    """The positions of a dumped RequestOutput: its prompt's, then one output's."""
    before: list[Position] = []
    offset = 0
    if record.get("prompt_logprobs") is not None:
        before = prompt_positions(record, where)
        offset = len(record["prompt_logprobs"])
    if output.get("logprobs") is None:
        return before
    return before + _positions(list_at(output, "logprobs", where), output.get("token_ids"), offset, where)


def _positions(scored: list[Any], tokens: Any, offset: int, where: Place) -> list[Position]:
    """One position per entry; `tokens` are the realised ids, or None."""
    if tokens is not None and (not isinstance(tokens, list) or len(tokens) != len(scored)):
        got = len(tokens) if isinstance(tokens, list) else tokens
        raise fault(where, f"{len(scored)} token ids, one per position", got, "Dump the whole response.")
    found = []
    for index, entry in enumerate(scored):
        if index or offset or entry is not None:
            place = at_position(where, offset + index)
            ranked = [_ranked(key, value, place) for key, value in object_of(entry, place, "logprobs").items()]
            realised = _realised(ranked, None if tokens is None else tokens[index], place)
            found.append(_position(ranked, realised, offset + index, place))
    return found


def _ranked(key: str, value: Any, where: Place) -> Ranked:
    """Token id, log-probability and rank (where given) of one entry."""
    if not (key.isascii() and key.isdigit() and len(key) <= 10):
        raise fault(where, "keyed by token ids", key, "Dump prompt_logprobs as vLLM returns it.")
    if not isinstance(value, dict):
        return int(key), number(value, where, key), None
    rank = value.get("rank")
    score = number(value.get("logprob"), where, key)
    return int(key), score, None if rank is None else whole_number(rank, where, "rank")


def _realised(ranked: list[Ranked], token: Any, where: Place) -> Ranked:
    """The entry of the realised token: the given one, else the first, as vLLM writes it ahead of the top list."""
    if not ranked:
        raise fault(where, "at least two tokens", "none", "Ask for prompt_logprobs of 2 or more.")
    if token is not None:
        found = next((entry for entry in ranked if entry[0] == token), None)
        if found is None:
            raise fault(where, "a list that has the realised token", token, "Dump the whole response.")
        return found
    ranks = [entry[2] for entry in ranked[1:]]
    if None not in ranks and ranks != sorted(ranks):  # type: ignore[type-var]
        raise fault(where, "ordered as vLLM wrote it, the realised token first", "another order", ORDER_LOST)
    return ranked[0]


def _position(ranked: list[Ranked], realised: Ranked, index: int, where: Place) -> Position:
    """The position; ranks tell whether the realised token stands in the top list or beyond."""
    top = descending([(token, score) for token, score, _ in ranked], where)
    rank = realised[2]
    last = is_last(realised[0], top)
    if last and rank is not None and rank > len(top):
        return Position(index, realised[0], realised[1], top[:-1])
    return Position(index, realised[0], realised[1], top, doubtful=last and rank is None)
