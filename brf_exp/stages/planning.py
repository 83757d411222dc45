"""Sample-size planning: how many documents and tokens an effect takes, from a pair's own standard errors."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from brf_exp.maths.coherence import CoherenceResult
from brf_exp.maths.power import Pilot, positions_for, power_at
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.phase_test import MapResult
from brf_exp.storage.runs import RESULTS, read_json

PLANNING_SCHEMA = 1
TEN_THOUSAND = 10_000
POWERS = (0.8, 0.9)
EFFECT_FACTORS = (0.5, 1.0, 2.0, 4.0)
QUESTIONS = {
    "find": "the interval lies above 0 when the true share is",
    "support": "the interval lies above delta when the true share is",
    "falsify": "the interval lies below delta when the true share is",
}


def pilot_of(result: CoherenceResult) -> Pilot:
    """Standard error of the share of the possible excess, with what it was measured on."""
    pairing = result.pairing
    return Pilot(result.test.standard_error / result.possible, pairing.n, pairing.lengths.size)


def plan(result: MapResult, *, delta: float, alpha: float) -> dict[str, Any] | None:
    """Sizes and powers for the test that decides: on residual phases where there is a proxy.

    None without a test, and for a delta of 0, which no sample is large enough to tell from nothing.
    """
    tested = result.residual or result.plain
    if tested is None or delta == 0:
        return None
    pilot = pilot_of(tested)
    return {
        "on": "residual phases" if result.residual else "phases",
        "delta": delta,
        "alpha": alpha,
        "standard_error_share": pilot.standard_error,
        "n_positions": pilot.n_positions,
        "n_documents": pilot.n_documents,
        "positions_per_document": pilot.document_positions,
        "design_effect": tested.pairing.n / tested.effective_n,
        "questions": [_question(name, effect, distance, pilot, alpha) for name, effect, distance in _distances(delta)],
    }


def _distances(delta: float) -> list[tuple[str, float, float]]:
    """Question, true share, and how far that is from what the interval must exclude."""
    found = [("find", factor * delta, factor * delta) for factor in EFFECT_FACTORS]
    found += [("support", factor * delta, (factor - 1) * delta) for factor in EFFECT_FACTORS if factor > 1]
    return [*found, ("falsify", 0.0, delta)]


def _question(name: str, effect: float, distance: float, pilot: Pilot, alpha: float) -> dict[str, Any]:
    needed = {str(power): positions_for(power, effect=distance, pilot=pilot, alpha=alpha) for power in POWERS}
    return {
        "question": name,
        "true_share": effect,
        "needed": {power: asdict(size) for power, size in needed.items()},
        "at_10000_tokens": asdict(power_at(TEN_THOUSAND, effect=distance, pilot=pilot, alpha=alpha)),
    }


def summary(pair: str, corpus: str, result: MapResult, *, delta: float, alpha: float) -> dict[str, Any]:
    """results.json of `coherence planning=true`. Raises UndefinedStatisticError where there is nothing to plan."""
    made = plan(result, delta=delta, alpha=alpha)
    if made is None:
        raise UndefinedStatisticError(result.verdict.reason)
    return {"schema": PLANNING_SCHEMA, "stage": "planning", "pair": pair, "corpus": corpus, "map": result.name, **made}


def show(folder: Path) -> None:
    """Print the plan as a table on standard output."""
    print(text_of(read_json(folder / RESULTS)))


def text_of(planned: dict[str, Any]) -> str:
    """The plan in words."""
    low = f"{planned['n_positions']:,} tokens in {planned['n_documents']:,} documents"
    lines = [
        f"{planned['pair']}, {planned['corpus']}, map {planned['map']}: measured on {low}, {planned['on']}.",
        f"delta is {planned['delta']:g} of the possible excess coherence; its standard error here is "
        f"{planned['standard_error_share']:.4f} (design effect {planned['design_effect']:.1f}).",
        f"Documents are taken to be as long as these ({planned['positions_per_document']:.0f} tokens). "
        "In brackets: 95 % for the uncertain standard error.",
        "",
        f"{'to have':<52}{'tokens for power 0.8':>32}{'documents':>11}{'power at 10,000 tokens':>30}",
    ]
    return "\n".join(lines + [_line(row) for row in planned["questions"]])


def _line(row: dict[str, Any]) -> str:
    needed, at = row["needed"]["0.8"], row["at_10000_tokens"]
    interval = " to ".join(_count(value) for value in needed["interval"])
    tokens = f"{_count(needed['n_positions'])} [{interval}]"
    power = f"{at['power']:.2f} [{at['interval'][0]:.2f}, {at['interval'][1]:.2f}]"
    what = f"{QUESTIONS[row['question']]} {row['true_share']:g}"
    return f"{what:<62}{tokens:>32}{_count(needed['n_documents']):>11}{power:>22}"


def _count(value: int | None) -> str:
    return "never" if value is None else f"{value:,}"
