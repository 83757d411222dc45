"""One decision rule per testable claim: results of the stages in, verdict with evidence out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brf_exp.maths.decisions import FALSIFIED, INCONCLUSIVE, SUPPORTED, Verdict
from brf_exp.maths.power import Pilot, PowerEstimate, power_at
from brf_exp.stages.planning import TEN_THOUSAND
from brf_exp.stages.sentences import scope

AMPLIFIED_SHARE = 0.05
MIN_POWER = 0.8
ALPHA = 0.05
# Pairs whose phases say nothing of agreement: phase differences are 0, constant, or at a scale that nothing chose.
NO_PHASES = ("identical models", "constant gaps", "ties at zero")


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
        return scope(found["pair"], found["corpus"], found["primary"])

    def blocked(self) -> str:
        """What leaves every claim of the run open: too few documents, or controls of either test that failed.

        Controls that were not run, because a gate had failed, leave open what that gate does.
        """
        every = [results["gates"] for results in (self.coherence, self.discrimination)]
        if any(gates["n_documents"] < gates["min_documents"] for gates in every):
            return "documents"
        if any(gates["controls"] != "passed" and not _explained(gates) for gates in every):
            return "controls"
        return ""


def _explained(gates: dict[str, Any]) -> bool:
    return gates["controls"] == "not run" and bool(gates["failed"])


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
            f"{m.scope}, as for any other: published rules have cross-terms between models ({', '.join(have)}); at "
            "zero phase Born Rule Fusion is the power mean of order 1/2 (falsified)."
        )
        return Outcome(Verdict(FALSIFIED, "published rules have them"), sentence, True, evidence)
    sentence = f"{m.scope}, as for any other: no audited phase-free rule has cross-terms (supported)."
    return Outcome(Verdict(SUPPORTED, "no audited rule has them"), sentence, True, evidence)


def agreement_amplified(m: Measured) -> Outcome:
    """Falsified when agreement is suppressed (cos < 0) at more than a twentieth of the positions."""
    found, failed = m.discrimination["agreement"], m.discrimination["gates"]["failed"]
    share = found["negative_share"]
    evidence = {"share of positions that suppress agreement": share, "interval": found["interval"]}
    text = f"{m.scope}: agreement is suppressed instead of amplified at {100 * share:.1f} % of the positions"
    if failed in NO_PHASES:
        sentence = f"{text}, which says nothing, because of {failed} (inconclusive)."
        return Outcome(Verdict(INCONCLUSIVE, failed), sentence, None, evidence)
    verdict = _agreement_verdict(found)
    maps = found.get("maps")
    robust = None if maps is None else len({_agreement_verdict(one).verdict for one in maps.values()}) == 1
    return Outcome(verdict, f"{text} ({verdict.verdict}).", robust, evidence)


def _agreement_verdict(found: dict[str, Any]) -> Verdict:
    """The verdict under one map; without an interval only a share of none or of all positions says anything."""
    share, interval = found["negative_share"], found["interval"]
    if interval is None and 0 < share < 1:
        return Verdict(INCONCLUSIVE, "no variation")
    lower, upper = interval or (share, share)
    if lower > AMPLIFIED_SHARE:
        return Verdict(FALSIFIED, "agreement suppressed")
    return Verdict(SUPPORTED, "rarely suppressed") if upper < AMPLIFIED_SHARE else Verdict(INCONCLUSIVE, "power")


def below_minimum(m: Measured) -> Outcome:
    """Structural: Born Rule Fusion can go below every model and the linear pool cannot; with the observed rate."""
    rules, d = m.audit["rules"], m.discrimination
    never = {name: rule["properties"]["never_below_minimum"] for name, rule in rules.items()}
    others = ", ".join(sorted(name for name, value in never.items() if name != "brf" and value is False))
    evidence = {
        "observed rate": d["below_minimum_rate"],
        "interval (truncation)": d["below_minimum_interval"],
        "rate with shifted phases": d["below_minimum_controls"].get("brf_shifted", "not run"),
        **_rarer(d.get("below_minimum_contrasts") or {}),
        "other rules that can": others,
    }
    text = f"{m.scope}: {_rate_text(d['below_minimum_rate'])}"
    if never["brf"] is None or never["linear"] is None:
        sentence = f"{text}; the audit does not say what is possible (inconclusive)."
        return Outcome(Verdict(INCONCLUSIVE, "audit"), sentence, True, evidence)
    if never["brf"] is False and never["linear"] is True:
        published = f", but published rules can ({others})" if others else ""
        sentence = f"{text}; no weighted average can do that{published} (supported)."
        return Outcome(Verdict(SUPPORTED, "structural"), sentence, True, evidence)
    why = "a weighted average can do that too" if never["brf"] is False else "Born Rule Fusion cannot go there"
    return Outcome(Verdict(FALSIFIED, "structural"), f"{text}; {why} (falsified).", True, evidence)


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return "how many of the realised tokens fall below every model is not known"
    return f"{100 * rate:.2f} % of the realised tokens fall below every model"


def _rarer(contrasts: dict[str, Any]) -> dict[str, Any]:
    """Do fewer realised tokens fall below every model than under shifted phases? Holm over all controls."""
    found = contrasts.get("brf_shifted")
    if found is None:
        return {}
    difference, pvalue = found["difference"], found["pvalue_adjusted"]
    decided = difference is not None and pvalue is not None and pvalue < ALPHA
    return {
        "rate minus that with shifted phases": found["interval"],
        "rarer among realised tokens than under shifted phases": ("yes" if difference < 0 else "no")
        if decided
        else "undecided",
    }


def ten_thousand_tokens(m: Measured) -> Outcome:
    """Power of both tests at their delta with 10,000 tokens of documents like these."""
    powers = {"coherence": _coherence_power(m.coherence), "discrimination": _discrimination_power(m.discrimination)}
    known = {name: power for name, power in powers.items() if power is not None}
    evidence: dict[str, Any] = {f"power, {name}": list(p.interval) for name, p in known.items()}
    if not known:
        reason = _unknown_because(m)
        because = "" if reason == "power" else f", because of {reason}"
        sentence = f"{m.scope}: no power is known{because} (inconclusive)."
        return Outcome(Verdict(INCONCLUSIVE, reason), sentence, None, evidence)
    evidence["documents in 10,000 tokens"] = next(iter(known.values())).n_documents
    text = f"{m.scope}: with 10,000 tokens the power at delta is " + " and ".join(
        f"{p.power:.2f} for {name}" for name, p in known.items()
    )
    verdict = _power_verdict(list(known.values())) if len(known) == len(powers) else _one_power_verdict(m, known)
    return Outcome(verdict, f"{text} ({verdict.verdict}).", None, evidence)


def _power_verdict(powers: list[PowerEstimate]) -> Verdict:
    if any(power.interval[1] < MIN_POWER for power in powers):
        return Verdict(FALSIFIED, "power")
    enough = all(power.interval[0] >= MIN_POWER for power in powers)
    return Verdict(SUPPORTED if enough else INCONCLUSIVE, "power")


def _one_power_verdict(m: Measured, known: dict[str, PowerEstimate]) -> Verdict:
    """One test alone can falsify the claim, not support it."""
    found = _power_verdict(list(known.values()))
    return found if found.verdict == FALSIFIED else Verdict(INCONCLUSIVE, _unknown_because(m))


def _unknown_because(m: Measured) -> str:
    """The gate for which a test's power is not known, if it is one."""
    failed: str = m.coherence["gates"]["failed"] or m.discrimination["gates"]["failed"]
    return failed or "power"


def _coherence_power(c: dict[str, Any]) -> PowerEstimate | None:
    """Power to find a share of delta, from the plan that the coherence test made; None where a gate failed."""
    if c["gates"]["failed"]:
        return None
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
    """Standard error of the contrast with the rival of the lowest loss; None where a gate failed or there is none."""
    if d["gates"]["failed"]:
        return None
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
