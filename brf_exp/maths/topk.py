"""What top-k rows of two models or more say exactly, and what they bound.

Per position let S be the tokens known to every model (common top-k tokens and the realised token), r_i the mass of
model i outside S. Everything on S is exact; everything else is bounded. Bounds that look at which of two models lists
a token are made for two models; more have those that hold for any number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

TARGET = 0  # column of the realised token in the arrays over S
# Added to every mass outside the listed tokens: a sum of probabilities is only known to rounding, and what is lost
# there enters the bounds under a root, where 1e-16 becomes 1e-8.
ROUNDING = 1e-14
TINY = 1e-300


@dataclass(frozen=True)
class KnownTokens:
    """Top-k knowledge of M models at n positions, from rows of k logits each.

    `shared` (M, n, k + 1): log-probabilities on S, the realised token first, -inf where a column is unused.
    `own` M arrays (n, k): log-probabilities of tokens in the model's top-k and outside S, -inf where unused.
    `own_ends` (M, 2, n): the largest and the smallest of those, -inf where there are none. `listed` (M, n): their
    mass. `remainder` (M, n): mass outside S. `unlisted` (M, n): the part of it outside the model's own top-k as well.
    `cap` (M, n): log of the largest probability an unlisted token can have.
    `overlaps` (P, 2, n): lower and upper bound of the Bhattacharyya coefficient B of each pair of models, in the
    order of itertools.combinations. `one_sided` (4, n), two models only: see `_split`.
    `argmax_ids` (M, n) and `max_log_p` (M, n): each model's own top token. `complete`: whole
    vocabularies are listed. `n_outside` (n,): how many tokens are outside S, None where the vocabulary's size is not
    known.
    """

    shared: np.ndarray
    own: tuple[np.ndarray, ...]
    own_ends: np.ndarray
    listed: np.ndarray
    remainder: np.ndarray
    unlisted: np.ndarray
    cap: np.ndarray
    overlaps: np.ndarray
    one_sided: np.ndarray | None
    shared_ids: np.ndarray
    argmax_ids: np.ndarray
    max_log_p: np.ndarray
    complete: bool = False
    n_outside: np.ndarray | None = None

    @property
    def n_models(self) -> int:
        """M."""
        return self.shared.shape[0]

    @property
    def n(self) -> int:
        """Positions."""
        return self.shared.shape[1]

    @property
    def target(self) -> np.ndarray:
        """Log-probabilities of the realised token, (M, n): exact."""
        return self.shared[:, :, TARGET]

    @property
    def has_no_tail(self) -> np.ndarray:
        """Whether S is the whole vocabulary, (n,) bool: never read off the masses, since any rest may be too small."""
        return self.complete & ~np.isfinite(self.own_ends[:, 0]).any(axis=0)

    @property
    def overlap(self) -> np.ndarray:
        """Bounds of B of two models, (2, n)."""
        if self.n_models != 2:
            raise ValueError(f"`overlap` is of two models, got {self.n_models}")
        return self.overlaps[0]

    def take(self, rows: np.ndarray | slice) -> "KnownTokens":
        """The chosen positions; those of a slice are views."""
        return KnownTokens(
            shared=self.shared[:, rows],
            own=tuple(listed[rows] for listed in self.own),
            own_ends=self.own_ends[:, :, rows],
            listed=self.listed[:, rows],
            remainder=self.remainder[:, rows],
            unlisted=self.unlisted[:, rows],
            cap=self.cap[:, rows],
            overlaps=self.overlaps[:, :, rows],
            one_sided=None if self.one_sided is None else self.one_sided[:, rows],
            shared_ids=self.shared_ids[rows],
            argmax_ids=self.argmax_ids[:, rows],
            max_log_p=self.max_log_p[:, rows],
            complete=self.complete,
            n_outside=None if self.n_outside is None else self.n_outside[rows],
        )


def known_tokens(
    ids: Sequence[np.ndarray],
    log_p: Sequence[np.ndarray],
    *,
    target_ids: np.ndarray,
    target_log_p: np.ndarray,
    complete: bool = False,
    vocabulary_size: int | None = None,
) -> KnownTokens:
    """Align the top-k rows of M >= 2 models.

    Parameters: `ids` and `log_p` per model (n, k), best first, k may differ; `target_ids` (n,);
    `target_log_p` (M, n), the exact log-probability of the realised token; `complete`: every model's rows hold its
    whole vocabulary; `vocabulary_size`: tokens that the models' probabilities are spread over, where it is known.
    """
    is_target = ids[0] == target_ids[:, None]
    partners = [_matches(ids[0], others) for others in ids[1:]]
    common = np.logical_and.reduce([partner >= 0 for partner in partners]) & ~is_target
    rows = [
        log_p[0],
        *(np.take_along_axis(p, np.maximum(m, 0), axis=1) for p, m in zip(log_p[1:], partners, strict=True)),
    ]
    shared = np.concatenate([target_log_p[:, :, None], np.where(common, np.stack(rows), -np.inf)], axis=2)
    shared_ids = np.where(common, ids[0], -1)
    own = tuple(
        np.where(_outside(own_ids, shared_ids, target_ids), p, -np.inf) for own_ids, p in zip(ids, log_p, strict=True)
    )
    remainder = np.maximum(1 - np.exp(shared).sum(axis=2), 0) + ROUNDING
    own_mass = np.stack([np.exp(listed).sum(axis=1) for listed in own])
    unlisted = np.maximum(remainder - own_mass, ROUNDING)
    cap = np.minimum(np.stack([p[:, -1] for p in log_p]), np.log(unlisted))
    one_sided = _split(own, own_mass, unlisted, cap) if len(ids) == 2 else None
    size = ids[0].shape[1] if complete else vocabulary_size
    known = KnownTokens(
        shared=shared,
        own=own,
        own_ends=np.stack([_ends(listed) for listed in own]),
        listed=own_mass,
        remainder=remainder,
        unlisted=unlisted,
        cap=cap,
        overlaps=np.empty((0, 2, target_ids.size)),
        one_sided=one_sided,
        shared_ids=np.concatenate([target_ids[:, None], shared_ids], axis=1),
        argmax_ids=np.stack([model[:, 0] for model in ids]),
        max_log_p=np.stack([model[:, 0] for model in log_p]),
        complete=complete,
        n_outside=None if size is None else np.maximum(size - 1 - common.sum(axis=1), 0),
    )
    return replace(known, overlaps=_overlaps(known, ids, log_p, target_ids, target_log_p))


def _overlaps(
    known: KnownTokens,
    ids: Sequence[np.ndarray],
    log_p: Sequence[np.ndarray],
    target_ids: np.ndarray,
    target_log_p: np.ndarray,
) -> np.ndarray:
    """Bounds of B of every pair, (P, 2, n): each pair with all that its two models know in common."""
    if known.n_models > 2:
        pairs = combinations(range(known.n_models), 2)
        return np.stack(
            [
                known_tokens(
                    [ids[i] for i in pair],
                    [log_p[i] for i in pair],
                    target_ids=target_ids,
                    target_log_p=target_log_p[list(pair)],
                ).overlaps[0]
                for pair in pairs
            ]
        )
    p = np.exp(known.shared)
    lower = np.sqrt(p[0] * p[1]).sum(axis=1)
    upper = np.minimum(1.0, lower + pool_tail(known, 0.5))
    return np.stack([np.minimum(lower, upper), upper])[None]


def _ends(own: np.ndarray) -> np.ndarray:
    """Largest and smallest log-probability of each row, (2, n); -inf where there is none."""
    smallest = np.where(np.isfinite(own), own, np.inf).min(axis=1)
    return np.stack([own.max(axis=1), np.where(np.isposinf(smallest), -np.inf, smallest)])


def _outside(own_ids: np.ndarray, shared_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
    """Which of a model's listed tokens are not in S, (n, k) bool."""
    return (_matches(own_ids, shared_ids) < 0) & (own_ids != target_ids[:, None])


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


