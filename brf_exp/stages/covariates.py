"""What a token's difficulty can be predicted from, and the cross-fitted prediction .

The regressor is scikit-learn's histogram gradient boosting: flexible in position, so that no low-order polynomial
has to be trusted, and cross-fitted by document, so that no document's gaps predict themselves.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from brf_exp.maths.documents import Offsets, centred, positions_within, spread
from brf_exp.storage.captures import Capture

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

N_PREVIOUS = 2
RARE = 50  # occurrences below which a token id is lumped with the other rare ones
MAX_CLASSES = 200


def covariates(proxy: Capture, token_id: np.ndarray | None, offsets: Offsets) -> tuple[np.ndarray, list[bool]]:
    """Features (n, F) of each position, and which of them are categories.

    Position from the start and from the end, the previous tokens (the realised token itself is what the models
    predict, so it is left out), the proxy's surprisal there, its entropy and its own gap.
    """
    position = positions_within(offsets)
    columns = [position, spread(np.diff(offsets), offsets) - position]
    categorical = [False, False]
    for values in _proxy_columns(proxy):
        columns.append(values)
        categorical.append(False)
    if token_id is not None:
        for lag in range(1, N_PREVIOUS + 1):
            columns.append(_classes(_lagged(token_id, position, lag)))
            categorical.append(True)
    return np.column_stack(columns).astype(np.float64), categorical


def _proxy_columns(proxy: Capture) -> list[np.ndarray]:
    """Surprisal of the realised token, entropy where it is stored, gap; of the third model."""
    top = proxy.read(["logit_1", "logit_2"])
    columns = [top["logit_1"].astype(np.float64) - top["logit_2"].astype(np.float64)]
    if {"logsumexp", "target_logit"} <= set(proxy.columns):
        rows = proxy.read(["logsumexp", "target_logit"])
        columns.append(rows["logsumexp"] - rows["target_logit"])
        columns.append(rows["logsumexp"] - top["logit_1"])
    if "entropy" in proxy.columns:
        columns.append(proxy.read(["entropy"])["entropy"])
    return columns


def _lagged(token_id: np.ndarray, position: np.ndarray, lag: int) -> np.ndarray:
    """The token `lag` places before, -1 at the start of a document."""
    earlier = np.concatenate([np.full(lag, -1), token_id[:-lag]])
    return np.where(position >= lag, earlier, -1)


def _classes(ids: np.ndarray) -> np.ndarray:
    """The most frequent ids as classes 1, 2, ...; all others are class 0."""
    values, counts = np.unique(ids, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:MAX_CLASSES]
    frequent = np.sort(frequent[np.isin(frequent, values[counts >= RARE])])
    if frequent.size == 0:
        return np.zeros(ids.size)
    place = np.minimum(np.searchsorted(frequent, ids), frequent.size - 1)
    return np.where(frequent[place] == ids, place + 1, 0)


def cross_fitted_prediction(
    scores: np.ndarray,
    features: np.ndarray,
    categorical: list[bool],
    offsets: Offsets,
    folds: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """Prediction (n,) of document-centred scores, each fold's by a regressor fitted on the other folds."""
    from threadpoolctl import threadpool_limits

    target = centred(scores, offsets)
    fold_of_row = spread(folds, offsets)
    prediction = np.zeros(scores.size)

    def fit_one(fold: int) -> None:
        training = fold_of_row != fold
        model = _regressor(categorical, seed).fit(features[training], target[training])
        prediction[~training] = model.predict(features[~training])

    # One OpenMP thread a fold and folds side by side: small fits spend their time waiting for each other
    # otherwise (ten times slower on two busy cores), and sums do not depend on the number of cores.
    with threadpool_limits(limits=1), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fit_one, np.unique(folds).tolist()))
    return prediction


def _regressor(categorical: list[bool], seed: int) -> "HistGradientBoostingRegressor":
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
