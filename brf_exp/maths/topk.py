"""What top-k rows of two models say exactly, and what they bound.

Per position let S be the tokens known to both models (common top-k tokens and the realised token), r_i the mass
of model i outside S. Everything on S is exact; everything else is bounded. Two models only.
"""

from dataclasses import dataclass

import numpy as np

TARGET = 0  # column of the realised token in the arrays over S
# Added to every mass outside the listed tokens: a sum of probabilities is only known to rounding, and what is lost
# there enters the bounds under a root, where 1e-16 becomes 1e-8.
ROUNDING = 1e-14


@dataclass(frozen=True)
class KnownTokens:
    """Top-k knowledge of two models at n positions, from rows of k logits each.

    `shared` (2, n, k + 1): log-probabilities on S, the realised token first, -inf where a column is unused.
    `own` two arrays (n, k): log-probabilities of tokens in one model's top-k only, -inf where unused.
    `remainder` (2, n): mass outside S. `unlisted` (2, n): the part of it outside the model's own top-k as well.
    `cap` (2, n): log of the largest probability an unlisted token can have.
    `overlap` (2, n): lower and upper bound of the Bhattacharyya coefficient B.
    `argmax_ids` (2, n) and `max_log_p` (2, n): each model's own top token.
    """

    shared: np.ndarray
    own: tuple[np.ndarray, np.ndarray]
    remainder: np.ndarray
    unlisted: np.ndarray
    cap: np.ndarray
    overlap: np.ndarray
    shared_ids: np.ndarray
    argmax_ids: np.ndarray
    max_log_p: np.ndarray

    @property
    def target(self) -> np.ndarray:
        """Log-probabilities of the realised token, (2, n): exact."""
        return self.shared[:, :, TARGET]


def known_tokens(
    ids: tuple[np.ndarray, np.ndarray],
    log_p: tuple[np.ndarray, np.ndarray],
    *,
    target_ids: np.ndarray,
    target_log_p: np.ndarray,
) -> KnownTokens:
    """Align the top-k rows of two models.

    Parameters: `ids` and `log_p` per model (n, k), best first, k may differ; `target_ids` (n,);
    `target_log_p` (2, n), the exact log-probability of the realised token.
    """
    partner = _matches(ids[0], ids[1])
    is_target = ids[0] == target_ids[:, None]
    common = (partner >= 0) & ~is_target
    second = np.take_along_axis(log_p[1], np.maximum(partner, 0), axis=1)
    shared = np.full((2, *ids[0].shape), -np.inf)
    shared[0][common], shared[1][common] = log_p[0][common], second[common]
    shared = np.concatenate([target_log_p[:, :, None], shared], axis=2)
    shared_ids = np.where(common, ids[0], -1)
    own1 = np.where((partner < 0) & ~is_target, log_p[0], -np.inf)
    in_first = _matches(ids[1], ids[0]) >= 0
    own2 = np.where(~in_first & (ids[1] != target_ids[:, None]), log_p[1], -np.inf)
    p_shared = np.exp(shared)
    remainder = np.maximum(1 - p_shared.sum(axis=2), 0) + ROUNDING
    own_mass = np.stack([np.exp(own1).sum(axis=1), np.exp(own2).sum(axis=1)])
    unlisted = np.maximum(remainder - own_mass, ROUNDING)
    cap = np.minimum(np.stack([log_p[0][:, -1], log_p[1][:, -1]]), np.log(unlisted))
    lower = np.sqrt(p_shared[0] * p_shared[1]).sum(axis=1)
    upper = np.minimum(1.0, lower + _overlap_tail((own1, own2), own_mass, unlisted, cap))
    return KnownTokens(
        shared=shared,
        own=(own1, own2),
        remainder=remainder,
        unlisted=unlisted,
        cap=cap,
        overlap=np.stack([np.minimum(lower, upper), upper]),
        shared_ids=np.concatenate([target_ids[:, None], shared_ids], axis=1),
        argmax_ids=np.stack([ids[0][:, 0], ids[1][:, 0]]),
        max_log_p=np.stack([log_p[0][:, 0], log_p[1][:, 0]]),
    )


def _matches(ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Column in `others` of each id of the same row, -1 where it is not there; (n, k)."""
    order = np.argsort(others, axis=1, kind="stable")
    ranked = np.take_along_axis(others, order, axis=1)
    # One search over all rows: row number and id packed into one sorted key.
    span = np.int64(max(int(ids.max()), int(others.max())) + 2)
    rows = np.arange(ids.shape[0], dtype=np.int64)[:, None] * span
    keys = (rows + ranked).ravel()
    wanted = rows + ids
    place = np.minimum(np.searchsorted(keys, wanted.ravel()), keys.size - 1)
    found = keys[place] == wanted.ravel()
    column = order.ravel()[place]
    return np.where(found, column, -1).reshape(ids.shape)


def _overlap_tail(
    own: tuple[np.ndarray, np.ndarray], own_mass: np.ndarray, unlisted: np.ndarray, cap: np.ndarray
) -> np.ndarray:
    """Upper bound of sum sqrt(p_1 p_2) outside S.

    Let x be model 2's unlisted mass on tokens that only model 1 lists, y the converse. Then the sum is at most
    f(x, y) = sqrt(A_1 x) + sqrt(A_2 y) + sqrt((u_1 - y)(u_2 - x)), concave on the box 0 <= x <= min(u_2, caps).
    From any point of the box, concavity gives f <= f(x0, y0) + max over the box of the tangent plane: a bound
    that holds however far the ascent got.
    """
    tiny = 1e-300
    limit_x = np.minimum(unlisted[1], np.isfinite(own[0]).sum(axis=1) * np.exp(cap[1]))
    limit_y = np.minimum(unlisted[0], np.isfinite(own[1]).sum(axis=1) * np.exp(cap[0]))
    x, y = 0.5 * limit_x, 0.5 * limit_y
    for _ in range(12):
        x = np.minimum(limit_x, unlisted[1] * own_mass[0] / np.maximum(own_mass[0] + unlisted[0] - y, tiny))
        y = np.minimum(limit_y, unlisted[0] * own_mass[1] / np.maximum(own_mass[1] + unlisted[1] - x, tiny))
    # Away from the edges, where the gradient is finite and the tangent plane is useful.
    x, y = np.clip(x, 1e-9 * limit_x, (1 - 1e-9) * limit_x), np.clip(y, 1e-9 * limit_y, (1 - 1e-9) * limit_y)
    rest1, rest2 = np.maximum(unlisted[0] - y, 0), np.maximum(unlisted[1] - x, 0)
    value = np.sqrt(own_mass[0] * x) + np.sqrt(own_mass[1] * y) + np.sqrt(rest1 * rest2)
    slope_x = 0.5 * (np.sqrt(own_mass[0] / np.maximum(x, tiny)) - np.sqrt(rest1 / np.maximum(rest2, tiny)))
    slope_y = 0.5 * (np.sqrt(own_mass[1] / np.maximum(y, tiny)) - np.sqrt(rest2 / np.maximum(rest1, tiny)))
    gain_x = np.maximum(slope_x * (limit_x - x), -slope_x * x)
    gain_y = np.maximum(slope_y * (limit_y - y), -slope_y * y)
    plane = value + np.maximum(gain_x, 0) + np.maximum(gain_y, 0)
    outside = own_mass + unlisted
    return np.minimum(np.where(np.isfinite(plane), plane, np.inf), np.sqrt(outside[0] * outside[1]))
