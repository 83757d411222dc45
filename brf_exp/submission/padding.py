"""Which rows of saved logits are a document's own: masks, lengths, and tokens that end a text or fill it up."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from brf_exp.submission.fault import Place, fault, said
from brf_exp.submission.tensor_files import Tensor

MASK: Final = "attention_mask"
LENGTHS: Final = "lengths"
END, PAD = "eos_token_id", "pad_token_id"


@dataclass(frozen=True)
class Realised:
    """The tokens that the rows of a dump predict.

    `tokens` (sequences, steps) or None; row j of a sequence predicts the token in column `first + j` of the array
    `name`, which has `n_columns`; `n_meant` rows of a sequence predict one at all.
    """

    tokens: np.ndarray | None
    name: str | None
    first: int
    n_columns: int
    n_meant: int


@dataclass(frozen=True)
class Meant:
    """Which rows (sequences, steps) are a document's own, and the position of each."""

    rows: np.ndarray
    position: np.ndarray


def meant_rows(arrays: dict[str, Tensor], realised: Realised, shape: tuple[int, int], place: Place) -> Meant:
    """Tell padding from text.

    `attention_mask` is over the tokens that stand in the file, or over the first of them (a prompt); `lengths` count
    every sequence's own tokens, padding behind them; `eos_token_id` and `pad_token_id` tell where generated ones end.

    Raises
    ------
    InputError
        Where an array does not fit, or tokens look like padding and nothing tells.
    """
    n_sequences, n_steps = shape
    rows = np.broadcast_to(np.arange(n_steps) < realised.n_meant, shape).copy()
    position = np.broadcast_to(realised.first + np.arange(n_steps), shape)
    mask = _mask(arrays, realised, n_sequences, place)
    if mask is not None:
        whole = np.ones((n_sequences, max(realised.n_columns, realised.first + n_steps)), dtype=bool)
        whole[:, : mask.shape[1]] = mask
        predicted = whole[:, realised.first : realised.first + n_steps]
        # A row of a forward pass has read the token ahead of the one it predicts, which must be there.
        read = (
            whole[:, realised.first - 1 : realised.first - 1 + n_steps] if realised.name == "input_ids" else predicted
        )
        rows &= predicted & read
        position = np.maximum(np.cumsum(whole, axis=1)[:, realised.first : realised.first + n_steps] - 1, 0)
    if mask is None or mask.shape[1] < realised.n_columns:  # a prompt's mask says nothing of what follows
        if (ends := _ends(arrays, realised, n_sequences, place)) is not None:
            rows &= np.arange(n_steps) < ends[:, np.newaxis]
        else:
            _refuse_repeated_ends(realised, n_sequences, place)
    if mask is None and LENGTHS not in arrays and realised.name in ("input_ids", "token_ids"):
        _refuse_padding_ahead(arrays, realised, place)
    return Meant(rows, position)


def _mask(arrays: dict[str, Tensor], realised: Realised, n_sequences: int, place: Place) -> np.ndarray | None:
    """`attention_mask` (sequences, tokens) as bool; None where there is none."""
    if MASK not in arrays:
        return None
    where, found = Place(f"{place.file} array {MASK}"), arrays[MASK]
    n_columns = found.shape[-1] if found.shape else 0
    fits = 0 < n_columns <= realised.n_columns and np.prod(found.shape[:-1]) == n_sequences
    fits = fits and (n_columns == realised.n_columns or realised.name == "sequences")
    if not fits or found.dtype.kind not in "iufb":
        requirement = f"zeros and ones of shape ({n_sequences}, {realised.n_columns})"
        raise fault(where, requirement, f"{found.dtype} {found.shape}", "Save that of the same call.")
    mask = found.whole().reshape(n_sequences, n_columns)
    if not np.isin(mask, (0, 1)).all():
        raise said(where, "must hold zeros and ones alone. Save that of the same call.")
    runs = (np.diff(mask.astype(np.int8), axis=1, prepend=0) == 1).sum(axis=1)
    if (runs > 1).any():
        raise said(where, "must be ones in one run per sequence, padding around it. Save one text per sequence.")
    return np.asarray(mask == 1)


def _ends(arrays: dict[str, Tensor], realised: Realised, n_sequences: int, place: Place) -> np.ndarray | None:
    """Rows of every sequence ahead of padding, (sequences,); None where nothing tells."""
    if LENGTHS in arrays:
        where = Place(f"{place.file} array {LENGTHS}")
        lengths = arrays[LENGTHS].whole().reshape(-1)
        if lengths.dtype.kind not in "iu" or len(lengths) != n_sequences or (lengths < 0).any():
            raise fault(where, f"{n_sequences} whole numbers", str(lengths.dtype), "Save one per sequence.")
        return lengths.astype(np.int64) - (realised.name == "input_ids")
    if realised.tokens is None:
        return None
    tokens = realised.tokens[:, : realised.n_meant]
    end, pad = (_ids(arrays, name, place) for name in (END, PAD))
    if end is not None and realised.name != "input_ids":  # generation stops at the first of them
        is_end = np.isin(tokens, end)
        return np.where(is_end.any(axis=1), is_end.argmax(axis=1) + 1, tokens.shape[1])
    pad = end if pad is None else pad
    if pad is None:
        return None
    trailing = np.logical_and.accumulate(np.isin(tokens, pad)[:, ::-1], axis=1).sum(axis=1)
    closes = end is not None and np.isin(pad, end).any()  # then the first of the run is the text's own end
    return tokens.shape[1] - trailing + ((trailing > 0) if closes else 0)


def _ids(arrays: dict[str, Tensor], name: str, place: Place) -> np.ndarray | None:
    """One or several token ids; None where there is no such array."""
    if name not in arrays:
        return None
    found = arrays[name].whole().reshape(-1)
    if found.dtype.kind not in "iu" or not found.size:
        raise fault(Place(f"{place.file} array {name}"), "whole numbers", str(found.dtype), "Save the tokenizer's.")
    return found


def _refuse_repeated_ends(realised: Realised, n_sequences: int, place: Place) -> None:
    """Sequences that end in one token repeated may end in padding."""
    if realised.tokens is None or n_sequences == 1:
        return
    meant = realised.tokens[:, : realised.n_meant]
    if meant.shape[1] > 1 and (meant[:, -1] == meant[:, -2]).any():
        raise said(
            place,
            f"must tell padding from text, as sequences end in one token repeated. Save {MASK}, {END}, or {LENGTHS} "
            f"(np.full({n_sequences}, {meant.shape[1] + (realised.name == 'input_ids')}) where nothing is padding).",
        )


def _refuse_padding_ahead(arrays: dict[str, Tensor], realised: Realised, place: Place) -> None:
    """Several sequences that begin with one and the same token repeated look padded on the left."""
    assert realised.name is not None
    tokens = arrays[realised.name].whole().reshape(-1, realised.n_columns)
    if tokens.shape[1] < 2:
        return
    twice = tokens[tokens[:, 0] == tokens[:, 1], 0]
    ids, counts = np.unique(twice, return_counts=True)
    if counts.size and counts.max() > 1:
        raise said(
            place,
            f"must tell padding from text, as {counts.max()} sequences begin with token {ids[counts.argmax()]} "
            f"repeated, as padding on the left does. Save {MASK} with them (all ones where nothing is padding).",
        )
