import ast

import pytest

from brf_exp.corpora import stdlib
from brf_exp.corpora.document import Document, Split


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(stdlib.documents("all"))


def test_two_domains_in_three_splits(documents: list[Document]) -> None:
    for domain in ("prose", "code"):
        for split in (Split.TRAIN, Split.VALIDATION, Split.HELD_OUT):
            assert len([d for d in documents if (d.domain, d.split) == (domain, split)]) >= 10
    assert [d.doc_id for d in documents] == sorted({d.doc_id for d in documents})


def test_split_of_a_subject_is_fixed() -> None:
    assert [stdlib.split_of(name).value for name in ("json", "dataclasses", "argparse", "topic.while")] == [
        "train",
        "held_out",
        "train",
        "train",
    ]


def test_prose_and_code_of_a_subject_are_in_one_split(documents: list[Document]) -> None:
    splits: dict[str, set[Split]] = {}
    for document in documents:
        splits.setdefault(document.doc_id.partition("/")[2], set()).add(document.split)
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize("split", [Split.TRAIN, Split.HELD_OUT])
def test_split_is_a_filter(split: Split, documents: list[Document]) -> None:
    assert list(stdlib.documents("all", split=split)) == [d for d in documents if d.split == split]


def test_no_passage_stands_in_prose_and_code(documents: list[Document]) -> None:
    texts = {d.doc_id: d.text for d in documents}
    docstring = ast.get_docstring(ast.parse((stdlib.Path(ast.__file__)).read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring in texts["prose/ast"]
    assert docstring[:200] not in texts["code/ast"]
    assert "def parse(" in texts["code/ast"]
