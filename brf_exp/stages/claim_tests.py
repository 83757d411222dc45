"""One decision rule per testable claim: results of the stages in, verdict with evidence out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brf_exp.maths.decisions import FALSIFIED, INCONCLUSIVE, SUPPORTED, Verdict
from brf_exp.maths.power import Pilot, PowerEstimate, power_at
from brf_exp.stages.planning import TEN_THOUSAND

AMPLIFIED_SHARE = 0.05
MIN_POWER = 0.8


@dataclass(frozen=True)
class Measured:
    """The results of a run's stages, as stored."""

    coherence: dict[str, Any]
    discrimination: dict[str, Any]
    audit: dict[str, Any]

    @property
    def scope(self) -> str:
        """Pair, corpus and map of every sentence."""
        found = self.discrimination
        return f"For {found['pair']}, {found['corpus']}, map {found['primary']}"

    def blocked(self) -> str:
        """The first gate or control that failed in either test."""
        for results in (self.coherence, self.discrimination):
            gates = results["gates"]
            if gates["n_documents"] < gates["min_documents"]:
                return "documents"
            if gates["controls"] != "passed":
                return "controls"
        return ""


@dataclass(frozen=True)
class Outcome:
    """A claim's verdict, one sentence, whether it holds over all maps, and the numbers it rests on."""

    verdict: Verdict
    sentence: str
    robust: bool | None
    evidence: dict[str, Any]


def phase_coherence(m: Measured) -> Outcome:
    """The verdict of the Phase Coherence Test."""
    c = m.coherence
    primary = c["phases"][c["primary"]]
    residual = primary["residual"]
    evidence = {
        "excess share": primary["excess_share_interval"],
        "excess share beyond difficulty": residual["excess_share_interval"] if residual else "no proxy",
        "delta": c["delta"],
        "negative control rate": c["negative_control_rate"],
    }
    return Outcome(Verdict(c["verdict"], c["reason"]), c["sentence"], c["robust"], evidence)


def discrimination(m: Measured) -> Outcome:
    """The verdict of the Cross-Term Discrimination Test."""
    d = m.discrimination
    rivals = {name: c for name, c in d["contrasts"].items() if d["rules"][name]["role"] == "rival"}
    evidence: dict[str, Any] = {"delta (nats)": d["delta_nats"]}
    if rivals:
        worst = max(rivals, key=lambda name: rivals[name]["lower_simultaneous"])
        evidence |= {
            "strongest rival": worst,
            "difference (nats)": rivals[worst]["difference_nats"],
            "interval (nats)": rivals[worst]["interval"],
        }
    return Outcome(Verdict(d["verdict"], d["reason"]), d["sentence"], d["robust"], evidence)


def novel_cross_terms(m: Measured) -> Outcome:
    """Falsified when a published phase-free rule's score is not a sum of single-model terms."""
    rules = m.audit["rules"]
    published = [n for n, r in rules.items() if n != "brf" and ("doi" in r["source"] or "arXiv" in r["source"])]
    have = sorted(n for n in published if rules[n]["properties"]["no_cross_terms"] is False)
    identity = m.audit["identities"]["zero_phase_power_mean"]
    evidence = {
        "published rules with cross-terms": ", ".join(have),
        "zero phase minus power mean": identity["max_error"],
    }
    if have:
        sentence = (
            "Published rules have cross-terms between models: at zero phase Born Rule Fusion is the power mean of "
            "order 1/2 (falsified)."
        )
        return Outcome(Verdict(FALSIFIED, "published rules have them"), sentence, True, evidence)
    sentence = "No audited phase-free rule has cross-terms (supported)."
    return Outcome(Verdict(SUPPORTED, "no audited rule has them"), sentence, True, evidence)


def agreement_amplified(m: Measured) -> Outcome:
    """Falsified when agreement is suppressed (cos < 0) at more than a twentieth of the positions."""
    found = m.discrimination["agreement"]
    share = found["negative_share"]
    interval = found["interval"] or [share, share]
    evidence = {"share of positions that suppress agreement": share, "interval": interval}
    text = f"{m.scope}: agreement is suppressed instead of amplified at {100 * share:.1f} % of the positions"
    if interval[0] > AMPLIFIED_SHARE:
        return Outcome(Verdict(FALSIFIED, "agreement suppressed"), f"{text} (falsified).", None, evidence)
    if interval[1] < AMPLIFIED_SHARE:
        return Outcome(Verdict(SUPPORTED, "rarely suppressed"), f"{text} (supported).", None, evidence)
    return Outcome(Verdict(INCONCLUSIVE, "power"), f"{text} (inconclusive).", None, evidence)


