"""The text of generated tokens, and the characters each of them stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Continuation:
    """Text behind a prompt, and the code-point span of each of its tokens in that text, (n,) each."""

    text: str
    char_start: np.ndarray
    char_end: np.ndarray


def continuation(
    tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], token_ids: Sequence[int]
) -> Continuation:
    """What generated tokens add to a prompt that ends with a whole character.

    Every token's share is what the decoded text gains by it, so that the pieces join to the whole. A token that begins
    or ends within a character spans all of it, as the tokenizer's own offsets do. Bytes that are no UTF-8 become
    U+FFFD. Special tokens (an end of text among them) have no text and span nothing.
    """
    decoded = [_decode(tokenizer, [*prompt_ids, *token_ids[:n]]) for n in range(len(token_ids) + 1)]
    whole = decoded[-1]
    # What a prefix has in common with the whole stays as it is; behind it stands a character begun but not ended.
    # Some decoders undo whole characters while the next one is unfinished: what was settled stays settled.
    settled = np.maximum.accumulate([len(commonprefix((text, whole))) for text in decoded])
    is_open = np.array([len(text) for text in decoded]) > settled
    start = settled[:-1]
    end = np.minimum(settled + is_open, len(whole))[1:]
    special = np.isin(token_ids, tokenizer.all_special_ids)
    # A byte that completes nothing (an unfinished character followed by another) belongs to the one before it.
    start = np.where(special | (end > start), start, np.maximum(end - 1, settled[0]))
    offset = int(settled[0])
    spans = [(values - offset).astype(np.int32) for values in (start, np.where(special, start, end))]
    return Continuation(whole[offset:], *spans)


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text
