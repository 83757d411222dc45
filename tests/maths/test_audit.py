"""The audit against a slow reference: one number at a time, in plain loops."""

import cmath
import math
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from brf_exp.maths import audit as module
from brf_exp.maths.audit import AUDITED, RuleAudit, SettingAudit, Witness, audit_rule, audit_setting
from brf_exp.maths.audit_cases import (
    PARTS,
    SETTINGS,
    Cases,
    Forecasts,
    Setting,
    audit_cases,
    draw_cases,
    small_cases,
)
from brf_exp.maths.audit_properties import PROPERTIES, TURN_RAD
from brf_exp.maths.rules import RULES

Row = dict[str, Any]
NAMES = [prop.name for prop in PROPERTIES]
# In the order of PROPERTIES: bounded, not below, not above, hull; scores, amplitudes; unanimity, marginals, Bayes,
# zeros; gauge, models, tokens. + holds, - fails, . not asked; behind the bar three models where they differ.
EXPECTED = {
    "linear": "++++ ++ ++-+ .++",
    "log_linear": "-+-- -- +-++ .++ | -+-- -. +-++ .++",
    "product, exponent 0.5": "---- -. ---+ .++",
    "product, exponent 1": "-+-- -- +-++ .++ | -+-- -. +-++ .++",
    "product, exponent 2": "---- -. ---+ .++",
    "power_mean, order -1": "-+-- -. +--+ .++",
    "power_mean, order 0": "-+-- -- +-++ .++ | -+-- -. +-++ .++",
    "power_mean, order 0.5": "-+-- -- +--+ .++",
    "power_mean, order 1": "++++ ++ ++-+ .++",
    "power_mean, order 2": "--+- -. +--+ .++",
    "lin_log_mixture, mixture 0.5": "-+-- -- +--+ .++ | -+-- -. +--+ .++",
    # Three equal models at -1/2 cancel.
    "constant_coherence, coherence -0.5": "--+- -- +--+ .++ | ---- -- .--+ .++",
    "constant_coherence, coherence 0": "++++ ++ ++-+ .++",
    "constant_coherence, coherence 0.5": "-+-- -- +--+ .++",
    "constant_coherence, coherence 1": "-+-- -- +--+ .++",
    "majority_vote, hit rate 0.5": "---- -. ---+ .++",
    "routing, confidence max prob": "++++ -+ +--+ .++",
    "routing, confidence gap": "++++ -+ +--+ .++",
    "routing, confidence entropy": "++++ -+ +--+ .++",
    # Exponents that sum to 1: 1 + beta and -beta.
    "contrastive, strength 0.1": "---- -. +-++ .-+",
    "contrastive, strength 0.5": "---- -. +-++ .-+",
    "contrastive, strength 1": "---- -. +-++ .-+",
    "brf, phases zero": "-+-- -- +--+ +++",
    "brf, phases random": "---- -- +--+ +++",
    "brf, phases gap": "---- -- +--+ +++",
    # Two equal models in antiphase have no fused distribution.
    "brf, phases gap flipped": "---- -- .--+ +++",
    "brf, phases token random": "---- -. ---+ +++",
    "brf, phases token gap": "---- -. +--+ +++",
}


def _key(setting: Setting) -> str:
    return ", ".join(part for part in (setting.rule, setting.label) if part)


def _both() -> list[tuple[Setting, int]]:
    return [(setting, n) for setting in SETTINGS for n in (2, 3) if setting.n_models in (None, n)]


def _ids(value: object) -> str:
    return _key(value) if isinstance(value, Setting) else str(value)


@pytest.fixture(scope="module")
def audits() -> dict[str, RuleAudit]:
    cases = audit_cases(300, 12, np.random.default_rng(1), n_triples=100)
    return {rule: audit_rule(rule, cases) for rule in AUDITED}


@pytest.fixture(scope="module")
def by_setting(audits: dict[str, RuleAudit]) -> dict[tuple[str, int], SettingAudit]:
    return {(_key(made.setting), made.n_models): made for found in audits.values() for made in found.settings}


# The reference. A row holds p (M lists of V), phases (M), token_phases (M lists of V), other (M lists of V, to replace
# p) and likelihood (V).


def _gap(p: list[float]) -> float:
    first, second = sorted(p)[:-3:-1]
    return math.inf if second == 0 else math.log(first / second)


