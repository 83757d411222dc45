"""Rows of texts that are there: the model is run over each document and scores the tokens it has."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from brf_exp.capture.forward import score
from brf_exp.capture.parts import Part, PlannedPart, part_table, planned_parts
from brf_exp.capture.tokenise import StoredTokens, TokenStore, check_vocabulary, iter_tokenised
from brf_exp.config import CaptureConfig, CorpusConfig
from brf_exp.corpora.document import TEXTS, Document, write_texts
from brf_exp.errors import InputError
from brf_exp.models.load import LoadedModel
from brf_exp.storage.captures import replacing, sha256_of


class TeacherForced:
    """A RowSource of documents; their texts and tokens are on the disk once it is prepared, not in memory."""

    plan: Sequence[PlannedPart] = ()

    def __init__(
        self, loaded: LoadedModel, documents: Iterable[Document], corpus: CorpusConfig, settings: CaptureConfig
    ) -> None:
        self._loaded, self._corpus, self._settings = loaded, corpus, settings
        self._documents: Iterable[Document] = documents
        self._n_unscored = 0 if loaded.beginning_id is not None else 1
        self._tokens: StoredTokens | None = None
        self._texts: dict[str, str] = {}

    def prepare(self, folder: Path) -> None:
        """Tokenise, and write the texts of what is scored. InputError for a corpus that gives nothing to score."""
        with TokenStore(folder) as tokens:
            with replacing(folder / TEXTS) as unfinished:
                written = write_texts(unfinished, self._tokenised(tokens))
                self._texts = {"fingerprint": written, "texts_sha256": sha256_of(unfinished)}
            self._documents, self._tokens = (), tokens.finished()
        rows = (self._tokens.lengths - self._n_unscored).tolist()
        self.plan = planned_parts(rows, rows_per_part=self._settings.rows_per_part)

    def _tokenised(self, tokens: TokenStore) -> Iterator[Document]:
        """The documents that are scored, cut as the corpus settings say; their tokens go to the store."""
        name, found = self._loaded.reference.name, False
        for document in iter_tokenised(
            self._documents,
            self._loaded.tokenizer,
            n_unscored=self._n_unscored,
            max_tokens=self._corpus.max_tokens,
            max_document_tokens=self._corpus.max_document_tokens,
        ):
            check_vocabulary([document], vocabulary_size=self._loaded.true_vocabulary_size, name=name)
            tokens.add(document)
            found = True
            yield document.document
        if not found:
            raise InputError(f"`corpus` must have text that gives {name} a token to score, got none.")

    def compute(self, part: PlannedPart, on_tokens: Callable[[int], None]) -> Callable[[], pa.Table]:
        """Score the documents of a part."""
        assert self._tokens is not None, "prepare comes first"
        documents = [self._tokens.document(index) for index in part.documents]
        beginning = [] if self._loaded.beginning_id is None else [self._loaded.beginning_id]
        scores = score(
            self._loaded,
            [np.concatenate([np.array(beginning, np.int32), document.token_ids]) for document in documents],
            k=self._settings.k,
            batch_tokens=self._settings.batch_tokens,
            min_context_tokens=self._settings.min_context_tokens,
            context_tokens=self._settings.context_tokens,
            temperatures=self._settings.temperatures,
            on_tokens=on_tokens,
        )
        return partial(
            part_table, documents, scores, n_unscored=self._n_unscored, temperatures=self._settings.temperatures
        )

    def finish(self, folder: Path, parts: Sequence[Part]) -> None:
        """Nothing is left to write; the texts must still be those of these rows."""
        if sha256_of(folder / TEXTS) != self._texts["texts_sha256"]:
            raise InputError(
                f"`{folder / TEXTS}` must be left alone while a capture is made, got other content. "
                "The same command writes it again."
            )

    def facts(self) -> dict[str, Any]:
        """How the rows were made."""
        return {
            "mode": "teacher_forced",
            "temperatures": [1.0, *self._settings.temperatures],
            "first_position": self._n_unscored,
            "corpus": {**asdict(self._corpus), **self._texts},
        }
