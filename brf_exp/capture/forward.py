"""Teacher-forced passes over token sequences, reduced at once to what a capture keeps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.capture.reduce import Reduced, Scores, join, reduce_logits
from brf_exp.capture.windows import Window, bucket, plan_windows
from brf_exp.errors import InputError
from brf_exp.models.load import LoadedModel

if TYPE_CHECKING:
    import torch

__all__ = ["Scores", "score"]

# Logits made at a time, whatever the batch: enough rows for a fast matrix product (2**25 logits are 128 MiB).
CHUNK_LOGITS = 2**25
GPU_CHUNK_LOGITS = 2**28
# Where a model gives no logits but all of a batch's: at most this many (2 GiB in float32).
BATCH_LOGITS = 2**29


def score(
    loaded: LoadedModel,
    sequences: Sequence[np.ndarray],
    *,
    k: int,
    batch_tokens: int,
    min_context_tokens: int,
    context_tokens: int | None = None,
    temperatures: Sequence[float] = (),
    on_tokens: Callable[[int], None] = lambda n: None,
) -> Scores:
    """Score every token but the first of each sequence (which opens with the beginning token, where there is one).

    At most `context_tokens` tokens are read at once, and no more than the model's own context. The batches depend on
    the sequences' lengths alone. `on_tokens` is told the positions done by each batch.
    `temperatures` are those whose logsumexp is kept besides.
    """
    context = min(loaded.context_tokens, context_tokens or loaded.context_tokens)
    placed = [
        (index, window)
        for index, s in enumerate(sequences)
        for window in plan_windows(len(s), context_tokens=context, min_context_tokens=min_context_tokens)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(s) - 1 for s in sequences])])
    scores = Scores.empty(int(offsets[-1]), k, len(temperatures))
    batches = bucket([window.n_tokens for _, window in placed], batch_tokens=_affordable(loaded, batch_tokens))
    waiting: tuple[_Batch, Reduced] | None = None
    for members in batches:
        batch = _Batch([(sequences[placed[i][0]], int(offsets[placed[i][0]]), placed[i][1]) for i in members])
        found = join(list(_reduced(loaded, batch, k=k, temperatures=temperatures))).to_host()
        if waiting is not None:  # a device works on one batch while the one before it arrives here
            on_tokens(_keep(scores, *waiting, loaded, temperatures))
        waiting = batch, found
    if waiting is not None:
        on_tokens(_keep(scores, *waiting, loaded, temperatures))
    return scores


def _affordable(loaded: LoadedModel, batch_tokens: int) -> int:
    if loaded.head is not None:
        return batch_tokens
    return min(batch_tokens, max(1, BATCH_LOGITS // loaded.padded_vocabulary_size))


def _keep(scores: Scores, batch: "_Batch", reduced: Reduced, loaded: LoadedModel, temperatures: Sequence[float]) -> int:
    """Put a batch's positions where they belong; how many there were."""
    found = reduced.scores(temperatures)
    if not np.isfinite(found.logsumexp).all():
        raise InputError(
            f"`{loaded.reference.name}` must give finite logits, got NaN or infinity. Try capture.dtype=float32."
        )
    first = 0
    for _, offset, window in batch.members:
        row = offset + window.first_target - 1
        scores.put(slice(row, row + window.n_targets), found.rows(slice(first, first + window.n_targets)))
        first += window.n_targets
    return first


@dataclass(frozen=True)
class _Batch:
    """Windows that go through the model together: (sequence, the first row of its scores, window) each."""

    members: list[tuple[np.ndarray, int, Window]]

    @property
    def inputs(self) -> np.ndarray:
        """Token ids (members, longest), padded on the right, which a causal model cannot see from before it."""
        longest = max(window.n_tokens for *_, window in self.members)
        inputs = np.zeros((len(self.members), longest), dtype=np.int64)
        for row, (sequence, _, window) in enumerate(self.members):
            inputs[row, : window.n_tokens] = sequence[window.start : window.stop]
        return inputs

    @property
    def kept(self) -> np.ndarray:
        """Positions of the flattened inputs whose logits are wanted."""
        longest = max(window.n_tokens for *_, window in self.members)
        return np.concatenate(
            [
                row * longest + np.arange(window.first_target - 1 - window.start, window.n_tokens)
                for row, (_, _, window) in enumerate(self.members)
            ]
        )

    @property
    def targets(self) -> np.ndarray:
        """Token ids that those logits predict."""
        ids = [sequence[window.first_target : window.stop + 1] for sequence, _, window in self.members]
        return np.concatenate(ids).astype(np.int64)


def _reduced(loaded: LoadedModel, batch: _Batch, *, k: int, temperatures: Sequence[float]) -> Iterator[Reduced]:
    """One forward pass; its positions, a chunk at a time."""
    import torch

    kept = _sent(batch.kept, loaded.device)
    targets = _sent(batch.targets, loaded.device)
    with torch.inference_mode():
        for first, logits in _logit_chunks(loaded, _sent(batch.inputs, loaded.device), kept):
            predicted = targets[first : first + len(logits)]
            # Ids beyond the vocabulary belong to no token.
            yield reduce_logits(logits[:, : loaded.true_vocabulary_size], predicted, k=k, temperatures=temperatures)


def _logit_chunks(
    loaded: LoadedModel, inputs: "torch.Tensor", kept: "torch.Tensor"
) -> "Iterator[tuple[int, torch.Tensor]]":
    """Logits (n, V) of the kept positions, a chunk at a time, with the place of the first.

    The output layer is applied chunk by chunk where the model has one of its own; else all logits of the batch are
    made at once.
    """
    size = CHUNK_LOGITS if loaded.device.type == "cpu" else GPU_CHUNK_LOGITS
    n_rows = max(1, size // loaded.padded_vocabulary_size)
    if loaded.head is not None:
        rows = loaded.head.hidden_states(inputs).flatten(0, 1)
    else:
        rows = loaded.model(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
    for first in range(0, len(kept), n_rows):
        chunk = rows.index_select(0, kept[first : first + n_rows].to(rows.device))
        yield first, chunk if loaded.head is None else loaded.head.logits(chunk)


def _sent(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """An array on the device, on its way while the next one is prepared."""
    import torch

    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
