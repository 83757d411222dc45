"""The largest logits of whole rows, with what the rest amounts to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class TopK:
    """Of n rows: `ids` and `logits` (n, k) by falling logit, `logsumexp` (n,) over the whole row, `target` (n,)."""

    ids: np.ndarray
    logits: np.ndarray
    logsumexp: np.ndarray
    target: np.ndarray | None

    def at(self, rows: np.ndarray) -> "TopK":
        """Some of the rows, by mask or index."""
        target = None if self.target is None else self.target[rows]
        return TopK(self.ids[rows], self.logits[rows], self.logsumexp[rows], target)

    @classmethod
    def joined(cls, parts: Sequence["TopK"]) -> "TopK":
        """The rows of all parts."""
        targets = [part.target for part in parts if part.target is not None]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.logsumexp for part in parts]),
            np.concatenate(targets) if targets else None,
        )


def top_k(logits: np.ndarray, k: int, targets: np.ndarray | None) -> TopK:
    """The k largest of each row; ties by the lower id.

    Parameters
    ----------
    logits
        Shape (n, v).
    k
        At most v.
    targets
        Ids of shape (n,) whose logits are wanted; one outside the row gets NaN. Or None.
    """
    n, width = logits.shape
    # Of ties at the k-th place the lower ids are kept: counted in order of ids, up to as many as there is room for.
    kth = -np.partition(-logits, k - 1, axis=1)[:, k - 1 : k]
    above, tied = logits > kth, logits == kth
    kept = above | (tied & (np.cumsum(tied, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    ids = np.nonzero(kept)[1].reshape(n, k) if kept.sum() == n * k else np.tile(np.arange(k), (n, 1))
    values = np.take_along_axis(logits, ids, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    with np.errstate(invalid="ignore"):
        total = logsumexp(logits.astype(np.float64), axis=1)
    target = None
    if targets is not None:
        inside = (targets >= 0) & (targets < width)
        found = np.take_along_axis(logits, np.where(inside, targets, 0)[:, np.newaxis], axis=1)[:, 0]
        target = np.where(inside, found, np.nan).astype(logits.dtype)
    return TopK(
        np.take_along_axis(ids, order, axis=1).astype(np.int32),
        np.take_along_axis(values, order, axis=1),
        total,
        target,
    )
