"""Rows of text that a model writes itself: prompts from a corpus, and what the model adds to them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from brf_exp.capture.continuation import continuation
from brf_exp.capture.generated_texts import (
    PROMPTS,
    GeneratedText,
    part_documents,
    read_generated_texts,
    write_generated_texts,
)
from brf_exp.capture.generation import Generated, Prompt, end_ids, generate, require_room, uniforms
from brf_exp.capture.parts import Part, PlannedPart, part_table, planned_parts
from brf_exp.capture.tokenise import StoredTokens, TokenisedDocument, TokenStore, check_vocabulary, iter_tokenised
from brf_exp.config import CaptureConfig, CorpusConfig, GenerationConfig
from brf_exp.corpora.document import TEXTS, Document
from brf_exp.errors import InputError
from brf_exp.models.load import LoadedModel


class GeneratedRows:
    """A RowSource of continuations: each document's first tokens are a prompt, and the model goes on from it.

    At most `corpus.max_tokens` tokens are generated in all: the last document is given fewer. What a document's tokens
    are drawn with depends on the seed and the document's number alone.
    """

    plan: Sequence[PlannedPart] = ()

    def __init__(
        self,
        loaded: LoadedModel,
        documents: Iterable[Document],
        corpus: CorpusConfig,
        settings: CaptureConfig,
        generation: GenerationConfig,
        *,
        seed: int,
    ) -> None:
        require_room(loaded, settings, generation)
        self._loaded, self._corpus, self._settings, self._generation = loaded, corpus, settings, generation
        self._documents: Iterable[Document] = documents
        self._seed = seed
        self._prompts: StoredTokens | None = None
        self._n_new: list[int] = []
        self._texts: dict[str, str] = {}

    def prepare(self, folder: Path) -> None:
        """Tokenise and keep the prompts. InputError for a corpus that gives none."""
        self._n_new = []
        with TokenStore(folder) as tokens:
            write_generated_texts(folder / PROMPTS, self._cut_prompts(tokens))
            self._documents, self._prompts = (), tokens.finished()
        if not self._n_new:
            name = self._loaded.reference.name
            raise InputError(f"`corpus` must have text that gives {name} a prompt to go on from, got none.")
        self.plan = planned_parts(self._n_new, rows_per_part=self._settings.rows_per_part, exact=False)

    def _cut_prompts(self, tokens: TokenStore) -> Iterator[GeneratedText]:
        """The prompts as texts; their tokens, and how many are to be added, are kept."""
        left = self._corpus.max_tokens
        for document in iter_tokenised(
            self._documents,
            self._loaded.tokenizer,
            n_unscored=0,
            max_tokens=None,
            max_document_tokens=self._corpus.max_document_tokens,
        ):
            n_new = self._generation.new_tokens if left is None else min(left, self._generation.new_tokens)
            if n_new < 1:
                return
            prompt = cut_prompt(document, self._generation.prompt_tokens)
            if prompt is not None:
                size, name = self._loaded.true_vocabulary_size, self._loaded.reference.name
                check_vocabulary([prompt], vocabulary_size=size, name=name)
                tokens.add(prompt)
                self._n_new.append(n_new)
                left = None if left is None else left - n_new
                text = prompt.document.text
                yield GeneratedText(prompt.document.doc_id, text, len(text), prompt.token_ids.tolist())

    def compute(self, part: PlannedPart, on_tokens: Callable[[int], None]) -> Callable[[], pa.Table]:
        """Continue the prompts of a part."""
        assert self._prompts is not None, "prepare comes first"
        documents = [self._prompts.document(index) for index in part.documents]
        prompts = [
            Prompt(document.token_ids, uniforms(self._seed, index, self._n_new[index]))
            for index, document in zip(part.documents, documents, strict=True)
        ]
        made = generate(self._loaded, prompts, self._settings, self._generation, on_tokens=on_tokens)
        return partial(_table, documents, made, self._loaded.tokenizer, self._settings.temperatures)

    def finish(self, folder: Path, parts: Sequence[Part]) -> None:
        """Write the texts: prompts and what was added to them."""
        rows = (row for part in parts for row in part_documents(folder / part.name))
        texts = (
            self._continued(prompt, ids)
            for prompt, (_, ids, *_) in zip(read_generated_texts(folder / PROMPTS), rows, strict=True)
        )
        self._texts = write_generated_texts(folder / TEXTS, texts)
        (folder / PROMPTS).unlink(missing_ok=True)

    def _continued(self, prompt: GeneratedText, ids: np.ndarray) -> GeneratedText:
        added = continuation(self._loaded.tokenizer, prompt.prompt_ids, ids.tolist()).text
        return GeneratedText(prompt.doc_id, prompt.text + added, prompt.prompt_chars, prompt.prompt_ids)

    def facts(self) -> dict[str, Any]:
        """How the rows were made."""
        assert self._prompts is not None, "prepare comes first"
        lengths = self._prompts.lengths
        return {
            "mode": "generation",
            "temperatures": [1.0, *self._settings.temperatures],
            "first_position": int(lengths.min()),
            "generation": {
                "by": self._loaded.reference.name,
                "settings": sampling_settings(self._generation),
                "seed": self._seed,
                "end_ids": end_ids(self._loaded),
                "first_positions": [int(lengths.min()), int(lengths.max())],
            },
            "corpus": {**asdict(self._corpus), **self._texts},
        }


def sampling_settings(generation: GenerationConfig) -> dict[str, Any]:
    """What determines generated tokens, besides model, prompts and seed."""
    return {
        name: getattr(generation, name) for name in ("prompt_tokens", "new_tokens", "temperature", "top_k", "top_p")
    }


def cut_prompt(document: TokenisedDocument, n_tokens: int) -> TokenisedDocument | None:
    """At most the first `n_tokens` tokens, so many that none ends within a character; None where there are none."""
    n = min(n_tokens, document.n_tokens)
    while 0 < n < document.n_tokens and document.char_end[n - 1] > document.char_start[n]:
        n -= 1
    if n == 0:
        return None
    text = document.document.text[: int(document.char_end[n - 1])]
    kept = slice(n)
    return TokenisedDocument(
        Document(document.document.doc_id, text),
        document.token_ids[kept],
        document.char_start[kept],
        document.char_end[kept],
    )


def _table(
    prompts: Sequence[TokenisedDocument], made: Generated, tokenizer: Any, temperatures: Sequence[float]
) -> pa.Table:
    whole = [_joined(prompt, ids, tokenizer) for prompt, ids in zip(prompts, made.token_ids, strict=True)]
    n_prompt = [prompt.n_tokens for prompt in prompts]
    return part_table(whole, made.scores, n_unscored=n_prompt, temperatures=temperatures)


def _joined(prompt: TokenisedDocument, ids: np.ndarray, tokenizer: Any) -> TokenisedDocument:
    """A prompt's tokens with those added to it."""
    added, n_chars = continuation(tokenizer, prompt.token_ids.tolist(), ids.tolist()), int(prompt.char_end[-1])
    return TokenisedDocument(
        prompt.document,
        np.concatenate([prompt.token_ids, ids]),
        np.concatenate([prompt.char_start, added.char_start + n_chars]),
        np.concatenate([prompt.char_end, added.char_end + n_chars]),
    )
