from pathlib import Path

import numpy as np
import pytest

from brf_exp.capture.tokenise import check_vocabulary, tokenise
from brf_exp.corpora.document import Document
from brf_exp.errors import InputError
from brf_exp.models.tiny import make_tokenizer

TEXT = "naïve 😀 words\u2028and more words, more words"


@pytest.fixture(scope="module", params=[True, False], ids=["bytes", "merges"])
def tokenizer(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    documents = [Document("a", TEXT * 3, "prose"), Document("b", "def f(): return f" * 5, "code")]
    return make_tokenizer(documents, byte_level=request.param)


def test_offsets_are_code_points_of_the_text(tokenizer) -> None:  # type: ignore[no-untyped-def]
    (found,) = tokenise([Document("a", TEXT)], tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None)
    assert found.document.text == TEXT
    covered = set()
    for token_id, start, end in zip(found.token_ids, found.char_start, found.char_end, strict=True):
        assert 0 <= start < end <= len(TEXT)
        covered |= set(range(start, end))
        piece = tokenizer.decode([int(token_id)])
        if "\ufffd" not in piece:  # a whole number of characters
            assert piece == TEXT[start:end]
    assert covered == set(range(len(TEXT)))
    assert (np.diff(found.char_start) >= 0).all()


def test_texts_are_not_opened_by_special_tokens(tokenizer) -> None:  # type: ignore[no-untyped-def]
    (found,) = tokenise([Document("a", TEXT)], tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None)
    assert tokenizer.decode(found.token_ids.tolist()) == TEXT


def test_cut_at_exactly_max_tokens(tokenizer) -> None:  # type: ignore[no-untyped-def]
    documents = [Document(name, TEXT) for name in "abcd"]
    (whole, *_) = tokenise(documents, tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None)
    limit = 2 * whole.n_tokens + 5
    found = tokenise(documents, tokenizer, n_unscored=0, max_tokens=limit, max_document_tokens=None)
    assert [d.n_tokens for d in found] == [whole.n_tokens, whole.n_tokens, 5]
    last = found[-1]
    assert last.document.text == TEXT[: last.char_end[-1]]
    assert [d.document.doc_id for d in found] == ["a", "b", "c"]


def test_unscored_first_token_does_not_count(tokenizer) -> None:  # type: ignore[no-untyped-def]
    documents = [Document(name, TEXT) for name in "abcd"]
    found = tokenise(documents, tokenizer, n_unscored=1, max_tokens=10, max_document_tokens=5)
    assert [d.n_tokens for d in found] == [5, 5, 3]


def test_documents_without_a_scored_position_are_left_out(tokenizer) -> None:  # type: ignore[no-untyped-def]
    documents = [Document("a", ""), Document("b", TEXT), Document("c", "a")]
    found = tokenise(documents, tokenizer, n_unscored=1, max_tokens=None, max_document_tokens=None)
    assert [d.document.doc_id for d in found] == ["b"]


def test_document_cut(tokenizer) -> None:  # type: ignore[no-untyped-def]
    (found,) = tokenise([Document("a", TEXT)], tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=7)
    assert found.n_tokens == found.char_start.size == found.char_end.size == 7
    assert len(found.document.text) == found.char_end[-1] < len(TEXT)


def test_ids_without_a_logit(tokenizer) -> None:  # type: ignore[no-untyped-def]
    found = tokenise([Document("a", TEXT)], tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None)
    check_vocabulary(found, vocabulary_size=len(tokenizer), name="m")
    with pytest.raises(InputError, match=r"`m` must have a logit for every token id of its tokenizer, got id \d+ in "):
        check_vocabulary(found, vocabulary_size=20, name="m")


def test_reference_tokenizer_offsets() -> None:
    folder = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "models" / "stories260k"
    if not folder.is_dir():
        pytest.skip("no reference models here")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    (found,) = tokenise(
        [Document("a", "Once 😀 é")], tokenizer, n_unscored=0, max_tokens=None, max_document_tokens=None
    )
    assert (found.char_start[0], found.char_end[-1]) == (0, 8)
    assert found.token_ids[0] != tokenizer.bos_token_id
    assert ((found.char_end - found.char_start) >= 1).all()
