"""What a token's difficulty can be predicted from, and the cross-fitted prediction.

The regressor is scikit-learn's histogram gradient boosting: flexible in position, so that no low-order polynomial
has to be trusted, and cross-fitted by document, so that no document's gaps predict themselves.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from brf_exp.maths.documents import Offsets, centred, document_chunks, lengths_of, positions_within, spread
from brf_exp.maths.pairing import Rows
from brf_exp.stages.gap_rows import GapRows, Signals

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

N_PREVIOUS = 2
RARE = 50  # occurrences below which a token id is lumped with the other rare ones
MAX_CLASSES = 200
# Rows a regressor is fitted on at most: whole documents, evenly spaced. More rows no longer change trees this small.
MAX_FIT_ROWS = 400_000


class Features(Protocol):
    """Features of whole documents: `at(first, last)` gives those of documents first .. last - 1, (rows, F)."""

    def at(self, documents: slice) -> np.ndarray:
        """Features of consecutive documents."""
        ...


@dataclass(frozen=True)
class Covariates:
    """Features of each position, which of them are categories, and the fold of each document."""

    features: Features
    categorical: Sequence[bool]
    folds: np.ndarray


@dataclass(frozen=True)
class FeatureArray:
    """Features (n, F) that are there already."""

    values: np.ndarray
    offsets: Offsets

    def at(self, documents: slice) -> np.ndarray:
        """Features of consecutive documents."""
        return self.values[self.offsets[documents.start] : self.offsets[documents.stop]]


@dataclass(frozen=True)
class TokenFeatures:
    """Features worked out from a pair's rows where they are asked for.

    Position from the start and from the end, what the proxies say of the token, the classes of the previous tokens'
    ids (the realised token itself is what the models predict), and the classes of its and the previous one's strings.
    """

    rows: GapRows
    proxies: tuple[Signals, ...]
    frequent_ids: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        ids = self.rows.token_id
        object.__setattr__(self, "frequent_ids", np.empty(0, np.int32) if ids is None else _frequent(ids))

    @property
    def categorical(self) -> list[bool]:
        """Which features are categories, in the order of `at`."""
        n_ids = 0 if self.rows.token_id is None else N_PREVIOUS
        n_classes = 0 if self.rows.token_class is None else 2
        return [False] * (2 + sum(s.values.shape[0] for s in self.proxies)) + [True] * (n_ids + n_classes)

    def at(self, documents: slice) -> np.ndarray:
        """Features of consecutive documents, float32 (rows, F); NaN where a proxy says nothing."""
        rows = slice(int(self.rows.offsets[documents.start]), int(self.rows.offsets[documents.stop]))
        offsets = self.rows.offsets[documents.start : documents.stop + 1] - rows.start
        position = positions_within(offsets)
        columns = [position, spread(lengths_of(offsets), offsets) - position]
        columns += [signal for proxy in self.proxies for signal in proxy.values[:, rows]]
        if self.rows.token_id is not None:
            classes = _classes(self.rows.token_id[rows], self.frequent_ids)
            columns += [_lagged(classes, position, lag) for lag in range(1, N_PREVIOUS + 1)]
        if self.rows.token_class is not None:
            strings = self.rows.token_class[rows].astype(np.int64)  # room for the class of a document's start
            columns += [strings, _lagged(strings, position, 1)]
        return np.column_stack(columns).astype(np.float32)


def token_covariates(rows: GapRows, proxies: Sequence[Signals], folds: np.ndarray) -> Covariates:
    """Covariates of a pair with these difficulty proxies."""
    features = TokenFeatures(rows, tuple(proxies))
    return Covariates(features, features.categorical, folds)


def _frequent(ids: np.ndarray) -> np.ndarray:
    """The most frequent ids, ascending."""
    counts = np.bincount(np.maximum(ids, 0))
    frequent = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
    return np.sort(frequent[counts[frequent] >= RARE])


def _classes(ids: np.ndarray, frequent: np.ndarray) -> np.ndarray:
    """Frequent ids as classes 1, 2, ...; all others are class 0."""
    if frequent.size == 0:
        return np.zeros(ids.size, np.int64)
    place = np.minimum(np.searchsorted(frequent, ids), frequent.size - 1)
    return np.where(frequent[place] == ids, place + 1, 0)


def _lagged(classes: np.ndarray, position: np.ndarray, lag: int) -> np.ndarray:
    """The class `lag` places before; at the start of a document a class of its own."""
    earlier = np.concatenate([np.zeros(min(lag, classes.size), classes.dtype), classes[:-lag]])
    return np.where(position >= lag, earlier, MAX_CLASSES + 1)


def cross_fitted_prediction(
    scores: Rows, covariates: Covariates, offsets: Offsets, *, seed: int, out: np.ndarray
) -> None:
    """Prediction of document-centred scores into `out` (n,), each fold's by a regressor fitted on the other folds."""
    from threadpoolctl import threadpool_limits

    folds = np.unique(covariates.folds).tolist()
    # One OpenMP thread a fold and folds side by side: small fits spend their time waiting for each other
    # otherwise (ten times slower on two busy cores), and sums do not depend on the number of cores. OpenMP's limit is
    # one of the calling thread alone, so every thread of the pool sets its own.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool:
        models = list(pool.map(lambda fold: _fit(scores, covariates, offsets, fold, seed), folds))
        chunks = document_chunks(offsets)
        fitted = dict(zip(folds, models, strict=True))
        list(pool.map(lambda documents: _predict(fitted, covariates, offsets, documents, out), chunks))


