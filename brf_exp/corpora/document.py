"""What a corpus is made of: documents, and the fingerprint of a list of them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from brf_exp.errors import InputError

TEXTS = "texts.jsonl"


class Split(StrEnum):
    """Which part of a corpus a document belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held_out"
    ALL = "all"


@dataclass(frozen=True)
class Document:
    """One text with its identity; `split` is `all` where a corpus has no split."""

    doc_id: str
    text: str
    domain: str = ""
    split: Split = Split.ALL


def fingerprint(documents: Iterable[Document]) -> str:
    """SHA-256 over ids and texts, in order: equal fingerprints mean equal text."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(_told(document.doc_id) + _told(document.text))
    return digest.hexdigest()


def _told(text: str) -> bytes:
    """A text with its length before it: no two lists of texts are the same bytes."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "big") + raw


def write_texts(path: Path, documents: Iterable[Document]) -> str:
    """Write ids and texts as JSON lines, `{"doc_id": ..., "text": ...}`; returns the fingerprint. One pass."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        return fingerprint(_written(file, documents))


def _written(file: IO[str], documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        file.write(json.dumps({"doc_id": document.doc_id, "text": document.text}, ensure_ascii=False) + "\n")
        yield document


def read_texts(path: Path) -> dict[str, str]:
    """Texts by document id from such JSON lines; InputError names the line that is not one."""
    texts: dict[str, str] = {}
    # A byte-order mark and blank lines are what editors leave behind.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            doc_id, text = _text_line(line, number, path)
            if doc_id in texts:
                raise InputError(f"`{path.name}` must have unique doc_id, got {doc_id!r} again in line {number}.")
            texts[doc_id] = text
    return texts


def _text_line(line: str, number: int, path: Path) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("doc_id", "text")):
        raise InputError(
            f'`{path.name}` must have {{"doc_id": ..., "text": ...}} with two strings in every line, '
            f"got {line.strip()[:60]!r} in line {number}."
        )
    return entry["doc_id"], entry["text"]
