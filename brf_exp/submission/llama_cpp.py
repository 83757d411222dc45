"""`completion_probabilities` of the llama.cpp server, in its present and its older form."""

import math
from typing import Any, Final

from brf_exp.submission import openai_style
from brf_exp.submission.fault import Place, fault
from brf_exp.submission.json_lines import Record, list_at, number, object_of, text_of
from brf_exp.submission.positions import Position, at_position, descending
from brf_exp.submission.token_ids import token_of

NEUTRAL: Final = {"temperature": 1.0, "temp": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}


def positions(body: Record, where: Place) -> list[Position]:
    """The positions of one response; InputError where its probabilities are those after sampling."""
    name = "completion_probabilities" if "completion_probabilities" in body else "probs"
    items = list_at(body, name, where)
    if items and isinstance(items[0], dict) and "probs" in items[0]:
        _check_sampling(body.get("generation_settings"), where)
        return [_older_position(item, index, at_position(where, index)) for index, item in enumerate(items)]
    return openai_style.content_positions(items, 0, where)


def _check_sampling(settings: Any, where: Place) -> None:
    """The older form gives probabilities under the sampling settings, unless the temperature is negative."""
    if not isinstance(settings, dict) or any(_below_zero(settings.get(name)) for name in ("temperature", "temp")):
        return
    for name, neutral in NEUTRAL.items():
        value = settings.get(name, neutral)
        if isinstance(value, int | float) and not math.isclose(value, neutral) and not (name == "top_k" and value < 0):
            remedy = "Ask again with temperature -1, which leaves probabilities as they are."
            raise fault(where, "probabilities before sampling", f"{name} {value:g}", remedy)


def _below_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0


def _older_position(item: Any, index: int, where: Place) -> Position:
    """{content, probs: [{tok_str, prob}]}: the realised token's probability is known only where it is listed."""
    item = object_of(item, where, "completion_probabilities")
    entries = [object_of(entry, where, "probs") for entry in list_at(item, "probs", where)]
    listed = [(token_of(text_of(e.get("tok_str"), where, "tok_str")), _log(e.get("prob"), where)) for e in entries]
    top = descending(listed, where)
    realised = token_of(text_of(item.get("content"), where, "content"))
    return Position(index, realised, dict(top).get(realised), top)


def _log(value: Any, where: Place) -> float:
    """The logarithm of a probability."""
    probability = number(value, where, "prob")
    if not 0 <= probability <= 1:
        raise fault(where, "a probability from 0 to 1 at prob", probability, "Dump it as the server gave it.")
    return math.log(probability) if probability else -math.inf
