"""Names and numbers as a reader wants them. Nothing here is computed."""

import math
from collections.abc import Sequence
from typing import Any

MINUS, DASH, NBSP = "\u2212", "\u2013", "\u00a0"
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
SUPERSCRIPTS = "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
RULES = {
    "brf": "Born Rule Fusion",
    "linear": "linear pool",
    "log_linear": "log-linear pool",
    "power_mean": "power mean",
    "lin_log_mixture": "linear\u2013log mixture",
    "constant_coherence": "constant coherence",
    "product": "product of experts",
    "contrastive": "contrastive",
    "majority_vote": "majority vote",
    "route_max_prob": "routing by top probability",
    "route_gap": "routing by gap",
    "route_entropy": "routing by entropy",
    "gate": "learned gate",
    "oracle": "oracle (upper bound)",
    "brf_zero": "zero phase",
    "brf_flipped": "flipped phase",
    "brf_shifted": "shifted phases",
    "brf_uniform": "random phases",
}
CONTROLS = ("brf_zero", "brf_flipped", "brf_shifted", "brf_uniform")
GROUPS = ("Phase-free rules", "Phase controls", "Single models", "Not rivals")
PROPERTIES = {
    "bounded": "between the models",
    "never_below_minimum": "never below all models",
    "never_above_maximum": "never above all models",
    "in_convex_hull": "a weighted average",
    "no_cross_terms": "no cross-terms",
    "no_amplitude_cross_terms": "no cross-terms of amplitudes",
    "unanimity": "equal models stay as they are",
    "marginalisation": "keeps marginals",
    "external_bayesianity": "externally Bayesian",
    "zero_preservation": "keeps common zeros",
    "model_permutation": "order of models is irrelevant",
    "token_permutation": "order of tokens is irrelevant",
    "gauge_invariance": "common phase is irrelevant",
}
SCORES = {
    "interference": "interference term c B",
    "coherence": "c alone",
    "max_prob": "top probability",
    "gap_sum": "sum of the gaps",
    "overlap": "overlap B alone",
    "negative_entropy": "minus mean entropy",
}
QUESTIONS = {"find": "above 0", "support": "above \u03b4", "falsify": "below \u03b4"}
MARKS = {"supported": "\u2713", "falsified": "\u2717", "inconclusive": "?", "not tested": "\u2013"}


def rule_name(rule: str, models: Sequence[str] = ()) -> str:
    """A rule's name in words; a single model by its own name."""
    kind, _, letter = rule.partition("_")
    if kind == "model" and letter in LETTERS:
        index = LETTERS.index(letter)
        return models[index] if index < len(models) else rule.replace("_", " ")
    if rule.startswith("brf_") and rule not in RULES:
        return f"Born Rule Fusion, map {rule.removeprefix('brf_')}"
    return RULES.get(rule, rule.replace("_", " "))


def group_of(rule: str, role: str) -> str:
    """Under which heading a rule stands."""
    if role == "model":
        return GROUPS[2]
    if role != "rival":
        return GROUPS[3]
    return GROUPS[1] if rule in CONTROLS else GROUPS[0]


def score_name(score: str) -> str:
    """What an AUC is of, in words."""
    return SCORES.get(score, score.replace("_", " "))


def property_name(name: str) -> str:
    """A structural property in words."""
    return PROPERTIES.get(name, name.replace("_", " "))


def question_name(question: str) -> str:
    """Where an interval must lie for one question of sample-size planning."""
    return QUESTIONS.get(question, question)


def listed(names: Sequence[str]) -> str:
    """Names in a row: a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def sample_size(value: int | None) -> str:
    """A whole number of tokens or documents that are needed; none where no number is enough."""
    return "never" if value is None else number(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, with a true minus sign; a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    if (float(value).is_integer() or abs(value) >= 1000) and abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", MINUS)
    if abs(value) < 1e-4 or abs(value) >= 1e9:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.replace('-', MINUS)}\u00d710{_superscript(int(exponent))}"
    return f"{value:.{digits}g}".replace("-", MINUS)


def fixed(value: float | None, decimals: int = 4) -> str:
    """A number to so many decimals, so that a column of them lines up."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.{decimals}f}".replace("-", MINUS)


def interval(ends: Sequence[float | None] | None, decimals: int | None = None) -> str:
    """[low, high]; an open end is a dash."""
    if ends is None:
        return DASH
    low, high = (number(end) if decimals is None else fixed(end, decimals) for end in ends)
    return f"[{low},{NBSP}{high}]"


def percent(share: float | None, digits: int = 3) -> str:
    """A share in per cent."""
    return DASH if share is None else f"{number(100 * share, digits)}{NBSP}%"


def per_cent_points(share: float | Sequence[float | None] | None) -> str:
    """A share or an interval of shares as numbers of per cent to two decimals, so that a column lines up."""
    if share is None or isinstance(share, int | float):
        return fixed(None if share is None else 100 * share, 2)
    return interval([None if end is None else 100 * end for end in share], 2)


def pvalue(value: float | None, log_value: float | None = None) -> str:
    """A p-value; one too small for a float is written as a power of ten from its natural logarithm."""
    if value is None:
        return DASH
    if log_value is not None and log_value < -230:
        return f"10{_superscript(math.floor(log_value / math.log(10)))}"
    return f"< 10{_superscript(-300)}" if value == 0 else number(value, 2)


def evidence(value: Any) -> str:
    """A number, an interval or a word of a claim's evidence."""
    if isinstance(value, list | tuple):
        return interval(value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: DASH}[value]
    return number(value) if isinstance(value, int | float) else str(value)


def parameters(found: dict[str, Any]) -> str:
    """Tuned parameters: one value, or the range over the folds."""
    folds = found.get("folds", [found])
    if not any(folds):
        return DASH
    names = list(dict.fromkeys(name for fold in folds for name in fold))
    parts = []
    for name in names:
        values = [fold[name] for fold in folds if name in fold]
        # Weights of more than two models: one range per model.
        columns = zip(*values, strict=True) if isinstance(values[0], list) else [values]
        parts.append(f"{name.replace('_', ' ')} {' / '.join(_span(column) for column in columns)}")
    return ", ".join(parts)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", SUPERSCRIPTS))
