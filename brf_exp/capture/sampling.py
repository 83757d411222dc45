"""One token drawn from logits: temperature, then the best `top_k`, then the best that have the share `top_p`."""

from typing import TYPE_CHECKING

import numpy as np

from brf_exp.capture.reduce import top_k as best_of

if TYPE_CHECKING:
    import torch


def sample(
    logits: "torch.Tensor", uniforms: np.ndarray, *, temperature: float, top_k: int | None, top_p: float
) -> "torch.Tensor":
    """Token ids (n,) int64 drawn from float32 logits (n, V) by inversion, one uniform number (n,) in [0, 1) each.

    Temperature 0 takes the top token. `top_k` (None: all) is applied before `top_p`, which then counts shares of what
    `top_k` has left; the token that crosses `top_p` is kept. Sums are in float64; of equal logits the lower id is the
    better one.
    """
    import torch

    if temperature == 0:
        return best_of(logits, k=1)[0][:, 0]
    ids, values = _candidates(logits, top_k=top_k, sort=top_p < 1)
    weights = torch.softmax(values.to(torch.float64) / temperature, dim=-1)
    if top_p < 1:
        weights = torch.where(weights.cumsum(dim=-1) - weights < top_p, weights, 0.0)
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    wanted = torch.from_numpy(uniforms).to(total.device)[:, None] * total
    # The first candidate whose cumulative weight exceeds the number; rounding must not reach behind the last one.
    last = torch.searchsorted(cumulative, total).clamp(max=cumulative.shape[-1] - 1)
    place = torch.minimum(torch.searchsorted(cumulative, wanted, right=True), last)
    return place[:, 0] if ids is None else ids.gather(1, place)[:, 0]


def _candidates(
    logits: "torch.Tensor", *, top_k: int | None, sort: bool
) -> tuple["torch.Tensor | None", "torch.Tensor"]:
    """Ids and logits that may be drawn, best first where that matters; ids None: all, in the order of ids."""
    if top_k is not None and top_k < logits.shape[-1]:
        return best_of(logits, k=top_k)
    if not sort:
        return None, logits
    values, ids = logits.sort(dim=-1, descending=True, stable=True)
    return ids, values
