"""Top-1 accuracy of a scored rule on a chunk of rows: exact where it is known, an interval where the tail could win."""

from typing import Any

import numpy as np

from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import temperature_of, weight_of
from brf_exp.maths.topk import TARGET
from brf_exp.maths.topk_bounds import accuracy_bounds
from brf_exp.maths.topk_votes import votes
from brf_exp.maths.tuning import ScoredRule


def right_bounds(scored: ScoredRule, rows: FusionRows) -> np.ndarray | None:
    """Is the realised token the rule's top token, surely and possibly, (2, n) bool; None where it is not computed."""
    exact = _exact(scored.spec.name, rows)
    if exact is not None:
        return np.stack([exact, exact])
    rule = scored.spec.rule
    # The mixture's log pool is normalised over the whole vocabulary, and phases of tokens outside S are not known.
    if rule is None or rule == "lin_log_mixture" or scored.spec.of_tokens:
        return None
    found = np.empty((2, rows.n), dtype=bool)
    for chosen, parameters in scored.parts(rows):
        given = _numerator_parameters(scored, chosen, parameters)
        if given is None:
            return None
        name = "constant_coherence" if rule == "brf" else rule
        known = rows.known_at(temperature_of(parameters)).take(chosen)
        found[:, chosen] = accuracy_bounds(known, name, weight=weight_of(parameters), **given)
    return found


def _numerator_parameters(scored: ScoredRule, chosen: np.ndarray, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The parameters of the rule's numerator at the chosen rows; None for more than one pair of models with phases."""
    skipped = ("scale", "scale_factor", "weight", "temperature")
    given = {name: value for name, value in parameters.items() if name not in skipped}
    if scored.spec.rule != "brf":
        return given
    assert scored.coherence is not None
    if scored.coherence.shape[0] > 1:
        return None
    return {**given, "coherence": scored.coherence[0, chosen]}


def _exact(name: str, rows: FusionRows) -> np.ndarray | None:
    """Rules whose top token is one model's top token: right or wrong per position."""
    known = rows.known
    right = known.argmax_ids == known.shared_ids[:, TARGET]

    def chosen(confidence: np.ndarray) -> np.ndarray:
        return np.take_along_axis(right, np.argmax(confidence, axis=0)[None], axis=0)[0]

    if name.startswith("model_"):
        return right[ord(name[-1]) - ord("a")]
    if name == "majority_vote":
        return votes(known).hit
    confidences = {"route_max_prob": known.max_log_p, "route_gap": rows.gaps, "oracle": known.target}
    if rows.entropies is not None:
        confidences["route_entropy"] = -rows.entropies
    return chosen(confidences[name]) if name in confidences else None
