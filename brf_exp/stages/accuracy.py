"""Top-1 accuracy of a scored rule on a chunk of rows: exact where it is known, an interval where the tail could win."""

import numpy as np

from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import Parameters, temperature_of, weight_of
from brf_exp.maths.top_token import coherent_top, mixture_top, token_phase_top
from brf_exp.maths.topk import TARGET
from brf_exp.maths.topk_bounds import accuracy_bounds
from brf_exp.maths.topk_votes import votes
from brf_exp.maths.tuning import ScoredRule


def right_bounds(scored: ScoredRule, rows: FusionRows) -> np.ndarray | None:
    """Is the realised token the rule's top token, surely and possibly, (2, n) bool; None where rows do not say."""
    exact = _exact(scored.spec.name, rows)
    if exact is not None:
        return np.stack([exact, exact])
    if scored.spec.rule is None:
        return None
    found = np.empty((2, rows.n), dtype=bool)
    for chosen, part, parameters in scored.pieces(rows):
        found[:, chosen] = _bounds(scored, part, chosen, parameters)
    return found


def _bounds(scored: ScoredRule, part: FusionRows, chosen: np.ndarray, parameters: Parameters) -> np.ndarray:
    """The same on the rows of one fold, `chosen` of the chunk's."""
    spec, known, weight = scored.spec, part.known_at(temperature_of(parameters)), weight_of(parameters)
    if spec.shared_phases is not None:
        return token_phase_top(known, phases_rad=spec.shared_phases(part, parameters), weight=weight)
    if scored.coherence is not None:
        coherence = scored.coherence[:, chosen]
        if known.n_models > 2:
            return coherent_top(known, coherence=coherence, weight=weight)
        return accuracy_bounds(known, "constant_coherence", coherence=coherence[0], weight=weight)
    assert spec.rule is not None
    given = {name: value for name, value in parameters.items() if name not in ("weight", "temperature")}
    if spec.rule == "lin_log_mixture":
        return mixture_top(known, mixture=float(given["mixture"]), weight=weight)  # type: ignore[arg-type]
    return accuracy_bounds(known, spec.rule, weight=weight, **given)


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
