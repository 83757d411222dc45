"""Which structural properties every fusion rule has: computed, with an example for every one it does not have."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from brf_exp.maths.audit_cases import SETTINGS, Cases, Setting, fused_by, phases_of
from brf_exp.maths.audit_properties import PROPERTIES, Comparison, Property
from brf_exp.maths.rules import RULES

TOLERANCE = 1e-9
# An example must break its property by this much, so that three decimals show it.
VISIBLE = 1e-3
AUDITED = tuple(RULES)


@dataclass(frozen=True)
class Witness:
    """One position at which a property fails: at `token`, `found` differs from what the property `expected`.

    `probabilities` (M, V) and `phases_rad` (M,) or (M, V) are the forecasts, `fused` (V,) their fusion; `given` is
    what else the comparison was made with.
    """

    probabilities: np.ndarray
    phases_rad: np.ndarray | None
    fused: np.ndarray
    found: np.ndarray
    expected: np.ndarray
    token: int
    deviation: float
    given: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class SettingAudit:
    """A rule at one setting for one number of models.

    A property is None where no position has an answer: no phases, no fused distribution, or not the form that is asked
    about. `worst` is the largest deviation seen, `witnesses` has one example for every property that fails, `n_asked`
    counts the positions with an answer.
    """

    setting: Setting
    n_models: int
    properties: Mapping[str, bool | None]
    worst: Mapping[str, float]
    witnesses: Mapping[str, Witness]
    n_asked: Mapping[str, int]


@dataclass(frozen=True)
class RuleAudit:
    """A rule: a property holds where it does at every setting and for every number of models."""

    properties: Mapping[str, bool | None]
    worst: Mapping[str, float]
    settings: Sequence[SettingAudit]

    @property
    def depends(self) -> list[str]:
        """Properties that some settings or numbers of models have and others have not."""
        answers = {name: {made.properties[name] for made in self.settings} for name in self.properties}
        return [name for name, found in answers.items() if {True, False} <= found]


def audit_rule(rule: str, cases: Mapping[int, Sequence[Cases]]) -> RuleAudit:
    """Every property of one rule at all its settings.

    Parameters: `cases` by number of models, the smallest first (`audit_cases` makes them). Raises ValueError for a
    rule that has no setting.
    """
    made = [
        audit_setting(setting, found)
        for setting in SETTINGS
        for n_models, found in cases.items()
        if setting.rule == rule and setting.n_models in (None, n_models)
    ]
    if not made:
        raise ValueError(f"`rule` must be one of {', '.join(sorted(AUDITED))}, got {rule!r}")
    names = [prop.name for prop in PROPERTIES]
    worst = {name: max((m.worst[name] for m in made if name in m.worst), default=None) for name in names}
    return RuleAudit(
        {name: _holds(m.properties[name] for m in made) for name in names},
        {name: value for name, value in worst.items() if value is not None},
        made,
    )


def _holds(answers: Iterable[bool | None]) -> bool | None:
    known = [answer for answer in answers if answer is not None]
    return all(known) if known else None


def audit_setting(setting: Setting, cases: Sequence[Cases]) -> SettingAudit:
    """Every property of one rule at one setting, on cases of one number of models, the smallest first."""
    fused = [fused_by(setting, found.forecasts) for found in cases]
    worst: dict[str, float] = {}
    witnesses: dict[str, Witness] = {}
    n_asked: dict[str, int] = {}
    for prop in PROPERTIES:
        made = [prop.compare(setting, found, q) for found, q in zip(cases, fused, strict=True)]
        n_asked[prop.name] = sum(int(comparison.asked.sum()) for comparison in made)
        answered = [comparison for comparison in made if comparison.asked.any()]
        if answered:
            worst[prop.name] = max(_largest(comparison) for comparison in answered)
            witnesses |= _example(prop, setting, answered)
    answers = {prop.name: worst[prop.name] < TOLERANCE if prop.name in worst else None for prop in PROPERTIES}
    return SettingAudit(setting, len(cases[0].forecasts.p), answers, worst, witnesses, n_asked)


def _largest(made: Comparison) -> float:
    return float(made.excess[made.asked].max())


def _example(prop: Property, setting: Setting, made: Sequence[Comparison]) -> dict[str, Witness]:
    """The largest deviation among the smallest forecasts where it is visible, or else among all; none where none is."""
    visible = [comparison for comparison in made if _largest(comparison) >= VISIBLE]
    shown = visible[0] if visible else max(made, key=_largest)
    return {prop.name: witness_of(shown, setting)} if _largest(shown) >= TOLERANCE else {}


def witness_of(made: Comparison, setting: Setting) -> Witness:
    """The position and token that break a property most."""
    excess = np.where(made.asked[:, None], made.excess, -1.0)
    row, token = (int(index) for index in np.unravel_index(excess.argmax(), excess.shape))
    phases_rad = phases_of(setting, made.forecasts)
    return Witness(
        made.forecasts.p[:, row],
        None if phases_rad is None else phases_rad[:, row],
        made.fused[row],
        made.found[row],
        made.expected[row],
        token,
        float(excess[row, token]),
        {name: value[row] for name, value in made.given.items()},
    )
