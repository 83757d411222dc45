"""Structural properties of fusion rules, each as a comparison of what a rule gives with what the property demands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np

from brf_exp.maths.audit_cases import Cases, Forecasts, Setting, decided, fused_by, score_of
from brf_exp.maths.convex_hull import nearest_average
from brf_exp.maths.fusion import Fused

TURN_RAD = 1.234
# Positions on which a rule is fitted as a quadratic form, how well it must fit to be one, and how well conditioned a
# position must be for its terms to be told apart.
N_FITTED = 100
FIT_TOLERANCE = 1e-9
MIN_CONDITION = 1e-3


@dataclass(frozen=True)
class Comparison:
    """One property on many positions: what was `found` (n, V'), what the property `expected`, and by how much each
    entry breaks it (`excess`, above 0 where it does).

    `asked` (n,): positions where the question has an answer. `given` holds whatever else the comparison was made
    with, one row per position.
    """

    forecasts: Forecasts
    fused: np.ndarray
    found: np.ndarray
    expected: np.ndarray
    excess: np.ndarray
    asked: np.ndarray
    given: Mapping[str, np.ndarray] = field(default_factory=dict)


Compare = Callable[[Setting, Cases, Fused], Comparison]


@dataclass(frozen=True)
class Property:
    """A property: its name, what it says, and how it is found out."""

    name: str
    statement: str
    compare: Compare


def _within(forecasts: Forecasts, fused: Fused, expected: np.ndarray) -> Comparison:
    excess = np.abs(fused.p - expected)
    return Comparison(forecasts, fused.p, fused.p, expected, excess, decided(fused))


def bounded(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Against the fused probability moved into the models' range."""
    p = cases.forecasts.p
    return _within(cases.forecasts, fused, np.clip(fused.p, p.min(axis=0), p.max(axis=0)))


def never_below_minimum(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Against the smallest of the models' probabilities, where it is larger."""
    return _within(cases.forecasts, fused, np.maximum(fused.p, cases.forecasts.p.min(axis=0)))


def never_above_maximum(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Against the largest of the models' probabilities, where it is smaller."""
    return _within(cases.forecasts, fused, np.minimum(fused.p, cases.forecasts.p.max(axis=0)))


def in_convex_hull(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Against the nearest weighted average of the models."""
    return _within(cases.forecasts, fused, nearest_average(fused.p, cases.forecasts.p))


def no_cross_terms(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """The score's change when all models are replaced, against the changes when one is, added up.

    They are equal for all forecasts exactly where the score is a sum of single-model terms. A model is replaced by
    itself at the next position; free phases stay.
    """
    forecasts = cases.forecasts
    other = np.roll(forecasts.p, -1, axis=1)
    before = score_of(setting, forecasts)
    singly = np.zeros_like(before)
    for model in range(len(other)):
        mixed = forecasts.p.copy()
        mixed[model] = other[model]
        singly += score_of(setting, _with_p(forecasts, mixed)) - before
    change = score_of(setting, _with_p(forecasts, other)) - before
    given = {"replaced_by": np.moveaxis(other, 0, 1), "score": before}
    asked = np.ones(len(change), dtype=bool)
    return Comparison(forecasts, fused.p, change, singly, np.abs(change - singly), asked, given)


def no_amplitude_cross_terms(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Is the rule sum_ij G_ij sqrt(p_i p_j), one matrix G per position, with nothing off the diagonal of G?

    Asked of the rules that are such a form (they fit on all positions), and where the tokens outnumber the entries
    of G. The comparison is of the whole form with its diagonal.
    """
    forecasts, q = cases.forecasts.rows(slice(N_FITTED)), fused.p[:N_FITTED]
    models = range(forecasts.p.shape[0])
    roots = np.sqrt(forecasts.p)
    pairs = [(i, i) for i in models] + list(combinations(models, 2))
    terms = np.stack([roots[i] * roots[j] for i, j in pairs], axis=-1)
    u, s, vt = np.linalg.svd(terms, full_matrices=False)
    asked = decided(fused)[:N_FITTED] & (s[:, -1] > MIN_CONDITION * s[:, 0]) & (len(pairs) < q.shape[1])
    projected = np.einsum("nvk,nv->nk", u, q)
    entries = np.einsum("nkj,nk->nj", vt, projected / np.where(asked[:, None], s, 1.0))
    whole = np.einsum("nvk,nk->nv", u, projected)
    diagonal = np.einsum("nvk,nk->nv", terms[:, :, : len(models)], entries[:, : len(models)])
    asked &= bool((np.abs(whole - q)[asked] < FIT_TOLERANCE).all())
    return Comparison(forecasts, q, whole, diagonal, np.abs(whole - diagonal), asked, {"entries": entries})


def unanimity(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """All models say what the first says; free phases stay their own."""
    forecasts = cases.forecasts
    same = _with_p(forecasts, np.broadcast_to(forecasts.p[0], forecasts.p.shape))
    return _within(same, fused_by(setting, same), forecasts.p[0])


def marginalisation(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Two tokens merged before fusing, against the same two merged after. Free phases of the two are equal."""
    forecasts = cases.forecasts
    token_phases = forecasts.token_phases_rad.copy()
    token_phases[..., 1] = token_phases[..., 0]
    forecasts = Forecasts(forecasts.p, forecasts.phases_rad, token_phases)
    if forecasts.p.shape[2] < 3:
        return _never_asked(forecasts, fused)
    after = fused_by(setting, forecasts)
    merged = Forecasts(_merged(forecasts.p), forecasts.phases_rad, token_phases[..., 1:])
    return _same(forecasts, after, fused_by(setting, merged), _merged(after.p))


def external_bayesianity(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """Models updated by a likelihood before fusing, against the fused distribution updated after."""
    updated = _with_p(cases.forecasts, _normalised(cases.forecasts.p * cases.likelihood))
    made = _same(cases.forecasts, fused, fused_by(setting, updated), _normalised(fused.p * cases.likelihood))
    return _given(made, likelihood=cases.likelihood)


def zero_preservation(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """No model gives the first token anything; the property is about that token alone."""
    p = cases.forecasts.p.copy()
    p[..., 0] = 0.0
    forecasts = _with_p(cases.forecasts, _normalised(p))
    fused = fused_by(setting, forecasts)
    expected = fused.p.copy()
    expected[:, 0] = 0.0
    return _within(forecasts, fused, expected)


def gauge_invariance(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """One angle added to every phase. Asked of rules with phases."""
    if setting.phases is None:
        return _never_asked(cases.forecasts, fused)
    turned = fused_by(setting, cases.forecasts, turn_rad=TURN_RAD)
    return _given(_same(cases.forecasts, fused, turned, fused.p), turn_rad=np.full(len(fused.p), TURN_RAD))


def model_permutation(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """The models in the other order that changes most."""
    forecasts = cases.forecasts
    orders = list(permutations(range(forecasts.p.shape[0])))[1:]
    made = [_same(forecasts, fused, fused_by(setting, forecasts.models(order)), fused.p) for order in orders]
    worst = max(range(len(made)), key=lambda index: float(made[index].excess.max()))
    return _given(made[worst], order=np.tile(orders[worst], (len(fused.p), 1)))


def token_permutation(setting: Setting, cases: Cases, fused: Fused) -> Comparison:
    """The tokens in reverse order before fusing, against after."""
    forecasts = cases.forecasts
    token_phases = forecasts.token_phases_rad[..., ::-1]
    found = fused_by(setting, Forecasts(forecasts.p[..., ::-1], forecasts.phases_rad, token_phases))
    return _same(forecasts, fused, found, fused.p[:, ::-1])


def _with_p(forecasts: Forecasts, p: np.ndarray) -> Forecasts:
    return Forecasts(p, forecasts.phases_rad, forecasts.token_phases_rad)


def _normalised(p: np.ndarray) -> np.ndarray:
    """Divided by the sum over tokens; nothing where the sum is 0."""
    total = p.sum(axis=-1, keepdims=True)
    return np.divide(p, total, out=np.zeros_like(p), where=total > 0)


def _merged(p: np.ndarray) -> np.ndarray:
    """The first two tokens as one."""
    return np.concatenate([p[..., :2].sum(axis=-1, keepdims=True), p[..., 2:]], axis=-1)


def _same(forecasts: Forecasts, fused: Fused, found: Fused, expected: np.ndarray) -> Comparison:
    asked = decided(fused) & decided(found)
    return Comparison(forecasts, fused.p, found.p, expected, np.abs(found.p - expected), asked)


def _given(made: Comparison, **given: np.ndarray) -> Comparison:
    return Comparison(made.forecasts, made.fused, made.found, made.expected, made.excess, made.asked, given)


def _never_asked(forecasts: Forecasts, fused: Fused) -> Comparison:
    nothing = np.zeros_like(fused.p)
    return Comparison(forecasts, fused.p, fused.p, fused.p, nothing, np.zeros(len(nothing), dtype=bool))


PROPERTIES: tuple[Property, ...] = (
    Property("bounded", "min_i p_i(t) <= q(t) <= max_i p_i(t)", bounded),
    Property("never_below_minimum", "q(t) >= min_i p_i(t)", never_below_minimum),
    Property("never_above_maximum", "q(t) <= max_i p_i(t)", never_above_maximum),
    Property("in_convex_hull", "q = sum_i a_i p_i for weights a of one position", in_convex_hull),
    Property("no_cross_terms", "the score is a sum of terms of one model each", no_cross_terms),
    Property(
        "no_amplitude_cross_terms",
        "as a quadratic form of the amplitudes sqrt(p_i), q has squares only (asked where it is such a form)",
        no_amplitude_cross_terms,
    ),
    Property("unanimity", "q = p where every model says p, whatever the free phases", unanimity),
    Property("marginalisation", "merging two tokens before or after fusing is the same", marginalisation),
    Property(
        "external_bayesianity", "updating by a likelihood before or after fusing is the same", external_bayesianity
    ),
    Property("zero_preservation", "a token that no model allows gets nothing", zero_preservation),
    Property("gauge_invariance", "one angle added to every phase changes nothing", gauge_invariance),
    Property("model_permutation", "the order of the models changes nothing", model_permutation),
    Property("token_permutation", "the order of the tokens changes nothing", token_permutation),
)
