"""Every case of both verdicts, worked out by hand."""

from dataclasses import replace

import pytest

from brf_exp.maths.decisions import (
    CoherenceEvidence,
    Gates,
    RivalEnds,
    Verdict,
    coherence_verdict,
    discrimination_verdict,
    joint_verdict,
    undecided,
)

OPEN = Gates(n_documents=20, min_documents=20)
DELTA = 0.05
FOUND = CoherenceEvidence(
    excess=0.1,
    shift_pvalue=0.001,
    repairing_pvalue=0.001,
    share_interval=(0.10, 0.20),
    residual_interval=(0.06, 0.15),
    survives_reliability=True,
    negative_control_rate=0.05,
    delta=DELTA,
)


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        (OPEN, ""),
        (replace(OPEN, n_documents=19), "documents"),
        (replace(OPEN, failed="short documents"), "short documents"),
        (replace(OPEN, controls="failed"), "controls"),
        (replace(OPEN, controls="not run"), "controls"),
        # The first that fails, in this order.
        (Gates(19, 20, controls="failed", failed="short documents"), "documents"),
        (Gates(20, 20, controls="failed", failed="short documents"), "short documents"),
    ],
)
def test_gates_come_first_and_in_order(gates: Gates, reason: str) -> None:
    assert gates.blocking() == reason
    rival = RivalEnds("linear", -1.0, -3.0, -1.1, -2.9)
    if reason:
        assert coherence_verdict(gates, FOUND) == Verdict("inconclusive", reason)
        assert discrimination_verdict(gates, [rival], delta_nats=0.005) == Verdict("inconclusive", reason)
    else:
        assert coherence_verdict(gates, FOUND).verdict == "supported"
        assert discrimination_verdict(gates, [rival], delta_nats=0.005).verdict == "supported"


SUPPORTED = Verdict("supported", "coherent beyond shared difficulty")
POWER = Verdict("inconclusive", "power")
NO_COHERENCE = Verdict("falsified", "no coherence")
DIFFICULTY = Verdict("falsified", "shared difficulty")
RELIABILITY = Verdict("inconclusive", "proxy reliability")
NO_PROXY = {"residual_interval": None, "survives_reliability": None}
CASES = [
    ("all holds", {}, SUPPORTED),
    # Supported needs each part by itself.
    ("shift null not rejected", {"shift_pvalue": 0.06}, POWER),
    ("re-pairing not rejected", {"repairing_pvalue": 0.06}, POWER),
    ("p equal to alpha does not reject", {"repairing_pvalue": 0.05}, POWER),
    ("another alpha", {"repairing_pvalue": 0.05, "alpha": 0.06}, SUPPORTED),
    ("excess not positive", {"excess": 0.0}, POWER),
    ("lower end at delta", {"residual_interval": (0.05, 0.15)}, POWER),
    ("lower end below delta", {"residual_interval": (0.01, 0.15)}, POWER),
    ("proxy too unreliable", {"survives_reliability": False}, RELIABILITY),
    ("proxy too unreliable and no dependence", {"survives_reliability": False, "shift_pvalue": 0.2}, POWER),
    ("pseudo-documents", {"pseudo_documents": True}, Verdict("inconclusive", "pseudo-documents")),
    ("negative control", {"negative_control_rate": 0.11}, Verdict("inconclusive", "negative control")),
    ("negative control at its limit", {"negative_control_rate": 0.10}, SUPPORTED),
    # Supported precedes falsified: beyond difficulty there is more than delta, though not before.
    ("residual only", {"share_interval": (0.01, 0.04)}, SUPPORTED),
    # Falsified.
    ("no dependence", {"share_interval": (-0.02, 0.04), "residual_interval": (-0.02, 0.03)}, NO_COHERENCE),
    ("no dependence, residual open", {"share_interval": (-0.02, 0.04), "residual_interval": (-0.1, 0.2)}, NO_COHERENCE),
    ("shared difficulty", {"residual_interval": (-0.02, 0.04)}, DIFFICULTY),
    ("shared difficulty, small but there", {"residual_interval": (0.01, 0.04)}, DIFFICULTY),
    ("shared difficulty in pseudo-documents", {"residual_interval": (0.0, 0.04), "pseudo_documents": True}, DIFFICULTY),
    ("negative control does not spare it", {"residual_interval": (0, 0.04), "negative_control_rate": 0.9}, DIFFICULTY),
    ("upper end at delta", {"residual_interval": (0.0, 0.05)}, POWER),
    ("no dependence, no proxy", {"share_interval": (-0.02, 0.04), **NO_PROXY}, NO_COHERENCE),
    (
        "opposite sign",
        {"excess": -0.1, "share_interval": (-0.2, -0.1), "residual_interval": (-0.2, -0.1)},
        Verdict("falsified", "opposite sign"),
    ),
    (
        "negative but not rejected",
        {"excess": -0.1, "share_interval": (-0.2, 0.01), "shift_pvalue": 0.2, "residual_interval": (-0.1, 0.1)},
        NO_COHERENCE,
    ),
    # Open.
    ("no proxy", NO_PROXY, Verdict("inconclusive", "no difficulty proxy")),
    ("wide", {"share_interval": (-0.1, 0.2), "residual_interval": (-0.1, 0.2), "shift_pvalue": 0.5}, POWER),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_coherence_verdict(changes: dict[str, object], expected: Verdict) -> None:
    assert coherence_verdict(OPEN, replace(FOUND, **changes)) == expected


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        (OPEN, "constant phases"),
        (replace(OPEN, n_documents=1), "documents"),
        (replace(OPEN, failed="identical models"), "identical models"),
        (replace(OPEN, controls="failed"), "controls"),
    ],
)
def test_a_test_that_does_not_exist_is_undecided_for_the_first_reason(gates: Gates, reason: str) -> None:
    assert undecided(gates, "constant phases") == Verdict("inconclusive", reason)