def _phase(setting: Setting, row: Row, model: int, token: int) -> float:
    p = row["p"][model]
    behind = math.inf if p[token] == 0 else math.log(max(p) / p[token])
    return {
        None: lambda: 0.0,
        "zero": lambda: 0.0,
        "random": lambda: row["phases"][model],
        "gap": lambda: 2 * math.atan(_gap(p)),
        "gap_flipped": lambda: 2 * math.atan(_gap(p)) + (math.pi if model == 1 else 0.0),
        "token_random": lambda: row["token_phases"][model][token],
        "token_gap": lambda: 2 * math.atan(behind),
    }[setting.phases]()


def _mean(p: list[list[float]], token: int) -> float:
    return sum(model[token] for model in p) / len(p)


def _geometric(p: list[list[float]], token: int, exponent: float = 1.0) -> float:
    return math.prod(model[token] ** (exponent / len(p)) for model in p)


def _power(p: list[list[float]], token: int, order: float) -> float:
    values = [model[token] for model in p]
    if order == 0:
        return _geometric(p, token)
    if order < 0 and min(values) == 0:
        return 0.0
    return (sum(value**order for value in values) / len(values)) ** (1 / order)


def _coherent(p: list[list[float]], token: int, coherence: float) -> float:
    cross = sum(math.sqrt(a[token] * b[token]) for a, b in combinations(p, 2))
    return max(_mean(p, token) + 2 * coherence * cross / len(p), 0.0)


def _born(setting: Setting, row: Row, token: int, turn: float) -> float:
    p = row["p"]
    amplitudes = [
        math.sqrt(p[model][token] / len(p)) * cmath.exp(1j * (_phase(setting, row, model, token) + turn))
        for model in range(len(p))
    ]
    return abs(sum(amplitudes)) ** 2


def _voted(p: list[list[float]]) -> int:
    votes = Counter(model.index(max(model)) for model in p)
    most = max(votes.values())
    return max((token for token, count in votes.items() if count == most), key=lambda token: _mean(p, token))


def _vote(p: list[list[float]], token: int, hit_rate: float) -> float:
    voted = _voted(p)
    return hit_rate if token == voted else (1 - hit_rate) * _mean(p, token) / (1 - _mean(p, voted))


def _routed(setting: Setting, p: list[list[float]]) -> list[float]:
    confidence = {
        "max_prob": max,
        "gap": _gap,
        "entropy": lambda model: sum(value * math.log(value) for value in model if value),
    }[setting.confidence]
    return max(p, key=confidence)


def _score(setting: Setting, row: Row, token: int, turn: float = 0.0) -> float:
    p, values = row["p"], list(setting.parameters.values())
    every = range(len(p[0]))
    return {
        "linear": lambda: _mean(p, token),
        "log_linear": lambda: _geometric(p, token),
        "product": lambda: _geometric(p, token, values[0]),
        "power_mean": lambda: _power(p, token, values[0]),
        "lin_log_mixture": lambda: (
            (1 - values[0]) * _mean(p, token) + values[0] * _geometric(p, token) / sum(_geometric(p, t) for t in every)
        ),
        "constant_coherence": lambda: _coherent(p, token, values[0]),
        "majority_vote": lambda: _vote(p, token, values[0]),
        "routing": lambda: _routed(setting, p)[token],
        "contrastive": lambda: 0.0 if p[0][token] == 0 else p[0][token] ** (1 + values[0]) / p[1][token] ** values[0],
        "brf": lambda: _born(setting, row, token, turn),
    }[setting.rule]()


def _fuse(setting: Setting, row: Row, turn: float = 0.0) -> list[float] | None:
    scores = [_score(setting, row, token, turn) for token in range(len(row["p"][0]))]
    total = sum(scores)
    return None if total < 1e-6 else [score / total for score in scores]


def _scaled(values: list[float]) -> list[float]:
    return [value / sum(values) for value in values]


def _permuted(row: Row, order: list[int]) -> Row:
    return {name: [row[name][model] for model in order] for name in ("p", "phases", "token_phases")}


def _distance_of_hull(q: list[float], p: list[list[float]]) -> float:
    """Smallest possible largest difference between q and an average of p: a linear programme."""
    models, tokens = len(p), len(q)
    matrix, bounds = [], []
    for token in range(tokens):
        column = [p[model][token] for model in range(models)]
        matrix += [[*column, -1.0], [*(-value for value in column), -1.0]]
        bounds += [q[token], -q[token]]
    total = [[1.0] * models + [0.0]]
    cost = [0.0] * models + [1.0]
    return float(linprog(cost, A_ub=matrix, b_ub=bounds, A_eq=total, b_eq=[1.0], method="highs").fun)


