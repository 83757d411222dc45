"""Responses of serving stacks: OpenAI-style, vLLM, llama.cpp; docs/dumps.md shows an example of each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from brf_exp.submission import llama_cpp, openai_style, vllm
from brf_exp.submission.choices import independent
from brf_exp.submission.fault import Place, listed, said
from brf_exp.submission.json_lines import Record, list_at, object_of
from brf_exp.submission.positions import Document, Position

# Ids that servers make up: prefixed (chatcmpl-...), UUIDs with and without hyphens, words of Together and the like.
MADE_BY_SERVER: Final = re.compile(
    r"(chatcmpl|chat|cmpl|completion|batch_req|resp|req|gen|msg)[-_].*"
    r"|[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}"
    r"|o?[0-9A-Za-z]{6,}-([0-9A-Za-z]{4,}-)?[0-9a-f]{16}"
)
LONGEST_NAME: Final = 200
GIVEN: Final = ("doc_id", "custom_id")
OF_SERVERS: Final = ("id", "request_id")


@dataclass(frozen=True)
class Name:
    """What a response's documents are called; `by_id` says that its `id` or `request_id` does it."""

    text: str
    by_id: bool = False


def documents(record: Record, number: int, where: Place, *, numbered: bool = False) -> Iterator[Document]:
    """The documents of one response: one, or one per prompt where several were scored.

    A document's name is the record's `doc_id` or `custom_id`, an `id` or `request_id` that no server made up (none
    where `numbered`), or the number of the line.

    Raises
    ------
    InputError
        Where the response has no log-probabilities in a known form; names the line, and the position where known.
    """
    name = name_of(record, number, numbered=numbered).text
    body = _body(record, where)
    choices = _choices(body, where)
    if not any(choices.values()):
        raise said(where, f"must hold log-probabilities, got only {listed(sorted(body))}. See docs/dumps.md.")
    n_left_out = _n_choices(body) - len(choices)
    for index, positions in choices.items():
        called = name if len(choices) == 1 else f"{name}/{index}"
        yield Document(called, where, tuple(positions), n_left_out)
        n_left_out = 0


def name_of(record: Record, number: int, *, numbered: bool = False) -> Name:
    """The name of a response, which is the `number`-th."""
    for key in GIVEN if numbered else GIVEN + OF_SERVERS:
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        is_name = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME
        if is_name and (key in GIVEN or not MADE_BY_SERVER.fullmatch(str(value))):
            return Name(str(value), by_id=key in OF_SERVERS)
    return Name(f"line-{number:05d}")


def _body(record: Record, where: Place) -> Record:
    """The response itself, taken out of what a batch interface wraps around it."""
    for key in ("response", "body"):
        if isinstance(record.get(key), dict):
            record = object_of(record[key], where, key)
    return record


def _n_choices(body: Record) -> int:
    """How many choices or outputs a response has."""
    found = next((body[key] for key in ("outputs", "choices") if key in body), None)
    return max(1, len(found)) if isinstance(found, list) else 1


def _choices(body: Record, where: Place) -> dict[int, list[Position]]:
    """The positions of each choice that is a document, by its index; by the first form that fits."""
    if "completion_probabilities" in body or "probs" in body:
        return {0: llama_cpp.positions(body, where)}
    if "outputs" in body:
        output = (list_at(body, "outputs", where) or [{}])[0]
        return {0: vllm.request_output(body, object_of(output, where, "outputs"), where)}
    if "choices" not in body:
        return {0: _choice(body, body, where)}
    choices = [object_of(choice, where, "choices") for choice in list_at(body, "choices", where)]
    positions = [_choice(body, choice, where) for choice in choices]
    return {index: positions[index] for index in independent(body, choices, positions)}


def _choice(body: Record, choice: Record, where: Place) -> list[Position]:
    """One choice: the prompt's positions where they are scored, then the completion's."""
    logprobs: Any = choice.get("logprobs")
    prompt = choice if choice.get("prompt_logprobs") is not None else body
    before: list[Position] = []
    offset = 0
    if prompt.get("prompt_logprobs") is not None and not openai_style.is_echo(logprobs):
        before = vllm.prompt_positions(prompt, where)
        offset = len(prompt["prompt_logprobs"])
    return before + openai_style.positions(logprobs, offset, where)