JOINT = [
    ("one pair", [SUPPORTED], SUPPORTED),
    ("all alike", [SUPPORTED, SUPPORTED, SUPPORTED], SUPPORTED),
    ("falsified for the same reason", [DIFFICULTY, DIFFICULTY], DIFFICULTY),
    (
        "falsified for two reasons",
        [DIFFICULTY, NO_COHERENCE, DIFFICULTY],
        Verdict("falsified", "no coherence; shared difficulty"),
    ),
    ("inconclusive for two reasons", [POWER, RELIABILITY], Verdict("inconclusive", "power; proxy reliability")),
    ("one of three differs", [SUPPORTED, SUPPORTED, POWER], Verdict("inconclusive", "pairs differ")),
    ("supported and falsified", [SUPPORTED, NO_COHERENCE], Verdict("inconclusive", "pairs differ")),
]


@pytest.mark.parametrize(("verdicts", "expected"), [case[1:] for case in JOINT], ids=[case[0] for case in JOINT])
def test_joint_verdict(verdicts: list[Verdict], expected: Verdict) -> None:
    assert joint_verdict(OPEN, verdicts) == expected
    # The order of the pairs makes no difference.
    assert joint_verdict(OPEN, verdicts[::-1]) == expected


def test_a_gate_explains_why_pairs_differ() -> None:
    blocked = replace(OPEN, controls="failed")
    assert joint_verdict(blocked, [SUPPORTED, POWER]) == Verdict("inconclusive", "controls")


def _ends(name: str, upper: float, lower: float, upper_middle: float, lower_middle: float) -> RivalEnds:
    return RivalEnds(
        rival=name, upper=upper, lower_simultaneous=lower, upper_middle=upper_middle, lower_middle=lower_middle
    )


CLEAR = _ends("linear", -0.02, -0.06, -0.021, -0.059)
BEATEN = Verdict("supported", "better than every phase-free rule")
CONSTANT = Verdict("inconclusive", "no variation")
RIVALS = [
    ("beats one", [CLEAR], BEATEN),
    ("beats all", [CLEAR, _ends("product", -0.006, -0.03, -0.007, -0.029)], BEATEN),
    ("not by delta", [CLEAR, _ends("product", -0.005, -0.03, -0.005, -0.03)], POWER),
    ("gains less than delta on one", [CLEAR, _ends("product", 0.01, -0.004, 0.01, -0.004)], "product"),
    ("lower end at -delta decides nothing", [_ends("product", 0.01, -0.005, 0.01, -0.005)], POWER),
    (
        "the strongest of those is named",
        [_ends("product", 0.01, -0.004, 0.01, -0.004), _ends("gap", 0.03, 0.002, 0.03, 0.002), CLEAR],
        "gap",
    ),
    ("wide", [_ends("linear", 0.02, -0.03, 0.02, -0.03)], POWER),
    ("truncation hides a gain", [_ends("linear", 0.0, -0.09, -0.01, -0.08)], Verdict("inconclusive", "truncation")),
    ("truncation hides a loss", [CLEAR, _ends("a", 0.05, -0.02, 0.03, 0.0)], Verdict("inconclusive", "truncation")),
    (
        "truncation hides a gain on one of two, the other is open",
        [_ends("linear", 0.0, -0.09, -0.01, -0.08), _ends("a", 0.02, -0.03, 0.02, -0.03)],
        POWER,
    ),
    ("no rivals", [], Verdict("inconclusive", "no rival has a bounded log loss")),
    # Without a standard error both ends are the mean: chance cannot be told from a gain or a loss.
    ("a gain in all documents alike", [CLEAR, _ends("a", -0.3, -0.3, -0.3, -0.3)], CONSTANT),
    ("a loss in all documents alike", [CLEAR, _ends("a", 0.3, 0.3, 0.3, 0.3)], CONSTANT),
    ("alike up to rounding", [_ends("a", 0.3, 0.3, 0.3, 0.3 * (1 + 1e-15))], CONSTANT),
    ("alike up to truncation", [_ends("a", 0.4, 0.2, 0.3, 0.3)], CONSTANT),
    ("equal forecasts are certainly no gain", [CLEAR, _ends("a", 0.0, 0.0, 0.0, 0.0)], "a"),
    ("equal forecasts up to rounding", [CLEAR, _ends("a", 2e-17, -1e-17, 2e-17, -1e-17)], "a"),
    ("little variation is variation", [_ends("a", -0.0299, -0.0301, -0.0299, -0.0301)], BEATEN),
]


@pytest.mark.parametrize(("rivals", "expected"), [case[1:] for case in RIVALS], ids=[case[0] for case in RIVALS])
def test_discrimination_verdict(rivals: list[RivalEnds], expected: Verdict | str) -> None:
    if isinstance(expected, str):
        expected = Verdict("falsified", f"no gain over {expected}")
    assert discrimination_verdict(OPEN, rivals, delta_nats=0.005) == expected
