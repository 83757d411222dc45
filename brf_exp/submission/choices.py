"""Which of a response's choices are documents: those of one prompt are samples of one text, and not independent."""

from collections.abc import Sequence
from typing import Any, Final

from brf_exp.submission import openai_style
from brf_exp.submission.json_lines import Record
from brf_exp.submission.positions import Position

# Two prompts of one response that begin with so many tokens alike are taken for one.
SAME_BEGINNING: Final = 8


def independent(body: Record, choices: Sequence[Record], positions: Sequence[list[Position]]) -> list[int]:
    """Indices of the choices that are documents: the first one, and the first of every further prompt that is scored.

    Several prompts in one request come back as several choices, as several samples of one prompt do. Where the prompts
    are scored their tokens tell the difference; where they are not, all but the first are left out.
    """
    if len(choices) < 2 or not all(_has_prompt(body, choice) for choice in choices):
        return [0] if choices else []
    kept: dict[Any, int] = {}
    for index, (choice, found) in enumerate(zip(choices, positions, strict=True)):
        kept.setdefault(_prompt(choice, found), index)
    return list(kept.values())


def _has_prompt(body: Record, choice: Record) -> bool:
    """Whether a choice has the positions of a prompt of its own."""
    if body.get("prompt_logprobs") is not None:
        return False
    return choice.get("prompt_logprobs") is not None or openai_style.is_echo(choice.get("logprobs"))


def _prompt(choice: Record, positions: Sequence[Position]) -> tuple[Any, ...]:
    """The prompt's tokens, as far as they are known to be its."""
    scored = choice.get("prompt_logprobs")
    n_known = len(scored) if isinstance(scored, list) else SAME_BEGINNING
    return tuple(position.token for position in positions if position.index < n_known)
