import numpy as np
import pytest

from brf_exp.maths.audit import AUDITED, RuleAudit, Sample, audit_rule, draw_sample, identities
from brf_exp.maths.fusion import RULES

HOLDS = {
    "never_below_minimum": {"linear", "log_linear", "power_mean", "lin_log_mixture", "routing"},
    "never_above_maximum": {"linear", "routing"},
    "in_convex_hull": {"linear", "routing"},
    "no_cross_terms": {"linear"},
    # Exponents that sum to 1: 1 + beta and -beta as well.
    "external_bayesianity": {"log_linear", "contrastive"},
    "marginalisation": {"linear"},
}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return draw_sample(400, 8, np.random.default_rng(1))


@pytest.fixture(scope="module")
def audits(sample: Sample) -> dict[str, RuleAudit]:
    return {rule: audit_rule(rule, sample, np.random.default_rng(2)) for rule in AUDITED}


def test_every_rule_is_audited() -> None:
    assert set(AUDITED) == set(RULES)


@pytest.mark.parametrize("name", sorted(HOLDS))
def test_known_properties(audits: dict[str, RuleAudit], name: str) -> None:
    found = {rule for rule, audit in audits.items() if audit.properties[name]}
    if name == "never_below_minimum":
        # Constant coherence of 1/2 is a mixture of both pools as well.
        assert found == HOLDS[name] | {"constant_coherence"}
    else:
        assert found == HOLDS[name]


def test_unanimity(audits: dict[str, RuleAudit]) -> None:
    found = {rule for rule, audit in audits.items() if audit.properties["unanimity"]}
    assert found == set(AUDITED) - {"product", "majority_vote"}


def test_order_of_models_matters_to_contrastive_decoding_alone(audits: dict[str, RuleAudit]) -> None:
    assert {rule for rule, audit in audits.items() if not audit.properties["model_permutation"]} == {"contrastive"}


def test_zeros_are_kept(audits: dict[str, RuleAudit]) -> None:
    assert all(audits[rule].properties["zero_preservation"] for rule in AUDITED if rule != "majority_vote")


def test_gauge_is_asked_of_phases_only(audits: dict[str, RuleAudit]) -> None:
    for rule, audit in audits.items():
        assert audit.properties["gauge_invariance"] is (True if rule == "brf" else None)
        assert ("gauge_invariance" in audit.worst) is (rule == "brf")


def test_properties_are_the_worst_cases(audits: dict[str, RuleAudit]) -> None:
    for audit in audits.values():
        assert {name: value < 1e-9 for name, value in audit.worst.items()} == {
            name: audit.properties[name] for name in audit.worst
        }
    assert audits["brf"].worst["never_below_minimum"] > 0.01
    assert audits["brf"].worst["no_cross_terms"] > 0.1


def test_identities_hold_and_can_fail(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    found = identities(sample)
    assert set(found) == {
        *("lin_log_mixture", "zero_phase_power_mean", "quadrature_linear", "cosine_only", "single_model"),
    }
    assert all(identity.holds for identity in found.values()), found
    monkeypatch.setattr("brf_exp.maths.audit.mixture_share", lambda c, overlap: c * overlap)
    broken = identities(sample)
    assert not broken["lin_log_mixture"].holds
    assert broken["zero_phase_power_mean"].holds


def test_seed() -> None:
    first, again, other = (draw_sample(5, 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.log_p, again.log_p)
    assert (first.log_p != other.log_p).any()
    audits = [audit_rule("linear", first, np.random.default_rng(seed)) for seed in (1, 1)]
    assert audits[0] == audits[1]
