"""The forecast of a tuned rule on some rows of one fold, for the scores that need more of it than the log loss does."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from brf_exp.maths.forecast_rows import PartialForecast, TopRows
from brf_exp.maths.forecasts import coherent_forecast, forecast, routed_forecast, single_forecast
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.specs import Parameters, temperature_of, weight_of
from brf_exp.maths.tuning import ScoredRule
from brf_exp.maths.vote_forecasts import VoteForecast, vote_forecast

MORE_MODELS, TOKEN_PHASES, NO_COHERENCE = "more than two models", "phase per token", "no coherence per position"
NOT_NUMERATORS = ("scale", "scale_factor", "weight", "temperature")


@dataclass(frozen=True)
class FoldRows:
    """Rows of one fold, `chosen` (n,) of a chunk: what all rules' forecasts share is worked out once."""

    rows: FusionRows
    chosen: np.ndarray
    fold: int
    _at: dict[float, TopRows] = field(default_factory=dict)

    def top(self, temperature: float = 1.0) -> TopRows:
        """The models' top rows at a temperature."""
        if temperature not in self._at:
            self._at[temperature] = TopRows(self.rows.known_at(temperature).take(self.chosen))
        return self._at[temperature]

    def parameters(self, scored: ScoredRule) -> Parameters:
        """What the rule is scored by here."""
        found = scored.tuned.parameters
        return found[self.fold] if self.fold in found else next(iter(found.values()))


def why_none(scored: ScoredRule) -> str | None:
    """Why a rule of two models has no forecast, by name; None where it has one."""
    if scored.spec.of_tokens:
        return TOKEN_PHASES
    return NO_COHERENCE if scored.spec.name == "gate" and scored.coherence is None else None


def forecast_of(scored: ScoredRule, part: FoldRows) -> PartialForecast | VoteForecast:
    """A rule's forecast on the rows of one fold; of a rule for which `why_none` has no reason."""
    name, rule, parameters = scored.spec.name, scored.spec.rule, part.parameters(scored)
    if scored.coherence is not None:
        top, coherence = part.top(temperature_of(parameters)), scored.coherence[0, part.chosen]
        return coherent_forecast(top, coherence=coherence, weight=_first_weight(parameters))
    if rule is not None:
        given = {key: value for key, value in parameters.items() if key not in NOT_NUMERATORS}
        if "weight" in parameters:
            given["weight"] = _first_weight(parameters)
        return forecast(part.top(temperature_of(parameters)), rule, **given)
    if name.startswith("model_"):
        return single_forecast(part.top(), model=ord(name[-1]) - ord("a"))
    if name == "majority_vote":
        return vote_forecast(part.top(), hit_rate=_hit_rates(part.top(), parameters))
    return routed_forecast(part.top(), confidence=_confidence(name, part))


def _first_weight(parameters: Parameters) -> float:
    weight = weight_of(parameters)
    assert isinstance(weight, float)
    return weight


def _hit_rates(top: TopRows, parameters: Parameters) -> np.ndarray:
    """Probability of the voted token at each position, (n,)."""
    agree = top.known.argmax_ids[0] == top.known.argmax_ids[1]
    return np.where(agree, parameters["hit_rate_agree"], parameters["hit_rate_disagree"])


def _confidence(name: str, part: FoldRows) -> np.ndarray:
    """What a routing rule looks at, (2, n)."""
    rows, known = part.rows, part.top().known
    found: Mapping[str, np.ndarray | None] = {
        "route_max_prob": known.max_log_p,
        "route_gap": rows.gaps[:, part.chosen],
        "route_entropy": None if rows.entropies is None else -rows.entropies[:, part.chosen],
        "oracle": known.target,
    }
    confidence = found[name]
    assert confidence is not None
    return confidence