def _difference(found: list[float] | None, expected: list[float] | None) -> list[float] | None:
    """None where one of both does not exist."""
    if found is None or expected is None:
        return None
    return [abs(a - b) for a, b in zip(found, expected, strict=True)]


def _excess(name: str, setting: Setting, row: Row) -> list[float] | None:
    """By how much every token breaks a property; None where it is not asked."""
    p, q = row["p"], _fuse(setting, row)
    if q is None and name not in ("unanimity", "no_cross_terms", "zero_preservation"):
        return None
    tokens = range(len(p[0]))
    low, high = ([pick(model[t] for model in p) for t in tokens] for pick in (min, max))
    if name == "bounded":
        return [max(low[t] - q[t], q[t] - high[t], 0.0) for t in tokens]
    if name == "never_below_minimum":
        return [max(low[t] - q[t], 0.0) for t in tokens]
    if name == "never_above_maximum":
        return [max(q[t] - high[t], 0.0) for t in tokens]
    return {
        "no_cross_terms": _cross_terms,
        "no_amplitude_cross_terms": _amplitude_cross_terms,
        "unanimity": lambda s, r: _difference(_fuse(s, {**r, "p": [p[0]] * len(p)}), p[0]),
        "marginalisation": _marginalisation,
        "external_bayesianity": _bayesianity,
        "zero_preservation": _zero,
        "gauge_invariance": lambda s, r: None if s.phases is None else _difference(_fuse(s, r, TURN_RAD), q),
        "model_permutation": _model_permutation,
        "token_permutation": _token_permutation,
    }[name](setting, row)


def _cross_terms(setting: Setting, row: Row) -> list[float]:
    made = []
    for token in range(len(row["p"][0])):
        before = _score(setting, row, token)
        change = _score(setting, {**row, "p": row["other"]}, token) - before
        for model in range(len(row["p"])):
            mixed = [row["other"][i] if i == model else row["p"][i] for i in range(len(row["p"]))]
            change -= _score(setting, {**row, "p": mixed}, token) - before
        made.append(abs(change))
    return made


def _amplitude_cross_terms(setting: Setting, row: Row) -> list[float] | None:
    p, q = row["p"], _fuse(setting, row)
    pairs = list(combinations(range(len(p)), 2))
    columns = [[value for value in model] for model in p]
    columns += [[math.sqrt(a * b) for a, b in zip(p[i], p[j], strict=True)] for i, j in pairs]
    terms = np.array(columns).T
    singular = np.linalg.svd(terms, compute_uv=False)
    if terms.shape[1] >= terms.shape[0] or singular[-1] <= 1e-3 * singular[0]:
        return None
    entries = np.linalg.lstsq(terms, np.array(q), rcond=None)[0]
    if np.abs(terms @ entries - q).max() > 1e-9:
        raise ArithmeticError("not a quadratic form")
    return np.abs(terms[:, len(p) :] @ entries[len(p) :]).tolist()


def _merged(p: list[float]) -> list[float]:
    return [p[0] + p[1], *p[2:]]


def _marginalisation(setting: Setting, row: Row) -> list[float] | None:
    if len(row["p"][0]) < 3:
        return None
    token_phases = [[model[0], model[0], *model[2:]] for model in row["token_phases"]]
    q = _fuse(setting, {**row, "token_phases": token_phases})
    merged = {
        "p": [_merged(model) for model in row["p"]],
        "phases": row["phases"],
        "token_phases": [model[1:] for model in token_phases],
    }
    return _difference(_fuse(setting, merged), None if q is None else _merged(q))


def _bayesianity(setting: Setting, row: Row) -> list[float] | None:
    def updated(p: list[float]) -> list[float]:
        return _scaled([value * factor for value, factor in zip(p, row["likelihood"], strict=True)])

    before = _fuse(setting, {**row, "p": [updated(model) for model in row["p"]]})
    return _difference(before, updated(_fuse(setting, row)))


def _zero(setting: Setting, row: Row) -> list[float] | None:
    q = _fuse(setting, {**row, "p": [_scaled([0.0, *model[1:]]) for model in row["p"]]})
    return None if q is None else [q[0], *[0.0] * (len(q) - 1)]


