"""Which documents a corpus setting means, in a fixed order."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice

from brf_exp.config import CorpusConfig
from brf_exp.corpora import stdlib
from brf_exp.corpora.document import Document, Split
from brf_exp.corpora.stored import StoredDocuments
from brf_exp.corpora.tables import read_file, read_hub
from brf_exp.errors import ConfigError, InputError

DOMAINS = ("all", "code", "prose")


def load_documents(corpus: CorpusConfig) -> StoredDocuments:
    """The corpus's documents with a text, in a fixed order, at most `max_documents` of them; on the disk.

    `max_tokens` and `max_document_tokens` count a model's tokens and are applied when the model is run.
    Raises ConfigError for settings that cannot be used and InputError for texts that cannot.
    """
    readers: dict[str, Callable[[CorpusConfig], Iterable[Document]]] = {
        "file": read_file,
        "hub": read_hub,
        "stdlib": _read_stdlib,
    }
    if corpus.name not in readers:
        corpus = replace(corpus, name="file", path=corpus.name)
    if corpus.max_documents is not None and corpus.max_documents < 1:
        raise ConfigError(f"`corpus.max_documents` must be at least 1, got {corpus.max_documents}.")
    documents = (document for document in readers[corpus.name](corpus) if document.text.strip())
    return StoredDocuments(_checked(islice(documents, corpus.max_documents), corpus))


def _checked(documents: Iterable[Document], corpus: CorpusConfig) -> Iterator[Document]:
    """The documents; InputError where there is none, for ids that stand twice, and for text that is not Unicode."""
    where = corpus.path or corpus.id or corpus.name
    met: set[str] = set()
    repeated: set[str] = set()
    for document in documents:
        try:
            document.text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"`corpus` must be valid Unicode, got a lone surrogate in document {document.doc_id!r} of {where!r}."
            ) from None
        (repeated if document.doc_id in met else met).add(document.doc_id)
        yield document
    if not met:
        raise InputError(f"`corpus` must have at least one document with text, got none in {where!r}.")
    if repeated:
        raise InputError(
            f"`corpus` must have unique document ids, got {len(repeated)} repeated in {where!r}, the first "
            f"{min(repeated)!r}. Choose another corpus.id_column."
        )


def _read_stdlib(corpus: CorpusConfig) -> Iterable[Document]:
    """The embedded corpus, prose and code interleaved."""
    splits = sorted(split.value for split in Split)
    if corpus.split not in splits:
        raise ConfigError(f"`corpus.split` must be one of {', '.join(splits)}, got {corpus.split!r}.")
    if corpus.domain not in DOMAINS:
        raise ConfigError(f"`corpus.domain` must be one of {', '.join(DOMAINS)}, got {corpus.domain!r}.")
    return _stdlib(corpus.domain, Split(corpus.split))


@functools.cache
def _stdlib(domain: str, split: Split) -> tuple[Document, ...]:
    """Parsed once per process: a pair reads the same text for each of its models."""
    return tuple(interleaved(list(stdlib.documents(domain, split=split))))


def interleaved(documents: list[Document]) -> list[Document]:
    """Documents in hash order within their domain, the domains mixed evenly: any prefix has its share of each."""
    order: dict[str, tuple[Fraction, str]] = {}
    for domain in sorted({document.domain for document in documents}):
        members = sorted((d.doc_id for d in documents if d.domain == domain), key=_hash)
        for rank, doc_id in enumerate(members):
            order[doc_id] = (Fraction(2 * rank + 1, 2 * len(members)), domain)
    return sorted(documents, key=lambda document: order[document.doc_id])


def _hash(doc_id: str) -> str:
    return hashlib.sha256(f"order:{doc_id}".encode()).hexdigest()
