from pathlib import Path

import pytest

from brf_exp.corpora.document import Document, fingerprint, read_texts, write_texts
from brf_exp.errors import InputError

DOCUMENTS = [Document("a", "naïve 😀\u2028line\x85end\r\n"), Document('b "quoted"', "")]


def test_texts_round_trip(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.jsonl", DOCUMENTS)
    assert read_texts(tmp_path / "texts.jsonl") == {d.doc_id: d.text for d in DOCUMENTS}
    assert (tmp_path / "texts.jsonl").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"doc_id": "c"}', r"^`texts\.jsonl` must have .* in every line, got '{\"doc_id\": \"c\"}' in line 3\.$"),
        ('{"doc_id": 3, "text": "x"}', "in line 3"),
        ("[1, 2]", "in line 3"),
        ("not json", "got 'not json' in line 3"),
        ('{"doc_id": "a", "text": "x"}', r"^`texts\.jsonl` must have unique doc_id, got 'a' again in line 3\.$"),
    ],
)
def test_lines_that_are_not_texts(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    write_texts(path, DOCUMENTS)
    path.write_bytes(path.read_bytes() + line.encode())
    with pytest.raises(InputError, match=message):
        read_texts(path)


def test_fingerprint_is_of_ids_texts_and_order() -> None:
    first, second = Document("a", "bc"), Document("ab", "c")
    seen = {
        fingerprint(documents)
        for documents in ([first], [second], [first, second], [second, first], [Document("a", "bd")], [])
    }
    assert len(seen) == 6
    assert fingerprint([Document("a", "bc", domain="prose")]) == fingerprint([first])
