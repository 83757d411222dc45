"""The fusion rules: one entry of RULES defines a rule, on full distributions and on top-k rows, and nothing else does.

Shapes: `log_p` (M, ..., V) natural-log probabilities; `weights` (M,), >= 0, sum 1; `phases_rad` (M, ...) one
phase per model and position, or (M, ..., V) one per token. A numerator is the unnormalised fused score
(..., V); `fuse` divides by its sum. `losses` takes KnownTokens and the rule's parameters to RuleLosses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from brf_exp.maths import fusion, topk_rules
from brf_exp.maths.fusion import Fused, equal_weights, normalised
from brf_exp.maths.topk import KnownTokens
from brf_exp.maths.topk_rules import RuleLosses

Numerator = Callable[..., np.ndarray]
Axes = Mapping[str, tuple[float, ...]]
HULL, LOG_CONVEX, NEITHER = "in the convex hull", "log-linear", "neither"
POINT, OVERLAP, HOELDER, OPEN = "a point", "interval of the overlap B", "Hoelder's inequality", "not bounded above"
ORDERS = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0)
COHERENCES = (-0.6, -0.3, 0.0, 0.3, 0.6, 0.8, 1.0)
MIXTURES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)


def _span(lower: float, upper: float, n: int = 105) -> tuple[float, ...]:
    return tuple(float(value) for value in np.linspace(lower, upper, n))


@dataclass(frozen=True)
class Rule:
    """A rule's definition.

    `parameters`: untuned values; `axes`: what else than the weights is tuned, 7 values, or 105 where the rule has no
    weights (`weighted` is false). `along`: the parameter of which `losses` takes all candidates at once. `convexity`
    and `bounds` say in words where the fused distribution lies and what is known of its loss from top-k rows. `losses`
    is None for rules whose scores need more than KnownTokens.
    """

    name: str
    formula: str
    source: str
    numerator: Numerator
    convexity: str
    bounds: str
    losses: Callable[..., RuleLosses] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)
    weighted: bool = True
    along: str | None = "weight"
    uses_phases: bool = False
    most_models: int | None = None


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "linear",
            "sum_i w_i p_i",
            "Stone 1961, doi 10.1214/aoms/1177704873",
            fusion.linear_numerator,
            HULL,
            POINT,
            topk_rules.linear_losses,
        ),
        Rule(
            "log_linear",
            "prod_i p_i^w_i / Z",
            "Genest & Zidek 1986, doi 10.1214/ss/1177013825",
            fusion.product_numerator,
            LOG_CONVEX,
            HOELDER,
            topk_rules.log_linear_losses,
        ),
        Rule(
            "product",
            "prod_i p_i^(s w_i) / Z",
            "Hinton 2002, doi 10.1162/089976602760128018",
            fusion.product_numerator,
            NEITHER,
            HOELDER,
            topk_rules.product_losses,
            {"exponent": 1.0},
            # 1, the log pool, among them.
            {"exponent": (*_span(0.5, 1.0, 36)[:-1], *_span(1.0, 2.0, 70))},
            weighted=False,
            along="exponent",
        ),
        Rule(
            "power_mean",
            "(sum_i w_i p_i^r)^(1/r) / Z",
            "Amari 2007, doi 10.1162/neco.2007.19.10.2780",
            fusion.power_mean_numerator,
            NEITHER,
            OVERLAP,
            topk_rules.power_mean_losses,
            {"order": 0.5},
            {"order": ORDERS},
        ),
        Rule(
            "lin_log_mixture",
            "(1 - lam) sum_i w_i p_i + lam prod_i p_i^(1/M) / Z",
            "identity 1 of the method page",
            fusion.lin_log_numerator,
            NEITHER,
            OVERLAP,
            topk_rules.lin_log_losses,
            {"mixture": 0.5},
            {"mixture": MIXTURES},
        ),
        Rule(
            "constant_coherence",
            "(sum_i w_i p_i + 2 c sum_{i<j} sqrt(w_i w_j p_i p_j)) / Z",
            "Born Rule Fusion with one c for all positions",
            fusion.coherent_numerator,
            NEITHER,
            OVERLAP,
            topk_rules.coherent_losses,
            {"coherence": 0.0},
            {"coherence": COHERENCES},
        ),
        Rule(
            "majority_vote",
            "hit_rate on the voted token, (1 - hit_rate) linear elsewhere",
            "plurality of arg-max tokens",
            fusion.vote_numerator,
            NEITHER,
            "interval of the voted token's probability",
            None,
            {"hit_rate": 0.5},
            weighted=False,
        ),
        Rule(
            "routing",
            "p_i of the model with the largest confidence",
            "confidence: maximum probability, gap or negative entropy",
            fusion.routed_numerator,
            HULL,
            POINT,
            topk_rules.routed_losses,
            weighted=False,
        ),
        Rule(
            "contrastive",
            "p_1^(1 + beta) p_2^(-beta) / Z",
            "Li et al. 2023, arXiv 2210.15097",
            fusion.contrastive_numerator,
            NEITHER,
            OPEN,
            topk_rules.contrastive_losses,
            {"strength": 0.5},
            {"strength": _span(0.02, 1.0)},
            weighted=False,
            along=None,
            most_models=2,
        ),
        Rule(
            "brf",
            "|sum_i sqrt(w_i p_i) exp(i phi_i)|^2 / Z",
            "doi 10.5281/zenodo.18836337",
            fusion.born_numerator,
            NEITHER,
            OVERLAP,
            topk_rules.coherent_losses,
            uses_phases=True,
        ),
    )
}


def fuse(name: str, log_p: np.ndarray, *, weights: np.ndarray | None = None, **parameters: object) -> Fused:
    """Fused distribution under a rule of RULES.

    Parameters: `log_p` (M, ..., V), each row a distribution; `weights` default to 1 / M; `parameters` are the
    rule's own (`phases_rad` for `brf`). Raises ValueError for an unknown rule or weights that are not a
    distribution.

    >>> p = np.log([[[0.5, 0.5]], [[0.9, 0.1]]])
    >>> fuse("brf", p, phases_rad=np.array([[0.0], [np.pi / 2]])).p.round(3)  # c = 0: the linear pool
    array([[0.7, 0.3]])
    """
    if name not in RULES:
        raise ValueError(f"`rule` must be one of {', '.join(sorted(RULES))}, got {name!r}")
    w = equal_weights(log_p.shape[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (log_p.shape[0],) or (w < 0).any() or abs(w.sum() - 1) > 1e-9:
        raise ValueError(f"`weights` must be {log_p.shape[0]} numbers >= 0 with sum 1, got {w}")
    return normalised(RULES[name].numerator(log_p, w, **parameters))


def known_losses(name: str, known: KnownTokens, **parameters: object) -> RuleLosses:
    """Log losses of a rule of RULES on top-k rows."""
    made = RULES[name].losses
    if made is None:
        raise ValueError(f"rule `{name}` is not scored from known tokens alone")
    return made(known, **parameters)
