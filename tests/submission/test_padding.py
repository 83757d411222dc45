"""Saved logits of padded batches: rows of padding are none, wherever the padding is and however it is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from brf_exp.submission.tables import open_source

OUTCOMES, PAD, END = 30, 29, 28
LENGTHS = (6, 2, 4)


def texts(seed: int = 0) -> list[np.ndarray]:
    """Tokens of three documents, none of them that of padding."""
    rng = np.random.default_rng(seed)
    return [np.concatenate([rng.permutation(END)[: length - 1], [END]]) for length in LENGTHS]


def forward(side: str, seed: int = 1) -> dict[str, np.ndarray]:
    """A forward pass over the documents, padded on a side; the rows of a document are the same on either."""
    rng, longest = np.random.default_rng(seed), max(LENGTHS)
    found = {
        "logits": np.full((len(LENGTHS), longest, OUTCOMES), 7.0, np.float32),
        "input_ids": np.full((len(LENGTHS), longest), PAD),
        "attention_mask": np.zeros((len(LENGTHS), longest), int),
    }
    for number, tokens in enumerate(texts()):
        at = slice(0, len(tokens)) if side == "right" else slice(longest - len(tokens), longest)
        found["logits"][number, at] = rng.normal(size=(len(tokens), OUTCOMES))
        found["input_ids"][number, at] = tokens
        found["attention_mask"][number, at] = 1
    return found


def read(folder: Path, **arrays: Any) -> pd.DataFrame:
    """The rows that are read from these arrays."""
    np.savez(folder / "a.npz", **arrays)
    source = open_source(folder, "a.npz")
    return pa.Table.from_batches([batch.table for batch in source.batches(list(source.names))]).to_pandas()


def expected() -> tuple[list[str], list[int], list[int]]:
    """Document, position and token of every row of a forward pass."""
    rows = [(f"seq-{n:05d}", at, int(t)) for n, text in enumerate(texts()) for at, t in enumerate(text) if at]
    names, positions, tokens = zip(*rows, strict=True)
    return list(names), list(positions), list(tokens)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", [int, bool, np.float32])
def test_the_mask_tells_padding_of_either_side(side: str, kind: type, tmp_path: Path) -> None:
    arrays = forward(side)
    found = read(tmp_path, **arrays | {"attention_mask": arrays["attention_mask"].astype(kind)})
    names, positions, tokens = expected()
    assert found["doc_id"].tolist() == names
    assert found["position"].tolist() == positions
    assert found["token_id"].tolist() == tokens
    other = read(tmp_path, **forward("left" if side == "right" else "right"))
    pd.testing.assert_frame_equal(found, other)


@pytest.mark.parametrize("told", ["lengths", "pad_token_id", "eos and pad", "eos for both"])
def test_padding_behind_is_told_in_other_ways(told: str, tmp_path: Path) -> None:
    arrays = forward("right")
    mask = arrays.pop("attention_mask")
    if told == "lengths":
        arrays["lengths"] = mask.sum(axis=1)
    elif told == "eos for both":
        arrays["input_ids"][mask == 0] = END
        arrays["eos_token_id"] = np.array(END)
    else:
        arrays["pad_token_id"] = np.array([PAD])
        arrays |= {"eos_token_id": np.array(END)} if told == "eos and pad" else {}
    found = read(tmp_path, **arrays)
    names, positions, tokens = expected()
    assert (found["doc_id"].tolist(), found["position"].tolist(), found["token_id"].tolist()) == (
        names,
        positions,
        tokens,
    )


def generated(pad: int = PAD) -> dict[str, np.ndarray]:
    """Three prompts of 3, 1 and 2 tokens padded on the left, and what was generated behind them."""
    rng, longest = np.random.default_rng(3), max(LENGTHS)
    sequences = np.full((3, 3 + longest), pad)
    mask = np.zeros((3, 3), int)
    for number, (text, n_prompt) in enumerate(zip(texts(), (3, 1, 2), strict=True)):
        sequences[number, 3 - n_prompt : 3] = number + 1
        mask[number, 3 - n_prompt :] = 1
        sequences[number, 3 : 3 + len(text)] = text
    logits = rng.normal(size=(3, longest, OUTCOMES)).astype(np.float32)
    return {"logits": logits, "sequences": sequences, "attention_mask": mask}


@pytest.mark.parametrize("pad", [PAD, END])
def test_generated_tokens_end_at_the_first_end(pad: int, tmp_path: Path) -> None:
    found = read(tmp_path, **generated(pad), eos_token_id=np.array([END, 27]), pad_token_id=np.array(pad))
    lengths = [len(text) if 27 not in text else int(np.flatnonzero(text == 27)[0]) + 1 for text in texts()]
    assert found.groupby("doc_id").size().tolist() == lengths
    starts = found.groupby("doc_id")["position"].min().tolist()
    assert starts == [3, 1, 2]  # behind the prompt's own tokens
    assert found["token_id"].tolist() == [
        t for text, n in zip(texts(), lengths, strict=True) for t in text[:n].tolist()
    ]


def test_one_sequence_may_end_as_it_likes(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(4, OUTCOMES))
    assert read(tmp_path, logits=logits, input_ids=np.array([3, 3, 5, 5]))["token_id"].tolist() == [3, 5, 5]


def test_one_text_that_begins_with_a_token_twice_is_no_padding(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 4, OUTCOMES))
    tokens = np.array([[3, 3, 5, 6], [4, 4, 6, 5]])
    assert read(tmp_path, logits=logits, input_ids=tokens)["token_id"].tolist() == [3, 5, 6, 4, 6, 5]


def test_a_mask_may_stand_without_tokens(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, OUTCOMES))
    found = read(tmp_path, logits=logits, attention_mask=np.array([[0, 1, 1], [1, 1, 1]]))
    assert found["position"].tolist() == [0, 1, 0, 1, 2]
    np.testing.assert_array_equal(found["logit_1"], logits.max(axis=2)[[0, 0, 1, 1, 1], [1, 2, 0, 1, 2]])
