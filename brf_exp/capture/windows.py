"""Which stretches of a document go through the model, and which of them together; pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """Input tokens [start, stop) of one sequence; it scores the tokens first_target..stop (inclusive)."""

    start: int
    stop: int
    first_target: int

    @property
    def n_tokens(self) -> int:
        """Input tokens."""
        return self.stop - self.start

    @property
    def n_targets(self) -> int:
        """Scored positions."""
        return self.stop - self.first_target + 1


def plan_windows(n_tokens: int, *, context_tokens: int, min_context_tokens: int) -> list[Window]:
    """Windows that score each token of a sequence but the first exactly once.

    `n_tokens` counts the beginning token. A sequence of at most `context_tokens` + 1 tokens is one window. In a longer
    one, windows overlap so that every scored token has at least `min_context_tokens` tokens before it in its window
    (fewer only where the document itself has fewer). Raises ValueError unless 1 <= min_context_tokens < context_tokens.
    """
    if not 1 <= min_context_tokens < context_tokens:
        raise ValueError(f"min_context_tokens must be in [1, {context_tokens}), got {min_context_tokens}")
    windows = []
    target = 1
    while target < n_tokens:
        start = max(0, target - min_context_tokens) if target > 1 else 0
        stop = min(start + context_tokens, n_tokens - 1)
        windows.append(Window(start, stop, target))
        target = stop + 1
    return windows


def bucket(lengths: Sequence[int], *, batch_tokens: int) -> list[np.ndarray]:
    """Indices in batches of similar length, longest first; rows times the longest stay within `batch_tokens`.

    A single window longer than that is a batch of its own. Depends on nothing but the lengths.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    batches = []
    first = 0
    while first < order.size:
        n_rows = max(1, batch_tokens // int(sizes[order[first]]))
        batches.append(order[first : first + n_rows])
        first += n_rows
    return batches


def plan_parts(rows: Sequence[int], *, rows_per_part: int) -> list[range]:
    """Consecutive documents in parts of at most `rows_per_part` rows; a document is never split.

    A document of more rows than that is a part of its own.
    """
    parts = []
    first, total = 0, 0
    for index, n_rows in enumerate(rows):
        if index > first and total + n_rows > rows_per_part:
            parts.append(range(first, index))
            first, total = index, 0
        total += n_rows
    if first < len(rows):
        parts.append(range(first, len(rows)))
    return parts
