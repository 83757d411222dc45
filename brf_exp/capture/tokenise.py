"""Documents as token ids with the characters each came from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.corpora.document import Document
from brf_exp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenisedDocument:
    """One document's tokens, all arrays of shape (n,): ids and the code-point span of each in `document.text`."""

    document: Document
    token_ids: np.ndarray
    char_start: np.ndarray
    char_end: np.ndarray

    @property
    def n_tokens(self) -> int:
        """Tokens, without a beginning token."""
        return int(self.token_ids.size)

    def cut(self, n_tokens: int) -> "TokenisedDocument":
        """The first tokens, and the text they cover."""
        if n_tokens >= self.n_tokens:
            return self
        text = self.document.text[: int(self.char_end[n_tokens - 1])]
        kept = slice(n_tokens)
        return TokenisedDocument(
            replace(self.document, text=text), self.token_ids[kept], self.char_start[kept], self.char_end[kept]
        )


def tokenise(
    documents: Iterable[Document],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    n_unscored: int,
    max_tokens: int | None,
    max_document_tokens: int | None,
) -> list[TokenisedDocument]:
    """Tokenise documents in order until `max_tokens` positions are to be scored.

    Each document is first cut to `max_document_tokens` tokens; the last one is cut so that the scored positions are at
    most `max_tokens` in all. `n_unscored` is how many tokens of each document are not scored (1 without a beginning
    token, else 0). Documents without a scored position are left out.
    """
    kept: list[TokenisedDocument] = []
    left = max_tokens
    for document in documents:
        if left is not None and left <= 0:
            break
        tokenised = _encode(document, tokenizer)
        limits = (max_document_tokens, None if left is None else left + n_unscored)
        tokenised = tokenised.cut(min((limit for limit in limits if limit is not None), default=tokenised.n_tokens))
        n_scored = tokenised.n_tokens - n_unscored
        if n_scored > 0:
            kept.append(tokenised)
            left = None if left is None else left - n_scored
    return kept


def _encode(document: Document, tokenizer: "PreTrainedTokenizerBase") -> TokenisedDocument:
    encoded = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    token_ids = np.asarray(encoded["input_ids"], dtype=np.int32)
    spans = np.asarray(encoded["offset_mapping"], dtype=np.int32).reshape(-1, 2)
    return TokenisedDocument(document, token_ids, spans[:, 0].copy(), spans[:, 1].copy())


def check_vocabulary(documents: Iterable[TokenisedDocument], *, vocabulary_size: int, name: str) -> None:
    """Refuse token ids that the model has no logit for."""
    for tokenised in documents:
        largest = int(tokenised.token_ids.max())
        if largest >= vocabulary_size:
            raise InputError(
                f"`{name}` must have a logit for every token id of its tokenizer, got id {largest} in document "
                f"{tokenised.document.doc_id!r} and {vocabulary_size} logits. Use the model's own tokenizer."
            )
