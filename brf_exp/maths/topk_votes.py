"""Majority vote on top-k rows: which token is voted for, and the vote-gated forecast's log loss."""

from dataclasses import dataclass

import numpy as np

from brf_exp.maths.documents import Offsets, spread
from brf_exp.maths.topk import TARGET, KnownTokens
from brf_exp.maths.topk_rules import RuleLosses


@dataclass(frozen=True)
class Votes:
    """The voted token: whether all models vote alike, whether the realised token won, and the voted token's
    linear-pool probability as (lower, upper), each (n,)."""

    agree: np.ndarray
    hit: np.ndarray
    pool: tuple[np.ndarray, np.ndarray]


def votes(known: KnownTokens) -> Votes:
    """Plurality of the models' arg-max tokens; a tie goes to the larger mean probability, then to the first model.

    Where another model's probability of a voted token is not known, it enters the tie-break as 0.
    """
    found = known.argmax_ids
    ballots = (found[:, None] == found).sum(axis=1)
    means = np.stack([_mean_probability(known, model) for model in range(known.n_models)])
    # A mean is at most 1 and half of it never outweighs a vote.
    chosen = np.argmax(ballots + 0.5 * means[:, 0], axis=0)[None]
    voted = np.take_along_axis(found, chosen, axis=0)[0]
    lower, upper = (np.take_along_axis(means[:, end], chosen, axis=0)[0] for end in (0, 1))
    return Votes((found == found[0]).all(axis=0), voted == known.shared_ids[:, TARGET], (lower, upper))


def _mean_probability(known: KnownTokens, model: int) -> np.ndarray:
    """Linear-pool probability of a model's top token, from below and from above, (2, n)."""
    ids, lower, upper = known.argmax_ids[model], np.zeros(known.n), np.zeros(known.n)
    matches = known.shared_ids == ids[:, None]
    for other in range(known.n_models):
        log_p = np.where(matches, known.shared[other], -np.inf).max(axis=1)
        log_p = np.where(known.argmax_ids[other] == ids, known.max_log_p[other], log_p)
        # Two models: a token that both list is shared. More: another one may list it, unshared.
        unknown = known.cap[other]
        if known.n_models > 2:
            unknown = np.maximum(unknown, known.own[other].max(axis=1))
        lower += np.exp(log_p)
        upper += np.exp(np.where(np.isfinite(log_p), log_p, unknown))
    return np.stack([lower, upper]) / known.n_models


def vote_losses(known: KnownTokens, ballot: Votes, *, hit_rate: np.ndarray) -> RuleLosses:
    """Vote-gated forecast: -ln hit_rate on a hit, else -ln((1 - hit_rate) linear(y) / (1 - linear(v)))."""
    linear = np.exp(known.target).mean(axis=0)
    ends = []
    for pool in reversed(ballot.pool):
        miss = -np.log1p(-hit_rate) - np.log(linear) + np.log1p(-np.minimum(pool, 1 - 1e-12))
        ends.append(np.where(ballot.hit, -np.log(hit_rate), miss))
    return RuleLosses(np.stack(ends), None, np.zeros(linear.size, dtype=bool))


class VoteCounter:
    """Counts hits by fold and by agreement of the votes; `rates` then gives those of the other folds."""

    def __init__(self, fold_of_document: np.ndarray) -> None:
        self._fold_of_document = fold_of_document
        self._counts = np.zeros((int(fold_of_document.max()) + 1, 2, 2))

    def add(self, ballot: Votes, offsets: Offsets, documents: slice) -> None:
        """Take a chunk of whole documents in."""
        fold = spread(self._fold_of_document[documents], offsets)
        np.add.at(self._counts, (fold, ballot.agree.astype(int), ballot.hit.astype(int)), 1)

    def rates(self) -> dict[int, tuple[float, float]]:
        """(hits + 0.5) / (n + 1) on the other folds, where the votes split and where they agree."""
        outside = self._counts.sum(axis=0) - self._counts
        rates = (outside[:, :, 1] + 0.5) / (outside.sum(axis=2) + 1)
        return {fold: (float(split), float(agreed)) for fold, (split, agreed) in enumerate(rates)}
