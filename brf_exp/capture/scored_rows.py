"""Rows of tokens that another model generated, scored by a model that reads the same token ids."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from brf_exp.capture.forward import score
from brf_exp.capture.generated_texts import GeneratedText, part_documents, read_generated_texts, write_generated_texts
from brf_exp.capture.parts import Part, PlannedPart, part_table, planned_parts
from brf_exp.capture.tokenise import StoredTokens, TokenisedDocument, TokenStore
from brf_exp.config import CaptureConfig
from brf_exp.corpora.document import TEXTS, Document
from brf_exp.errors import ConfigError
from brf_exp.models.load import LoadedModel
from brf_exp.storage.captures import Capture, open_capture


class ScoredRows:
    """A RowSource of tokens that another model generated: the same rows, scored by this one.

    `max_tokens` keeps the first rows only: the last document is cut.
    """

    plan: Sequence[PlannedPart] = ()

    def __init__(
        self, loaded: LoadedModel, source: Capture, settings: CaptureConfig, *, max_tokens: int | None
    ) -> None:
        self._loaded, self._source, self._settings, self._max_tokens = loaded, source, settings, max_tokens
        self._tokens: StoredTokens | None = None
        self._n_prompt: list[int] = []
        self._texts: dict[str, str] = {}
        if loaded.tokenizer_fingerprint != source.manifest.get("tokenizer_fingerprint"):
            raise other_tokenizer(loaded.reference.name, source.model_name)

    def prepare(self, folder: Path) -> None:
        """Read the tokens and write the texts as far as they are scored."""
        self._n_prompt = []
        with TokenStore(folder) as tokens:
            self._texts = write_generated_texts(folder / TEXTS, self._cut_documents(tokens))
            self._tokens = tokens.finished()
        rows = (self._tokens.lengths - self._n_prompt).tolist()
        self.plan = planned_parts(rows, rows_per_part=self._settings.rows_per_part)

    def _cut_documents(self, tokens: TokenStore) -> Iterator[GeneratedText]:
        """The texts; prompts and tokens go to the file of tokens."""
        folder, left = self._source.folder, self._max_tokens
        rows = (row for part in self._source.manifest["parts"] for row in part_documents(folder / part["name"]))
        for text, (_, ids, char_start, char_end) in zip(read_generated_texts(folder / TEXTS), rows, strict=True):
            n = ids.size if left is None else min(left, ids.size)
            if n < 1:
                return
            left = None if left is None else left - n
            n_prompt = len(text.prompt_ids)
            self._n_prompt.append(n_prompt)
            columns = [np.array(text.prompt_ids, np.int32), np.zeros(n_prompt, np.int32), np.zeros(n_prompt, np.int32)]
            columns = [np.concatenate([p, c[:n]]) for p, c in zip(columns, (ids, char_start, char_end), strict=True)]
            tokens.add(TokenisedDocument(Document(text.doc_id, ""), *columns))
            kept = text.text if n == ids.size else text.text[: int(char_end[n - 1])]
            yield GeneratedText(text.doc_id, kept, text.prompt_chars, text.prompt_ids)

    def compute(self, part: PlannedPart, on_tokens: Callable[[int], None]) -> Callable[[], pa.Table]:
        """Score the documents of a part, and keep what stands behind the prompts."""
        assert self._tokens is not None, "prepare comes first"
        documents = [self._tokens.document(index) for index in part.documents]
        n_prompt = [self._n_prompt[index] for index in part.documents]
        beginning = [] if self._loaded.beginning_id is None else [self._loaded.beginning_id]
        sequences = [np.concatenate([np.array(beginning, np.int32), document.token_ids]) for document in documents]
        n_scored = sum(sequence.size - 1 for sequence in sequences)
        scores = score(
            self._loaded,
            sequences,
            k=self._settings.k,
            batch_tokens=self._settings.batch_tokens,
            min_context_tokens=self._settings.min_context_tokens,
            context_tokens=self._settings.context_tokens,
            temperatures=self._settings.temperatures,
            on_tokens=_in_proportion(on_tokens, of=n_scored, total=part.rows),
        )
        ends = np.cumsum([sequence.size - 1 for sequence in sequences])
        kept = [np.arange(e - (d.n_tokens - n), e) for e, d, n in zip(ends, documents, n_prompt, strict=True)]
        return partial(
            part_table,
            documents,
            scores.rows(np.concatenate(kept)),
            n_unscored=n_prompt,
            temperatures=self._settings.temperatures,
        )

    def finish(self, folder: Path, parts: Sequence[Part]) -> None:
        """Nothing is left to write."""

    def facts(self) -> dict[str, Any]:
        """How the rows were made."""
        source = self._source.manifest
        return {
            "mode": "teacher_forced",
            "temperatures": [1.0, *self._settings.temperatures],
            "first_position": min(self._n_prompt),
            "generation": source["generation"],
            "tokens_of": {"model": self._source.model_name, "key": source["key"]},
            "corpus": {**source["corpus"], "max_tokens": self._max_tokens, **self._texts},
        }


def open_generated(folder: Path) -> Capture:
    """The capture in a folder; ConfigError where its tokens were not generated."""
    source = open_capture(folder)
    if "generation" not in source.manifest:
        raise ConfigError(
            f"`generation.tokens_of` must be a capture of generated tokens, got one of {source.model_name} with "
            f"mode {source.manifest.get('mode')!r}. Make one with `brf-exp capture capture.mode=generation`."
        )
    return source


def content_of(source: Capture) -> dict[str, Any]:
    """Hashes of the tokens of a capture and of its texts."""
    return {
        "parts": [part["sha256"] for part in source.manifest["parts"]],
        "texts_sha256": source.manifest["corpus"]["texts_sha256"],
    }


def other_tokenizer(name: str, generated_by: str) -> ConfigError:
    """The error of a model that cannot read another's token ids."""
    return ConfigError(
        f"`{name}` must have the tokenizer of {generated_by}, whose generated tokens it is to score, got another one. "
        "Choose models that share their token ids, or capture.mode=teacher_forced."
    )


def _in_proportion(on_tokens: Callable[[int], None], *, of: int, total: int) -> Callable[[int], None]:
    """Tells `total` positions in all to one who is called for `of` of them."""
    done = 0

    def told(n: int) -> None:
        nonlocal done
        before, done = done, done + n
        on_tokens(done * total // of - before * total // of)

    return told
