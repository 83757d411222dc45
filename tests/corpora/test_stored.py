import errno
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from brf_exp.config import CorpusConfig
from brf_exp.corpora.document import Document, Split, fingerprint
from brf_exp.corpora.load import load_documents
from brf_exp.corpora.stored import StoredDocuments
from brf_exp.errors import InputError

DOCUMENTS = [
    Document("a", 'naïve 😀,\r\n"second"\u2028', "prose", Split.HELD_OUT),
    Document("b/1", ""),
    Document("", "x" * 100_000, "code"),
]


def test_are_what_was_stored_at_every_pass() -> None:
    stored = StoredDocuments(iter(DOCUMENTS))
    assert list(stored) == list(stored) == DOCUMENTS
    assert [a == b for a, b in zip(stored, stored, strict=True)] == [True] * 3  # two passes at a time
    assert (len(stored), stored.fingerprint) == (3, fingerprint(DOCUMENTS))
    assert (list(StoredDocuments(())), StoredDocuments(()).fingerprint) == ([], fingerprint([]))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_large_table_is_not_in_memory(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("datasets")
    path, n, text = tmp_path / f"large.{suffix}", 4_000, "words " * 4_000
    with path.open("w") as file:
        file.write("text\n" if suffix == "csv" else "")
        file.writelines(f"{text}{i}\n" if suffix == "csv" else f'{{"text": "{text}{i}"}}\n' for i in range(n))
    corpus = CorpusConfig(name="file", path=str(path))
    load_documents(CorpusConfig(name="file", path=str(path), max_documents=1))  # imports what it needs
    tracemalloc.start()
    stored = load_documents(corpus)
    assert sum(len(document.text) for document in stored) > 96_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(stored) == n
    assert peak < 48_000_000  # `datasets` reads JSON in pieces of 10 MB, three times over


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(documents: Iterable[Document]) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("brf_exp.corpora.stored.fingerprint", full)
    with pytest.raises(InputError, match=r"must have room for the corpus's texts, got a full disk\. Free some, or set"):
        StoredDocuments(DOCUMENTS)
