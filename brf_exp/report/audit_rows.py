"""Columns and rows of the structural audit beyond one line per rule: settings, examples, prior systems."""

from collections.abc import Iterator, Sequence
from typing import Any

from brf_exp.report.wording import fixed, property_name, rule_name

Rows = tuple[list[str], list[list[Any]]]
SYSTEMS = {
    "name": "system",
    "year": "year",
    "reference": "reference",
    "fuses": "fuses",
    "needs": "needs",
    "comparable": "comparable from dumps",
    "rule": "rule here",
    "why": "why",
}


def setting_rows(audit: dict[str, Any]) -> Rows:
    """One row per rule, setting and number of models: which properties hold; None where one is not asked."""
    names = list(audit.get("properties", {}))
    rows = [
        [rule_name(rule), setting["label"], setting["n_models"], *(setting["properties"][name] for name in names)]
        for rule, setting in _settings(audit)
    ]
    return ["rule", "setting", "models", *map(property_name, names)], rows


def example_rows(audit: dict[str, Any]) -> Rows:
    """One row per rule and property that it lacks: the example with the fewest tokens, then the fewest models.

    At `token` (counted from 0) the property wants `expected`.
    """
    columns = "rule", "setting", "property", "probabilities", "phases_rad", "fused", "token", "found", "expected"
    smallest: dict[tuple[str, str], tuple[int, list[Any]]] = {}
    for rule, setting in _settings(audit):
        for name, witness in setting["witnesses"].items():
            size = len(witness["fused"])
            if (rule, name) not in smallest or size < smallest[rule, name][0]:
                smallest[rule, name] = size, _example(rule, setting, name, witness)
    return list(columns), [row for _, row in smallest.values()]


def prior_system_rows(audit: dict[str, Any]) -> Rows:
    """One row per published system, and what a dump can say about it."""
    rows = [[system[name] for name in SYSTEMS] for system in audit.get("prior_systems", [])]
    named = list(SYSTEMS).index("rule")
    for row in rows:
        row[named] = None if row[named] is None else rule_name(row[named])
    return list(SYSTEMS.values()), rows


def _settings(audit: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every setting with its rule; none in results that do not have them."""
    for rule, found in audit["rules"].items():
        for setting in found.get("settings", []):
            yield rule, setting


def _example(rule: str, setting: dict[str, Any], name: str, witness: dict[str, Any]) -> list[Any]:
    token = witness["token"]
    return [
        rule_name(rule),
        setting["label"],
        property_name(name),
        "; ".join(_numbers(model) for model in witness["probabilities"]),
        _phases(witness["phases_rad"]),
        _numbers(witness["fused"]),
        token,
        witness["found"][token],
        witness["expected"][token],
    ]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(fixed(value, 3) for value in values)


def _phases(phases_rad: Sequence[Any] | None) -> str | None:
    """One phase per model, or one row of phases per model."""
    if phases_rad is None:
        return None
    if isinstance(phases_rad[0], list):
        return "; ".join(_numbers(model) for model in phases_rad)
    return _numbers(phases_rad)