def _model_permutation(setting: Setting, row: Row) -> list[float]:
    q, models = _fuse(setting, row), len(row["p"])
    orders = [[1, 0]] if models == 2 else [[0, 2, 1], [1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]]
    return max((_difference(_fuse(setting, _permuted(row, order)), q) for order in orders), key=max)


def _token_permutation(setting: Setting, row: Row) -> list[float] | None:
    turned = {**row, **{name: [model[::-1] for model in row[name]] for name in ("p", "token_phases")}}
    return _difference(_fuse(setting, turned), _fuse(setting, row)[::-1])


def _rows(cases: Cases) -> list[Row]:
    found = cases.forecasts
    other = np.roll(found.p, -1, axis=1)
    return [
        {
            "p": found.p[:, n].tolist(),
            "phases": found.phases_rad[:, n].tolist(),
            "token_phases": found.token_phases_rad[:, n].tolist(),
            "other": other[:, n].tolist(),
            "likelihood": cases.likelihood[n].tolist(),
        }
        for n in range(found.p.shape[1])
    ]


def _worst(name: str, setting: Setting, rows: list[Row]) -> float | None:
    """The largest deviation over all rows; None where none is asked."""
    try:
        made = [_excess(name, setting, row) for row in rows]
    except ArithmeticError:
        return None
    return max((max(values) for values in made if values is not None), default=None)


@pytest.mark.parametrize("small", [False, True], ids=["random", "small"])
@pytest.mark.parametrize(("setting", "n_models"), _both(), ids=_ids)
def test_every_property_is_what_the_reference_finds(setting: Setting, n_models: int, small: bool) -> None:
    rng = np.random.default_rng(5)
    cases = small_cases(4, rng, n_models=n_models) if small else draw_cases(12, 8, rng, n_models=n_models)
    kept = slice(12)
    cases = Cases(cases.forecasts.rows(kept), cases.likelihood[kept])
    made, rows = audit_setting(setting, [cases]), _rows(cases)
    for name in set(NAMES) - {"in_convex_hull"}:
        expected = _worst(name, setting, rows)
        assert made.worst.get(name) == (None if expected is None else pytest.approx(expected, rel=1e-7, abs=1e-11)), (
            name
        )
        assert made.properties[name] is (None if expected is None else expected < 1e-9), name
    fused = [(_fuse(setting, row), row["p"]) for row in rows]
    distance = max(_distance_of_hull(q, p) for q, p in fused if q is not None)
    assert made.properties["in_convex_hull"] is (distance < 1e-7)
    # The nearest average in Euclidean distance is not the nearest by the largest difference.
    n_tokens = len(rows[0]["p"][0])
    assert distance - 1e-7 <= made.worst["in_convex_hull"] <= math.sqrt(n_tokens) * distance + 1e-7


@pytest.mark.parametrize(("setting", "n_models"), _both(), ids=_ids)
def test_properties_are_those_the_theory_says(
    by_setting: dict[tuple[str, int], SettingAudit], setting: Setting, n_models: int
) -> None:
    said = EXPECTED[_key(setting)].split(" | ")[: n_models - 1][-1].replace(" ", "")
    answers = {"+": True, "-": False, ".": None}
    found = by_setting[_key(setting), n_models].properties
    assert found == {name: answers[sign] for name, sign in zip(NAMES, said, strict=True)}


def test_every_rule_and_setting_is_audited(by_setting: dict[tuple[str, int], SettingAudit]) -> None:
    assert set(AUDITED) == set(RULES) == {setting.rule for setting in SETTINGS}
    assert set(by_setting) == {(_key(setting), n) for setting, n in _both()}
    assert {key for key, _ in by_setting} == set(EXPECTED)


def _row_of(witness: Witness, setting: Setting) -> Row:
    phases = None if witness.phases_rad is None else witness.phases_rad.tolist()
    per_token = phases is not None and witness.phases_rad.ndim == 2
    return {
        "p": witness.probabilities.tolist(),
        "phases": [0.0] * len(witness.probabilities) if per_token or phases is None else phases,
        "token_phases": phases if per_token else np.zeros_like(witness.probabilities).tolist(),
        "other": witness.given["replaced_by"].tolist() if "replaced_by" in witness.given else None,
        "likelihood": witness.given["likelihood"].tolist() if "likelihood" in witness.given else None,
    }


