"""Top-1 accuracy of every scored rule: exact where it is known, an interval where the tail could win."""

from typing import Any

import numpy as np

from brf_exp.maths.documents import spread
from brf_exp.maths.topk import TARGET
from brf_exp.maths.topk_bounds import accuracy_bounds
from brf_exp.maths.topk_votes import votes
from brf_exp.maths.tuning import PairRows, Parameters, ScoredRule

NUMERATORS = ("linear", "log_linear", "power_mean", "product", "constant_coherence")


def accuracies(
    rows: PairRows, scored: dict[str, ScoredRule], coherences: dict[str, np.ndarray], folds: np.ndarray | None
) -> dict[str, list[float] | float | None]:
    """Accuracy of each rule: a number, [surely, possibly], or None where it is not computed."""
    exact = _exact(rows)
    fold_of_row = None if folds is None else spread(folds, rows.offsets)
    found: dict[str, list[float] | float | None] = {}
    for name, rule in scored.items():
        if name in exact:
            found[name] = float(exact[name].mean())
        elif name in NUMERATORS:
            found[name] = _bounds(rows, name, rule, None, fold_of_row)
        elif name in coherences:
            found[name] = _bounds(rows, "constant_coherence", rule, coherences[name], fold_of_row)
        else:
            found[name] = None
    return found


def _exact(rows: PairRows) -> dict[str, np.ndarray]:
    """Rules whose top token is one model's top token: right or wrong per position."""
    known = rows.known
    right = known.argmax_ids == known.shared_ids[:, TARGET]

    def chosen(confidence: np.ndarray) -> np.ndarray:
        return np.take_along_axis(right, np.argmax(confidence, axis=0)[None], axis=0)[0]

    found = {
        "model_a": right[0],
        "model_b": right[1],
        "route_max_prob": chosen(known.max_log_p),
        "route_gap": chosen(rows.gaps),
        "oracle": chosen(known.target),
        "majority_vote": votes(known).hit,
    }
    if rows.entropies is not None:
        found["route_entropy"] = chosen(-rows.entropies)
    return found


def _bounds(
    rows: PairRows, rule: str, scored: ScoredRule, coherence: np.ndarray | None, fold_of_row: np.ndarray | None
) -> list[float] | float:
    """Bounds over all rows, each fold with its own parameters."""
    n = rows.offsets[-1]
    total = np.zeros(2)
    for fold, parameters in enumerate(scored.parameters):
        single = fold_of_row is None or len(scored.parameters) == 1
        mine = np.arange(n) if single else np.flatnonzero(fold_of_row == fold)
        if mine.size == 0:
            continue
        chosen = _parameters_of(parameters, None if coherence is None else coherence[mine])
        total += accuracy_bounds(rows.known.take(mine), rule, **chosen).sum(axis=1)
    lower, upper = (total / n).tolist()
    return lower if lower == upper else [lower, upper]


def _parameters_of(parameters: Parameters, coherence: np.ndarray | None) -> dict[str, Any]:
    kept: dict[str, Any] = {name: value for name, value in parameters.items() if name not in ("scale", "scale_factor")}
    return kept if coherence is None else {**kept, "coherence": coherence}
