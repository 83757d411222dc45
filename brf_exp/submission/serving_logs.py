"""Responses of serving stacks: OpenAI-style, vLLM, llama.cpp; docs/dumps.md shows an example of each."""

import re
from collections.abc import Iterator
from typing import Any, Final

from brf_exp.submission import llama_cpp, openai_style, vllm
from brf_exp.submission.fault import Place, listed, said
from brf_exp.submission.json_lines import Record, list_at, object_of
from brf_exp.submission.positions import Document, Position

MADE_BY_SERVER: Final = re.compile(r"(chatcmpl|cmpl|batch_req|resp|gen)[-_].*")
LONGEST_NAME: Final = 200


def documents(record: Record, number: int, where: Place) -> Iterator[Document]:
    """The documents of one response, one per choice.

    A document's name is the record's `doc_id` or `custom_id`, an `id` or `request_id` that no server made up, or the
    number of the line.

    Raises
    ------
    InputError
        Where the response has no log-probabilities in a known form; names the line, and the position where known.
    """
    name = _name(record, number)
    body = _body(record, where)
    choices = list(_choices(body, where))
    if not any(choices):
        raise said(where, f"must hold log-probabilities, got only {listed(sorted(body))}. See docs/dumps.md.")
    for index, positions in enumerate(choices):
        yield Document(name if len(choices) == 1 else f"{name}/{index}", where, tuple(positions))


def _name(record: Record, number: int) -> str:
    """The document's name."""
    for key in ("doc_id", "custom_id", "id", "request_id"):
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and not MADE_BY_SERVER.fullmatch(value):
            return value
    return f"line-{number:05d}"


def _body(record: Record, where: Place) -> Record:
    """The response itself, taken out of what a batch interface wraps around it."""
    for key in ("response", "body"):
        if isinstance(record.get(key), dict):
            record = object_of(record[key], where, key)
    return record


def _choices(body: Record, where: Place) -> Iterator[list[Position]]:
    """The positions of each choice, by the first form that fits."""
    if "completion_probabilities" in body or "probs" in body:
        yield llama_cpp.positions(body, where)
    elif "outputs" in body:
        for output in list_at(body, "outputs", where) or [{}]:
            yield vllm.request_output(body, object_of(output, where, "outputs"), where)
    elif "choices" in body:
        for choice in list_at(body, "choices", where):
            yield _choice(body, object_of(choice, where, "choices"), where)
    else:
        yield _choice(body, body, where)


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