def _fit(
    scores: Rows, covariates: Covariates, offsets: Offsets, fold: int, seed: int
) -> "HistGradientBoostingRegressor":
    """A regressor fitted on the documents outside a fold."""
    training = _spaced(np.flatnonzero(covariates.folds != fold), lengths_of(offsets))
    features, targets = [], []
    for documents in document_chunks(offsets):
        wanted = training[(training >= documents.start) & (training < documents.stop)] - documents.start
        if not wanted.size:
            continue
        rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
        within = offsets[documents.start : documents.stop + 1] - rows.start
        chosen = spread(np.isin(np.arange(within.size - 1), wanted), within)
        features.append(covariates.features.at(documents)[chosen])
        targets.append(centred(scores[rows], within)[chosen])
    values = np.concatenate(features)
    # What is known of no token at all (a proxy without surprisal, say) tells nothing, and cannot be binned.
    values[:, np.isnan(values).all(axis=0)] = 0
    return _regressor(covariates.categorical, seed).fit(values, np.concatenate(targets))


def _spaced(documents: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Evenly spaced documents of at most MAX_FIT_ROWS rows together, at least one."""
    total = int(lengths[documents].sum())
    if total <= MAX_FIT_ROWS:
        return documents
    keep = max(1, int(documents.size * MAX_FIT_ROWS / total))
    return documents[np.linspace(0, documents.size - 1, keep).round().astype(np.int64)]


def _predict(
    models: "dict[int, HistGradientBoostingRegressor]",
    covariates: Covariates,
    offsets: Offsets,
    documents: slice,
    out: np.ndarray,
) -> None:
    """Predictions for consecutive documents, each by the regressor that has not seen its fold."""
    rows = slice(int(offsets[documents.start]), int(offsets[documents.stop]))
    fold_of_row = spread(covariates.folds[documents], offsets[documents.start : documents.stop + 1] - rows.start)
    features, predicted = covariates.features.at(documents), np.empty(fold_of_row.size)
    for fold in np.unique(fold_of_row).tolist():
        mine = fold_of_row == fold
        predicted[mine] = models[fold].predict(features[mine])
    out[rows] = predicted


def _regressor(categorical: Sequence[bool], seed: int) -> "HistGradientBoostingRegressor":
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=50,
        learning_rate=0.15,
        max_leaf_nodes=16,
        min_samples_leaf=40,
        categorical_features=np.array(categorical),
        early_stopping=False,
        random_state=seed,
    )
