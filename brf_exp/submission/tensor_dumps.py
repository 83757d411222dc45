"""Whole rows of logits, from Hugging Face `generate(output_logits=True)` or a forward pass, reduced to top-k."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from brf_exp.submission.batches import Batch, File
from brf_exp.submission.fault import Place, fault, listed, said
from brf_exp.submission.padding import Meant, Realised, meant_rows
from brf_exp.submission.tensor_files import Tensor, tensors_of
from brf_exp.submission.top_k import TopK, top_k

STEP: Final = re.compile(r"logits[_.]([0-9]+)")
TOKENS: Final = ("token_ids", "sequences", "input_ids")
BLOCK_CELLS: Final = 4 * 1024 * 1024
KEPT_CELLS: Final = 64 * 1024 * 1024
WHOLE_VOCABULARY: Final = 512


@dataclass(frozen=True)
class Dump:
    """One file: sequences x steps rows of logits, the realised tokens, and which positions they are.

    `logits` is one array, or one per step. `tokens` (sequences, steps) are the tokens the rows predict, or None;
    `meant` tells which of the rows are no padding, and their positions.
    """

    file: File
    logits: tuple[Tensor, ...]
    tokens: np.ndarray | None
    meant: Meant
    n_steps: int
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """Outcomes per row, padding among them."""
        return self.logits[0].shape[-1]


@dataclass(frozen=True)
class TensorReader:
    """Dumps of whole rows over the same outcomes."""

    dumps: tuple[Dump, ...]
    k: int
    n_outcomes: int

    @property
    def names(self) -> tuple[str, ...]:
        """doc_id, position, token_id and target_logit where tokens are known, logsumexp, id_1, ..., logit_1, ..."""
        known = all(dump.tokens is not None for dump in self.dumps)
        fixed = ("token_id", "logsumexp", "target_logit") if known else ("logsumexp",)
        return ("doc_id", "position", *fixed, *(f"{s}_{r}" for s in ("id", "logit") for r in range(1, self.k + 1)))

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns, sequence by sequence."""
        for dump in self.dumps:
            row = 1
            for sequence, steps, found in self._reduced(dump):
                meant = dump.meant.rows[sequence, steps]
                if meant.any():
                    columns = _columns(dump, sequence[meant], steps[meant], found.at(meant))
                    yield Batch(dump.file[1], row, pa.record_batch({name: columns[name] for name in names}))
                    row += int(meant.sum())

    def _reduced(self, dump: Dump) -> Iterator[tuple[np.ndarray, np.ndarray, TopK]]:
        """Sequence, step and top-k of some rows at a time, sequences one behind the other."""
        n_sequences = len(dump.names)
        if len(dump.logits) == 1:
            yield from self._in_order(dump, dump.logits[0], np.arange(n_sequences * dump.n_steps))
            return
        if n_sequences * dump.n_steps * self.k > KEPT_CELLS:
            raise said(dump.file[1], "must be one array logits (sequences, steps, outcomes). Stack the steps.")
        # One array per step: the steps of a sequence lie far apart, so the top of all of them is put in order.
        rows = np.arange(n_sequences)[:, np.newaxis] * dump.n_steps + np.arange(dump.n_steps)
        parts = [part for step, t in enumerate(dump.logits) for part in self._in_order(dump, t, rows[:, step])]
        order = np.argsort(np.concatenate([sequence * dump.n_steps + step for sequence, step, _ in parts]))
        found = TopK.joined([part for _, _, part in parts]).at(order)
        yield np.repeat(np.arange(n_sequences), dump.n_steps), np.tile(np.arange(dump.n_steps), n_sequences), found

    def _in_order(self, dump: Dump, tensor: Tensor, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, TopK]]:
        """The rows of one array, which are rows `rows` (n,) of the dump."""
        done = 0
        for block in tensor.rows(max(1, BLOCK_CELLS // dump.width)):
            sequence, step = np.divmod(rows[done : done + len(block)], dump.n_steps)
            targets = None if dump.tokens is None else dump.tokens[sequence, step]
            yield sequence, step, top_k(block[:, : self.n_outcomes], self.k, targets)
            done += len(block)


def open_tensors(files: Sequence[File], *, k: int, vocabulary_size: int | None) -> TensorReader:
    """Open .npz or .safetensors files of rows of logits.

    Parameters
    ----------
    files
        Files of one table.
    k
        Values kept of every row; 0 for all. A vocabulary of up to 512 is kept whole.
    vocabulary_size
        Outcomes of the model, where known; those beyond it are padding and left out.

    Raises
    ------
    InputError
        Where arrays are missing, of other shapes, or cannot be read.
    """
    dumps = tuple(_dump(file, prefix="seq" if len(files) == 1 else _stem(file)) for file in files)
    for dump in dumps[1:]:
        if dump.width != dumps[0].width:
            requirement = f"{dumps[0].width} outcomes wide as {files[0][1]} is"
            raise fault(dump.file[1], requirement, dump.width, "Dump all with the same model.")
    width = dumps[0].width
    if vocabulary_size is not None and width < vocabulary_size:
        raise fault(files[0][1], f"at least vocab_size = {vocabulary_size} outcomes wide", width, "Correct vocab_size.")
    n_outcomes = vocabulary_size or width
    whole = k == 0 or n_outcomes <= WHOLE_VOCABULARY
    return TensorReader(dumps, n_outcomes if whole else min(k, n_outcomes), n_outcomes)


def _stem(file: File) -> str:
    """The file's name without its suffix."""
    return file[0].name.rpartition(".")[0]


def _dump(file: File, *, prefix: str) -> Dump:
    """What one file holds."""
    place = file[1]
    arrays = tensors_of(file)
    logits = _logits(arrays, place)
    per_step = logits[0].shape[:-1] or (1,)
    if len(logits) > 1 or STEP.fullmatch(logits[0].name):
        n_sequences, n_steps = int(np.prod(per_step)), len(logits)
    else:
        n_sequences, n_steps = int(np.prod(per_step[:-1])), per_step[-1]
    if n_sequences * n_steps == 0:
        raise said(place, "must have at least one row of logits, got none. Dump it again.")
    realised = _realised(arrays, n_sequences, n_steps, place)
    meant = meant_rows(arrays, realised, (n_sequences, n_steps), place)
    plain = n_sequences == 1 and prefix != "seq"
    names = tuple(prefix if plain else f"{prefix}-{number:05d}" for number in range(n_sequences))
    return Dump(file, logits, realised.tokens, meant, n_steps, names)


def _logits(arrays: dict[str, Tensor], place: Place) -> tuple[Tensor, ...]:
    """The array `logits` of shape (steps, outcomes) or (sequences, steps, outcomes), or logits_0, logits_1, ..."""
    steps = sorted((int(match[1]), t) for name, t in arrays.items() if (match := STEP.fullmatch(name)))
    found = [arrays["logits"]] if "logits" in arrays else [t for _, t in steps]
    if not found:
        hint = " scores are what is left after sampling settings;" if "scores" in arrays else ""
        got = listed(sorted(arrays)) or "none"
        raise said(place, f"must have the array logits, or logits_0, logits_1, ...;{hint} got {got}. Save the logits.")
    if "logits" not in arrays and [number for number, _ in steps] != list(range(len(steps))):
        raise said(place, f"must have logits_0 to logits_{len(steps) - 1} without a gap. Save all steps.")
    for tensor in found:
        wide = 1 <= len(tensor.shape) <= (3 if "logits" in arrays else 2) and tensor.shape[-1] >= 2
        if not wide or tensor.dtype.kind != "f" and not tensor.bfloat16 or tensor.shape != found[0].shape:
            got = f"{tensor.dtype} {tensor.shape}"
            where = Place(f"{place.file} array {tensor.name}")
            raise fault(where, "floats (..., outcomes), all alike", got, "Save output.logits.")
    if "logits" in arrays and len(found[0].shape) == 1:
        raise fault(place, "an array logits (steps, outcomes)", found[0].shape, "Save one row per step.")
    return tuple(found)


def _realised(arrays: dict[str, Tensor], n_sequences: int, n_steps: int, place: Place) -> Realised:
    """The tokens that the rows predict.

    `token_ids` has one per row; of `sequences` the last ones are meant, as `generate` puts the prompt before them; row
    j of a forward pass over `input_ids` predicts token j + 1.
    """
    name = next((name for name in TOKENS if name in arrays), None)
    if name is None:
        return Realised(None, None, 0, n_steps, n_steps)
    tensor = arrays[name]
    n_tokens = tensor.shape[-1] if tensor.shape else 0
    fits = n_tokens >= n_steps if name == "sequences" else n_tokens == n_steps
    if tensor.dtype.kind not in "iu" or tensor.bfloat16 or not fits or np.prod(tensor.shape[:-1]) != n_sequences:
        requirement = f"whole numbers of shape ({n_sequences}, {n_steps})"
        got = f"{tensor.dtype} {tensor.shape}"
        raise fault(Place(f"{place.file} array {name}"), requirement, got, "Save it from the same call.")
    tokens = tensor.whole().reshape(n_sequences, n_tokens).astype(np.int64)
    if name == "input_ids":
        return Realised(np.pad(tokens[:, 1:], ((0, 0), (0, 1))), name, 1, n_tokens, n_steps - 1)
    return Realised(tokens[:, n_tokens - n_steps :], name, n_tokens - n_steps, n_tokens, n_steps)


def _columns(dump: Dump, sequence: np.ndarray, step: np.ndarray, found: TopK) -> dict[str, pa.Array]:
    """Every column of some rows."""
    columns = {
        "doc_id": pa.array(dump.names, pa.string()).take(pa.array(sequence)),
        "position": pa.array(dump.meant.position[sequence, step]),
        "logsumexp": pa.array(found.logsumexp),
    }
    if dump.tokens is not None and found.target is not None:
        columns |= {"token_id": pa.array(dump.tokens[sequence, step]), "target_logit": pa.array(found.target)}
    for rank in range(found.ids.shape[1]):
        columns |= {f"id_{rank + 1}": pa.array(found.ids[:, rank])}
        columns |= {f"logit_{rank + 1}": pa.array(found.logits[:, rank])}
    return columns
