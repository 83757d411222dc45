"""What a capture of generated text keeps of it: whole texts, which part is the prompt, and the tokens of its rows."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from brf_exp.corpora.document import Document, fingerprint
from brf_exp.errors import InputError
from brf_exp.storage.captures import document_starts, read_part, replacing, sha256_of

# What is known before anything is generated; only an unfinished capture has it.
PROMPTS = "prompts.jsonl"
TOKEN_COLUMNS = ("token_id", "char_start", "char_end")


@dataclass(frozen=True)
class GeneratedText:
    """A line of texts.jsonl: the whole text, and how many of its characters and which tokens are the prompt."""

    doc_id: str
    text: str
    prompt_chars: int
    prompt_ids: list[int]


def read_generated_texts(path: Path) -> Iterator[GeneratedText]:
    """The texts of a capture in its order; InputError where they are not of generated text."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield GeneratedText(**json.loads(line))
            except (TypeError, ValueError):
                raise InputError(
                    f"`{path}` must have the prompt of every text, got {line.strip()[:60]!r}. "
                    "Capture again with capture.mode=generation."
                ) from None


def write_generated_texts(path: Path, texts: Iterable[GeneratedText]) -> dict[str, str]:
    """Write texts.jsonl; the fingerprint of the texts and the hash of the file, as capture.json has them."""

    def written() -> Iterator[Document]:
        for text in texts:
            file.write(json.dumps(asdict(text), ensure_ascii=False) + "\n")
            yield Document(text.doc_id, text.text)

    with replacing(path) as unfinished:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            made = fingerprint(written())
        return {"fingerprint": made, "texts_sha256": sha256_of(unfinished)}


def part_documents(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Documents of a part file: name, token ids and character spans of their rows."""
    table = read_part(path, ["doc_id", *TOKEN_COLUMNS])
    codes = table.column("doc_id").combine_chunks().dictionary_encode()
    starts, names = document_starts(pa.record_batch({"doc_id": codes}))
    columns = [table.column(name).to_numpy() for name in TOKEN_COLUMNS]
    for name, first, stop in zip(names, starts, np.append(starts[1:], table.num_rows), strict=True):
        ids, char_start, char_end = (column[first:stop] for column in columns)
        yield name, ids, char_start, char_end
