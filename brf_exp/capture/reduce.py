"""Logits of a few positions reduced to what a capture keeps, while they are still in the processor's cache."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

# Logits looked at a time: on a CPU 8 MiB of them, which stay in its cache from one sum to the next.
CPU_BLOCK_LOGITS = 2**21
BLOCK_LOGITS = 2**26
# The k largest are looked for in the k groups of this many logits whose own maxima are largest.
GROUP = 32
LOG2_E = 1 / math.log(2)


@dataclass(frozen=True)
class Scores:
    """Scored positions of sequences one behind the other: arrays of shape (n,), `ids` and `logits` (n, k).

    Natural logs. `target_rank` is 1 for the top token; ties of logits are ordered by the lower id. `tempered` (n, T)
    has the logsumexp of logits divided by each further temperature.
    """

    logsumexp: np.ndarray
    target_logit: np.ndarray
    target_rank: np.ndarray
    entropy: np.ndarray
    ids: np.ndarray
    logits: np.ndarray
    tempered: np.ndarray

    @classmethod
    def empty(cls, n: int, k: int, n_temperatures: int = 0) -> "Scores":
        """Room for n positions."""
        return cls(
            logsumexp=np.empty(n, np.float64),
            target_logit=np.empty(n, np.float32),
            target_rank=np.empty(n, np.int32),
            entropy=np.empty(n, np.float32),
            ids=np.empty((n, k), np.int32),
            logits=np.empty((n, k), np.float32),
            tempered=np.empty((n, n_temperatures), np.float64),
        )

    def put(self, rows: slice, found: "Scores") -> None:
        """Copy found positions into rows."""
        for name, array in vars(found).items():
            getattr(self, name)[rows] = array

    def rows(self, rows: slice | np.ndarray) -> "Scores":
        """Some of the positions."""
        return Scores(**{name: array[rows] for name, array in vars(self).items()})


@dataclass(frozen=True)
class Reduced:
    """What is computed where the logits are, float32 and int32: the rest follows from it in float64."""

    maximum: "torch.Tensor"  # (n,)
    sums: "torch.Tensor"  # (n, 1 + T): sum exp((z - maximum) / T), temperature 1 first
    mean_below: "torch.Tensor"  # (n,): mean of z - maximum under softmax(z)
    target_logit: "torch.Tensor"  # (n,)
    target_rank: "torch.Tensor"  # (n,)
    ids: "torch.Tensor"  # (n, k)
    logits: "torch.Tensor"  # (n, k)

    def to_host(self) -> "Reduced":
        """The same in the memory of the host, or on its way there: `scores` waits for it."""
        return self if self.maximum.device.type != "cuda" else _OnItsWay.of(self)

    def scores(self, temperatures: Sequence[float]) -> Scores:
        """On the host, as a capture keeps them; positions without finite logits have a logsumexp of NaN or infinity."""
        maximum = self.maximum.cpu().numpy().astype(np.float64)
        logs = np.log(self.sums.cpu().numpy().astype(np.float64))
        return Scores(
            logsumexp=maximum + logs[:, 0],
            target_logit=self.target_logit.cpu().numpy(),
            target_rank=self.target_rank.cpu().numpy(),
            entropy=(logs[:, 0] - self.mean_below.cpu().numpy()).astype(np.float32),
            ids=self.ids.cpu().numpy(),
            logits=self.logits.cpu().numpy(),
            tempered=maximum[:, None] / np.asarray(temperatures, np.float64) + logs[:, 1:],
        )


@dataclass(frozen=True)
class _OnItsWay(Reduced):
    """Copies in page-locked memory, which a device writes to by itself until `arrived`."""

    arrived: Any  # torch.cuda.Event

    @classmethod
    def of(cls, reduced: Reduced) -> "_OnItsWay":
        import torch

        cuda: Any = torch.cuda
        arrived = cuda.Event()
        copies = {name: torch.empty_like(t, device="cpu", pin_memory=True) for name, t in vars(reduced).items()}
        for name, copy in copies.items():
            copy.copy_(getattr(reduced, name), non_blocking=True)
        arrived.record()
        return cls(**copies, arrived=arrived)

    def scores(self, temperatures: Sequence[float]) -> Scores:
        self.arrived.synchronize()
        return super().scores(temperatures)


def reduce_logits(
    logits: "torch.Tensor", targets: "torch.Tensor", *, k: int, temperatures: Sequence[float] = ()
) -> Reduced:
    """What a capture keeps of logits (n, V) and realised ids (n,).

    Sums are of float32 terms: a logsumexp is good to some 1e-7. Nothing of the size of the logits is allocated.
    """
    import torch

    block = CPU_BLOCK_LOGITS if logits.device.type == "cpu" else BLOCK_LOGITS
    n_rows = max(1, block // logits.shape[1])
    room = [logits.new_empty((min(n_rows, len(logits)), logits.shape[1]), dtype=torch.float32) for _ in range(2)]
    blocks = [
        _reduce_block(logits[first : first + n_rows].float(), targets[first : first + n_rows], room, k, temperatures)
        for first in range(0, len(logits), n_rows)
    ]
    return join(blocks)


def join(parts: Sequence[Reduced]) -> Reduced:
    """Positions one behind the other."""
    import torch

    if len(parts) == 1:
        return parts[0]
    return Reduced(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _reduce_block(
    logits: "torch.Tensor",
    targets: "torch.Tensor",
    room: "Sequence[torch.Tensor]",
    k: int,
    temperatures: Sequence[float],
) -> Reduced:
    """A block that fits the cache; `room` holds two arrays of its size."""
    import torch

    below, terms = (array[: len(logits)] for array in room)
    ids, values = top_k(logits, k=k)
    target_logit = logits.gather(1, targets[:, None])
    rank = _rank(logits, targets, target_logit, ids, terms)
    maximum = values[:, :1].contiguous()
    # Powers of two: the exponential function of some libraries takes thrice as long on some processors.
    torch.sub(logits, maximum, out=below).mul_(LOG2_E)
    sums = [torch.mul(below, 1 / temperature, out=terms).exp2_().sum(1) for temperature in temperatures]
    sums.insert(0, torch.exp2(below, out=terms).sum(1))
    mean_below = terms.mul_(below).sum(1) / (sums[0] * LOG2_E)
    unlisted = torch.nonzero(mean_below.isnan())[:, 0]
    if unlisted.numel():  # logits of minus infinity: of no weight, but 0 times infinity
        mean_below[unlisted] = (below[unlisted].exp2() * below[unlisted].clamp_(min=-1e30)).sum(1) / LOG2_E
        mean_below[unlisted] /= sums[0][unlisted]
    return Reduced(
        maximum[:, 0], torch.stack(sums, 1), mean_below, target_logit[:, 0], rank, ids.to(torch.int32), values
    )


def _rank(
    logits: "torch.Tensor",
    targets: "torch.Tensor",
    target_logit: "torch.Tensor",
    ids: "torch.Tensor",
    room: "torch.Tensor",
) -> "torch.Tensor":
    """1 + how many logits are ahead of the target's; of equal ones those with the lower id."""
    import torch

    places = (ids == targets[:, None]).int()
    rank = 1 + places.argmax(1)
    unlisted = torch.nonzero(places.amax(1) == 0)[:, 0]
    if 2 * unlisted.numel() > len(logits):  # cheaper than to copy most rows
        unlisted = torch.arange(len(logits), device=logits.device)
    else:
        logits, targets, target_logit = logits[unlisted], targets[unlisted], target_logit[unlisted]
    room = room[: len(logits)]
    ahead = torch.gt(logits, target_logit, out=room).sum(1)  # float32 counts whole numbers exactly
    n_equal = torch.ge(logits, target_logit, out=room).sum(1) - ahead
    tied = torch.nonzero(n_equal > 1)[:, 0]
    if tied.numel():
        lower_id = torch.arange(logits.shape[1], device=logits.device)[None, :] < targets[tied, None]
        ahead[tied] += ((logits[tied] == target_logit[tied]) & lower_id).sum(1)
    rank[unlisted] = 1 + ahead.to(rank.dtype)
    return rank.to(torch.int32)