def _split(own: Sequence[np.ndarray], own_mass: np.ndarray, unlisted: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """How much of each model's unlisted mass may lie on tokens that only the other one lists, (4, n).

    Rows: x (of model 2's mass, on tokens of model 1 alone), y (the converse), and their limits. x, y make the sum of
    p_1^w p_2^(1 - w) outside S as large as it can be, for every weight w: its stationarity, A_1 / x = (u_1 - y) /
    (u_2 - x) and the converse, does not depend on w.
    """
    limit_x = np.minimum(unlisted[1], np.isfinite(own[0]).sum(axis=1) * np.exp(cap[1]))
    limit_y = np.minimum(unlisted[0], np.isfinite(own[1]).sum(axis=1) * np.exp(cap[0]))
    x, y = 0.5 * limit_x, 0.5 * limit_y
    for _ in range(12):
        x = np.minimum(limit_x, unlisted[1] * own_mass[0] / np.maximum(own_mass[0] + unlisted[0] - y, TINY))
        y = np.minimum(limit_y, unlisted[0] * own_mass[1] / np.maximum(own_mass[1] + unlisted[1] - x, TINY))
    # Away from the edges, where the gradient is finite and the tangent plane is useful.
    x, y = np.clip(x, 1e-9 * limit_x, (1 - 1e-9) * limit_x), np.clip(y, 1e-9 * limit_y, (1 - 1e-9) * limit_y)
    return np.stack([x, y, limit_x, limit_y])


def pool_tail(known: KnownTokens, weight: float | np.ndarray) -> np.ndarray:
    """Upper bound of sum p_1^w p_2^(1 - w) outside S, 0 < w < 1, (n,); two models. Of weights (C,): (C, n).

    By Hoelder on tokens of model 1 alone, of model 2 alone, and of neither, the sum is at most f(x, y) =
    A_1^w x^(1 - w) + y^w A_2^(1 - w) + (u_1 - y)^w (u_2 - x)^(1 - w), concave on the box of x and y. From any point
    of the box, concavity gives f <= f(x, y) + max over the box of the tangent plane: a bound that holds however far
    the ascent to (x, y) got.
    """
    assert known.one_sided is not None
    w = np.asarray(weight, dtype=np.float64)[..., None]
    v = 1 - w
    x, y, limit_x, limit_y = known.one_sided
    # Powers as exponentials of logarithms that are taken once for all weights.
    with np.errstate(divide="ignore"):
        first, second, log_x, log_y = (np.log(row) for row in (*known.listed, x, y))
        rest1, rest2 = (np.log(np.maximum(known.unlisted[i] - taken, 0)) for i, taken in ((0, y), (1, x)))
        outside = np.log(known.remainder)
    least = np.log(TINY)
    value = np.exp(w * first + v * log_x) + np.exp(w * log_y + v * second) + np.exp(w * rest1 + v * rest2)
    ratio = rest1 - np.maximum(rest2, least)
    slope_x = v * (np.exp(w * (first - np.maximum(log_x, least))) - np.exp(w * ratio))
    slope_y = w * (np.exp(v * (second - np.maximum(log_y, least))) - np.exp(-v * np.maximum(ratio, least)))
    gain_x = np.maximum(slope_x * (limit_x - x), -slope_x * x)
    gain_y = np.maximum(slope_y * (limit_y - y), -slope_y * y)
    plane = value + np.maximum(gain_x, 0) + np.maximum(gain_y, 0)
    return np.minimum(np.where(np.isfinite(plane), plane, np.inf), np.exp(w * outside[0] + v * outside[1]))