@pytest.mark.parametrize(("setting", "n_models"), _both(), ids=_ids)
def test_every_failure_has_an_example_that_checks_by_hand(
    by_setting: dict[tuple[str, int], SettingAudit], setting: Setting, n_models: int
) -> None:
    made = by_setting[_key(setting), n_models]
    assert set(made.witnesses) == {name for name, answer in made.properties.items() if answer is False}
    for name, witness in made.witnesses.items():
        row = _row_of(witness, setting)
        np.testing.assert_allclose(witness.probabilities.sum(axis=1), 1.0, atol=1e-12)
        np.testing.assert_allclose(witness.fused, _fuse(setting, row), atol=1e-12)
        assert abs(witness.found - witness.expected)[witness.token] == pytest.approx(witness.deviation, abs=1e-12)
        assert witness.deviation >= 1e-3
        if name == "in_convex_hull":
            assert _distance_of_hull(witness.fused.tolist(), witness.probabilities.tolist()) > 1e-4
        else:
            assert _excess(name, setting, row)[witness.token] == pytest.approx(witness.deviation, rel=1e-9, abs=1e-9)
        # Three models need seven tokens for their six products of amplitudes.
        large = name == "no_amplitude_cross_terms" and n_models == 3
        assert witness.fused.size == 12 if large else witness.fused.size <= 4, name
        if not large:
            parts = witness.probabilities * PARTS[witness.fused.size]
            np.testing.assert_allclose(parts, np.round(parts), atol=1e-9)


def test_an_example_too_small_to_see_gives_way_to_a_larger_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("log_linear")
    cases = [small_cases(3, np.random.default_rng(2)), draw_cases(50, 8, np.random.default_rng(2))]
    made = audit_setting(setting, cases)
    assert made.witnesses["bounded"].fused.size == 3
    first = audit_setting(setting, cases[:1]).worst["bounded"]
    monkeypatch.setattr(module, "VISIBLE", (first + made.worst["bounded"]) / 2)
    assert first < made.worst["bounded"]
    assert audit_setting(setting, cases).witnesses["bounded"].fused.size == 8
    # Visible nowhere: the largest there is.
    monkeypatch.setattr(module, "VISIBLE", 2.0)
    assert audit_setting(setting, cases).witnesses["bounded"].deviation == made.worst["bounded"]


def test_a_rule_has_what_all_its_settings_have(audits: dict[str, RuleAudit]) -> None:
    for rule, found in audits.items():
        for name in NAMES:
            answers = {made.properties[name] for made in found.settings} - {None}
            assert found.properties[name] is (None if not answers else answers == {True}), (rule, name)
            assert (name in found.depends) is (len(answers) == 2)
            worst = [made.worst[name] for made in found.settings if name in made.worst]
            assert found.worst.get(name) == max(worst, default=None)
    assert audits["linear"].depends == audits["routing"].depends == []
    assert audits["brf"].depends == ["never_below_minimum", "unanimity"]
    assert "never_below_minimum" in audits["power_mean"].depends


def test_what_claims_rest_on(audits: dict[str, RuleAudit]) -> None:
    additive = {rule for rule, found in audits.items() if found.properties["no_cross_terms"]}
    above = {rule for rule, found in audits.items() if found.properties["never_below_minimum"]}
    assert additive == {"linear"}
    assert above == {"linear", "log_linear", "lin_log_mixture", "routing"}


def test_unknown_rule() -> None:
    names = ", ".join(sorted(AUDITED))
    with pytest.raises(ValueError, match=f"^`rule` must be one of {names}, got 'sum'$"):
        audit_rule("sum", audit_cases(1, 3, np.random.default_rng(0)))


def test_positions_that_are_nothing_but_rounding_are_not_asked() -> None:
    """Almost equal models in antiphase: the sum of scores is 1 - B, a rounding error here."""
    p = np.array([[[0.3, 0.7], [0.2, 0.8]], [[0.3 + 1e-5, 0.7 - 1e-5], [0.5, 0.5]]])
    forecasts = Forecasts(p, np.array([[0.0, 0.0], [np.pi, np.pi]]), np.zeros_like(p))
    made = audit_setting(Setting("brf", phases="random"), [Cases(forecasts, np.ones((2, 2)))])
    assert made.n_asked["gauge_invariance"] == made.n_asked["bounded"] == 1
    assert made.n_asked["no_cross_terms"] == 2
    assert made.n_asked["marginalisation"] == 0