def top_k(logits: "torch.Tensor", *, k: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Ids and values of the k largest of each row (n, V), best first; equal values are ordered by the lower id."""
    import torch

    n, size = logits.shape
    n_groups = size // GROUP
    if n_groups < 2 * k:
        return _sorted_top_k(logits, k=k)
    # Group j holds the ids j, j + n_groups, ...: maxima of groups are then taken over whole stretches of memory.
    grouped = logits[:, : n_groups * GROUP].view(n, GROUP, n_groups)
    maxima = grouped.amax(1)
    largest, groups = torch.topk(maxima, k + 1, dim=1)
    members = groups[:, None, :k].expand(n, GROUP, k)
    first_ids = torch.arange(GROUP, device=logits.device)[None, :, None] * n_groups
    rest = torch.arange(n_groups * GROUP, size, device=logits.device).expand(n, -1)
    candidates = torch.cat([grouped.gather(2, members).flatten(1), logits[:, n_groups * GROUP :]], 1)
    candidate_ids = torch.cat([(members + first_ids).flatten(1), rest], 1)
    values, places = torch.topk(candidates, k + 1, dim=1)
    ids = candidate_ids.gather(1, places[:, :k])
    # topk takes any of equal values: rows with a tie among the kept, or with one left out, are done in full.
    is_tied = (values[:, 1:] == values[:, :-1]).any(1) | (largest[:, k] == values[:, k - 1])
    values = values[:, :k]
    tied = torch.nonzero(is_tied)[:, 0]
    if tied.numel():
        ids[tied], values[tied] = _sorted_top_k(logits[tied], k=k)
    return ids, values


def _sorted_top_k(logits: "torch.Tensor", *, k: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The same for short rows or rows with ties, by one look at the whole row."""
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
