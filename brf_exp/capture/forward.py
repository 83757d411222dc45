"""Teacher-forced passes over token sequences, reduced at once to what a capture keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.capture.windows import Window, bucket, plan_windows
from brf_exp.errors import InputError
from brf_exp.models.load import LoadedModel

if TYPE_CHECKING:
    import torch

# Float64 logits held at a time (2**22 of them are 32 MiB) and logits of one forward pass (2 GiB in float32).
CHUNK_LOGITS = 2**22
BATCH_LOGITS = 2**29


@dataclass(frozen=True)
class Scores:
    """Scored positions of sequences one behind the other: arrays of shape (n,), `ids` and `logits` (n, k).

    Natural logs. `target_rank` is 1 for the top token; ties of logits are ordered by the lower id.
    """

    logsumexp: np.ndarray
    target_logit: np.ndarray
    target_rank: np.ndarray
    entropy: np.ndarray
    ids: np.ndarray
    logits: np.ndarray

    @classmethod
    def empty(cls, n: int, k: int) -> "Scores":
        """Room for n positions."""
        return cls(
            logsumexp=np.empty(n, np.float64),
            target_logit=np.empty(n, np.float32),
            target_rank=np.empty(n, np.int32),
            entropy=np.empty(n, np.float32),
            ids=np.empty((n, k), np.int32),
            logits=np.empty((n, k), np.float32),
        )

    def put(self, rows: slice, found: "Scores") -> None:
        """Copy found positions into rows."""
        for name, array in vars(found).items():
            getattr(self, name)[rows] = array


def score(
    loaded: LoadedModel,
    sequences: Sequence[np.ndarray],
    *,
    k: int,
    batch_tokens: int,
    min_context_tokens: int,
    on_tokens: Callable[[int], None] = lambda n: None,
) -> Scores:
    """Score every token but the first of each sequence (which opens with the beginning token, where there is one).

    The batches depend on the sequences' lengths alone. `on_tokens` is told the positions done by each batch.
    """
    context = min(loaded.context_tokens, batch_tokens)
    placed = [
        (index, window)
        for index, s in enumerate(sequences)
        for window in plan_windows(len(s), context_tokens=context, min_context_tokens=min_context_tokens)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(s) - 1 for s in sequences])])
    scores = Scores.empty(int(offsets[-1]), k)
    affordable = min(batch_tokens, max(1, BATCH_LOGITS // loaded.padded_vocabulary_size))
    for batch in bucket([window.n_tokens for _, window in placed], batch_tokens=affordable):
        members = [placed[index] for index in batch]
        found = _score_batch(loaded, [(sequences[index], window) for index, window in members], k=k)
        first = 0
        for index, window in members:
            row = int(offsets[index]) + window.first_target - 1
            scores.put(slice(row, row + window.n_targets), _rows(found, slice(first, first + window.n_targets)))
            first += window.n_targets
        on_tokens(first)
    return scores


def _rows(scores: Scores, rows: slice) -> Scores:
    return Scores(**{name: array[rows] for name, array in vars(scores).items()})


def _score_batch(loaded: LoadedModel, members: Sequence[tuple[np.ndarray, Window]], *, k: int) -> Scores:
    """One forward pass; positions of the members one behind the other.

    Rows are padded on the right, which a causal model cannot see from the positions before it.
    """
    import torch

    longest = max(window.n_tokens for _, window in members)
    inputs = np.zeros((len(members), longest), dtype=np.int64)
    for row, (sequence, window) in enumerate(members):
        inputs[row, : window.n_tokens] = sequence[window.start : window.stop]
    kept = np.concatenate(
        [
            row * longest + np.arange(window.first_target - 1 - window.start, window.n_tokens)
            for row, (_, window) in enumerate(members)
        ]
    )
    targets = np.concatenate([sequence[window.first_target : window.stop + 1] for sequence, window in members])
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.from_numpy(inputs).to(loaded.device), use_cache=False).logits
        return _reduce(loaded, logits.flatten(0, 1), kept, targets.astype(np.int64), k=k)


def _reduce(loaded: LoadedModel, logits: "torch.Tensor", kept: np.ndarray, targets: np.ndarray, *, k: int) -> Scores:
    """Reduce the kept rows of logits in chunks, so that a batch's logits never stand in float64 all at once."""
    import torch

    scores = Scores.empty(targets.size, k)
    chunk_rows = max(1, CHUNK_LOGITS // logits.shape[-1])
    for first in range(0, targets.size, chunk_rows):
        rows = slice(first, min(first + chunk_rows, targets.size))
        index = torch.from_numpy(kept[rows]).to(logits.device)
        chunk = logits.index_select(0, index)[:, : loaded.true_vocabulary_size].to(torch.float32)
        if chunk.device.type == "mps":  # no float64 there
            chunk = chunk.cpu()
        if not bool(torch.isfinite(chunk.amax(dim=-1)).all()):
            raise InputError(
                f"`{loaded.reference.name}` must give finite logits, got NaN or infinity. Try capture.dtype=float32."
            )
        scores.put(rows, reduce_logits(chunk, torch.from_numpy(targets[rows]).to(chunk.device), k=k))
    return scores


def reduce_logits(logits: "torch.Tensor", targets: "torch.Tensor", *, k: int) -> Scores:
    """What a capture keeps of float32 logits (n, V) and realised ids (n,); sums are in float64."""
    import torch

    ids, values = top_k(logits, k=k)
    wide = logits.to(torch.float64)
    logsumexp = torch.logsumexp(wide, dim=-1)
    entropy = torch.special.entr(torch.exp(wide - logsumexp[:, None])).sum(dim=-1)
    target_logit = logits.gather(1, targets[:, None])
    lower_id = torch.arange(logits.shape[-1], device=logits.device)[None, :] < targets[:, None]
    ahead = (logits > target_logit) | ((logits == target_logit) & lower_id)
    return Scores(
        logsumexp=logsumexp.cpu().numpy(),
        target_logit=target_logit[:, 0].cpu().numpy(),
        target_rank=(1 + ahead.sum(dim=-1)).to(torch.int32).cpu().numpy(),
        entropy=entropy.to(torch.float32).cpu().numpy(),
        ids=ids.to(torch.int32).cpu().numpy(),
        logits=values.cpu().numpy(),
    )


def top_k(logits: "torch.Tensor", *, k: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Ids and values of the k largest of each row (n, V), best first; equal values are ordered by the lower id.

    torch.topk alone picks any of equal values, and not the same ones on every machine.
    """
    import torch

    values, ids = torch.topk(logits, k, dim=-1)
    smallest = values[:, -1:]
    tied = torch.nonzero((logits == smallest).sum(dim=-1) > (values == smallest).sum(dim=-1))[:, 0]
    if tied.numel():
        rows = logits[tied]
        above = rows > smallest[tied]
        level = rows == smallest[tied]
        n_level = k - above.sum(dim=-1, keepdim=True)
        chosen = above | (level & (level.cumsum(dim=-1) <= n_level))
        ids[tied] = torch.nonzero(chosen)[:, 1].reshape(-1, k)
    ids = ids.sort(dim=-1).values
    values = logits.gather(1, ids)
    order = values.sort(dim=-1, descending=True, stable=True)
    return ids.gather(1, order.indices), order.values
