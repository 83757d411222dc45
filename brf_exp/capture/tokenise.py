"""Documents as token ids with the characters each came from."""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

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
    return list(
        iter_tokenised(
            documents,
            tokenizer,
            n_unscored=n_unscored,
            max_tokens=max_tokens,
            max_document_tokens=max_document_tokens,
        )
    )


def iter_tokenised(
    documents: Iterable[Document],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    n_unscored: int,
    max_tokens: int | None,
    max_document_tokens: int | None,
) -> Iterator[TokenisedDocument]:
    """The same one by one: only one document's tokens are in memory."""
    left = max_tokens
    for document in documents:
        if left is not None and left <= 0:
            break
        tokenised = _encode(document, tokenizer)
        limits = (max_document_tokens, None if left is None else left + n_unscored)
        tokenised = tokenised.cut(min((limit for limit in limits if limit is not None), default=tokenised.n_tokens))
        n_scored = tokenised.n_tokens - n_unscored
        if n_scored > 0:
            left = None if left is None else left - n_scored
            yield tokenised


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


class TokenStore:
    """Tokens of many documents in a file that vanishes with its user, not in memory: 12 bytes per token in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed with the store
        self._doc_ids: list[str] = []
        self._lengths: list[int] = []

    def __enter__(self) -> "TokenStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, document: TokenisedDocument) -> None:
        """Put a document behind the others."""
        columns = (document.token_ids, document.char_start, document.char_end)
        self._file.write(np.stack([column.astype(np.int32) for column in columns]).tobytes())
        self._doc_ids.append(document.document.doc_id)
        self._lengths.append(document.n_tokens)

    def finished(self) -> "StoredTokens":
        """What was added, to be read; that lives on when the store is closed."""
        self._file.flush()
        lengths = np.array(self._lengths, dtype=np.int64)
        file = os.fdopen(os.dup(self._file.fileno()), "rb")
        stored = StoredTokens(tuple(self._doc_ids), lengths, np.concatenate([[0], np.cumsum(12 * lengths)]), file)
        weakref.finalize(stored, file.close)
        return stored


@dataclass(frozen=True)
class StoredTokens:
    """Documents by number as TokenStore took them; their texts were put down elsewhere and are empty here.

    `lengths` (D,) tokens of each document; `offsets` (D + 1,) the bytes of `file` where its three rows begin. Read, not
    mapped: pages of a mapped file would count as memory of this process.
    """

    doc_ids: tuple[str, ...]
    lengths: np.ndarray
    offsets: np.ndarray
    file: IO[bytes]

    def document(self, index: int) -> TokenisedDocument:
        """One document, read from the disk."""
        first, stop = self.offsets[index : index + 2].tolist()
        rows = np.frombuffer(os.pread(self.file.fileno(), stop - first, first), dtype=np.int32).reshape(3, -1)
        return TokenisedDocument(Document(self.doc_ids[index], ""), rows[0], rows[1], rows[2])