def below_minimum(m: Measured) -> Outcome:
    """Structural: Born Rule Fusion can go below every model and the linear pool cannot; with the observed rate."""
    rules, d = m.audit["rules"], m.discrimination
    can = rules["brf"]["properties"]["never_below_minimum"] is False
    average_cannot = rules["linear"]["properties"]["never_below_minimum"] is True
    others = sorted(n for n, r in rules.items() if n != "brf" and r["properties"]["never_below_minimum"] is False)
    evidence = {
        "observed rate": d["below_minimum_rate"],
        "interval (truncation)": d["below_minimum_interval"],
        "rate with shifted phases": d["below_minimum_controls"].get("brf_shifted", "not run"),
        "other rules that can": ", ".join(others),
    }
    rate = f"{100 * d['below_minimum_rate']:.2f} % of the realised tokens fall below both models"
    if can and average_cannot:
        sentence = (
            f"{m.scope}: {rate}; no weighted average can do that, but published rules can ({', '.join(others)}) "
            "(supported)."
        )
        return Outcome(Verdict(SUPPORTED, "structural"), sentence, True, evidence)
    return Outcome(Verdict(FALSIFIED, "structural"), f"{m.scope}: {rate} (falsified).", True, evidence)


def ten_thousand_tokens(m: Measured) -> Outcome:
    """Power of both tests at their delta with 10,000 tokens of documents like these."""
    powers = {"coherence": _coherence_power(m.coherence), "discrimination": _discrimination_power(m.discrimination)}
    known = {name: power for name, power in powers.items() if power is not None}
    evidence: dict[str, Any] = {f"power, {name}": list(p.interval) for name, p in known.items()}
    if not known:
        return Outcome(Verdict(INCONCLUSIVE, "power"), f"{m.scope}: no power is known (inconclusive).", None, evidence)
    evidence["documents in 10,000 tokens"] = next(iter(known.values())).n_documents
    text = f"{m.scope}: with 10,000 tokens the power at delta is " + " and ".join(
        f"{p.power:.2f} for {name}" for name, p in known.items()
    )
    if all(p.interval[0] >= MIN_POWER for p in known.values()) and len(known) == len(powers):
        return Outcome(Verdict(SUPPORTED, "power"), f"{text} (supported).", None, evidence)
    if any(p.interval[1] < MIN_POWER for p in known.values()):
        return Outcome(Verdict(FALSIFIED, "power"), f"{text} (falsified).", None, evidence)
    return Outcome(Verdict(INCONCLUSIVE, "power"), f"{text} (inconclusive).", None, evidence)


def _coherence_power(c: dict[str, Any]) -> PowerEstimate | None:
    """Power to find a share of delta, from the plan that the coherence test made."""
    for question in (c["planning"] or {"questions": []})["questions"]:
        if question["question"] == "find" and question["true_share"] == c["delta"]:
            found = question["at_10000_tokens"]
            return PowerEstimate(found["power"], tuple(found["interval"]), found["n_documents"])
    return None


def _discrimination_power(d: dict[str, Any]) -> PowerEstimate | None:
    """Power to find a gain of delta over the rival of the lowest loss."""
    error = _rival_error(d)
    if error is None:
        return None
    pilot = Pilot(error, d["n_positions"], d["n_documents"])
    return power_at(TEN_THOUSAND, effect=d["delta_nats"], pilot=pilot)


def _rival_error(d: dict[str, Any]) -> float | None:
    """Standard error of the contrast with the rival of the lowest loss."""
    rivals = [n for n in d["contrasts"] if d["rules"][n]["role"] == "rival"]
    if not rivals:
        return None
    best = min(rivals, key=lambda n: sum(d["rules"][n]["log_loss_nats"]))
    error: float = d["contrasts"][best]["standard_error"]
    return error if error > 0 else None


TESTS: dict[str, Callable[[Measured], Outcome]] = {
    test.__name__: test
    for test in (
        phase_coherence,
        discrimination,
        novel_cross_terms,
        agreement_amplified,
        below_minimum,
        ten_thousand_tokens,
    )
}
