"""Every claim's decision rule, case by case, on hand-made results."""

import copy
from dataclasses import asdict

import pytest

from brf_exp.errors import InputError, MissingInputError
from brf_exp.maths.power import Pilot, power_at
from brf_exp.stages import claim_tests as t
from brf_exp.stages.claims import claims_of
from brf_exp.stages.ledger import FROZEN, freeze, load_ledger
from brf_exp.storage.runs import read_json, write_json

GATES = {"n_documents": 50, "min_documents": 20, "controls": "passed", "failed": ""}


def phase_result(error: float = 0.005) -> dict:
    return {
        "excess_share_interval": [0.2, 0.3],
        "resultant_length_independent": 0.4,
        "document_test": {"standard_error": error},
    }


def plan(error: float = 0.005) -> dict:
    """A plan as the coherence test makes it, from a standard error of kappa."""
    pilot = Pilot(error / (1 - 0.4), 20_000, 50)
    found = [
        {"question": name, "true_share": share, "at_10000_tokens": asdict(power_at(10_000, effect=share, pilot=pilot))}
        for name, share in (("find", 0.025), ("find", 0.05), ("support", 0.1), ("falsify", 0.0))
    ]
    return {"questions": found}


def contrast(difference: float, error: float = 0.001) -> dict:
    return {
        "difference_nats": difference,
        "interval": [difference - 2 * error, difference + 2 * error],
        "lower_simultaneous": difference - 3 * error,
        "standard_error": error,
    }


def audited(additive: bool, within: bool) -> dict:
    return {"source": "doi x", "properties": {"no_cross_terms": additive, "never_below_minimum": within}}


@pytest.fixture
def measured() -> t.Measured:
    coherence = {
        "verdict": "supported",
        "reason": "coherent beyond shared difficulty",
        "sentence": "For a pair: yes.",
        "robust": True,
        "delta": 0.05,
        "negative_control_rate": 0.01,
        "n_positions": 20_000,
        "n_documents": 50,
        "primary": "arctan",
        "phases": {"arctan": {**phase_result(), "residual": phase_result()}},
        "planning": plan(),
        "gates": dict(GATES),
    }
    discrimination = {
        "pair": "p",
        "corpus": "c",
        "primary": "arctan",
        "verdict": "falsified",
        "reason": "no gain over linear",
        "sentence": "For a pair: no.",
        "robust": False,
        "delta_nats": 0.005,
        "n_positions": 20_000,
        "n_documents": 50,
        "rules": {
            "linear": {"role": "rival", "log_loss_nats": [2.0, 2.0]},
            "log_linear": {"role": "rival", "log_loss_nats": [2.5, 2.6]},
            "oracle": {"role": "oracle", "log_loss_nats": [1.0, 1.0]},
        },
        "contrasts": {"linear": contrast(0.01), "log_linear": contrast(-0.5), "oracle": contrast(1.0)},
        "agreement": {"negative_share": 0.1, "interval": [0.09, 0.11]},
        "below_minimum_rate": 0.01,
        "below_minimum_interval": [0.009, 0.011],
        "below_minimum_controls": {"brf_shifted": 0.02},
        "gates": dict(GATES),
    }
    rules = {
        "linear": audited(True, True),
        "power_mean": audited(False, True),
        "product": audited(False, False),
        "constant_coherence": {**audited(False, True), "source": "ours"},
        "brf": audited(False, False),
    }
    audit = {"rules": rules, "identities": {"zero_phase_power_mean": {"max_error": 1e-16}}}
    return t.Measured(coherence, discrimination, audit)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([0.06, 0.1], "falsified"), ([0.01, 0.04], "supported"), ([0.04, 0.06], "inconclusive")],
)
def test_agreement_is_judged_by_the_share_of_negative_cosines(measured, interval, verdict):
    measured.discrimination["agreement"]["interval"] = interval
    assert t.agreement_amplified(measured).verdict.verdict == verdict


def test_a_constant_share_needs_no_interval(measured):
    measured.discrimination["agreement"] = {"negative_share": 0.0, "interval": None}
    assert t.agreement_amplified(measured).verdict.verdict == "supported"


def test_cross_terms_of_published_rules_falsify_novelty(measured):
    outcome = t.novel_cross_terms(measured)
    assert outcome.verdict.verdict == "falsified"
    assert outcome.evidence["published rules with cross-terms"] == "power_mean, product"
    for name in ("power_mean", "product"):
        measured.audit["rules"][name]["properties"]["no_cross_terms"] = True
    assert t.novel_cross_terms(measured).verdict.verdict == "supported"


def test_below_minimum_is_structural(measured):
    outcome = t.below_minimum(measured)
    assert outcome.verdict.verdict == "supported"
    assert outcome.evidence["other rules that can"] == "product"
    measured.audit["rules"]["linear"]["properties"]["never_below_minimum"] = False
    assert t.below_minimum(measured).verdict.verdict == "falsified"


def test_the_deciding_rival_is_shown(measured):
    evidence = t.discrimination(measured).evidence
    assert evidence["strongest rival"] == "linear"
    assert evidence["difference (nats)"] == 0.01


@pytest.mark.parametrize(
    ("coherence_error", "loss_error", "verdict"),
    [(0.002, 0.0004, "supported"), (0.002, 0.02, "falsified"), (0.002, 0.00115, "inconclusive")],
)
def test_ten_thousand_tokens_need_power_in_both_tests(measured, coherence_error, loss_error, verdict):
    measured.coherence["planning"] = plan(coherence_error)
    measured.discrimination["contrasts"]["linear"] = contrast(0.01, loss_error)
    outcome = t.ten_thousand_tokens(measured)
    assert outcome.verdict.verdict == verdict, outcome.evidence
    assert outcome.evidence["documents in 10,000 tokens"] == 25


def test_ten_thousand_tokens_quote_the_plan(measured):
    powers = t.ten_thousand_tokens(measured).evidence
    planned = measured.coherence["planning"]["questions"][1]["at_10000_tokens"]
    assert powers["power, coherence"] == list(planned["interval"])


@pytest.mark.parametrize(("loss_error", "verdict"), [(0.0004, "inconclusive"), (0.02, "falsified")])
def test_without_a_plan_the_other_test_can_only_falsify(measured, loss_error, verdict):
    measured.coherence["planning"] = None
    measured.discrimination["contrasts"]["linear"] = contrast(0.01, loss_error)
    outcome = t.ten_thousand_tokens(measured)
    assert outcome.verdict.verdict == verdict
    assert "power, coherence" not in outcome.evidence


def test_without_any_power_nothing_is_said(measured):
    measured.coherence["planning"] = None
    measured.discrimination["contrasts"] = {}
    outcome = t.ten_thousand_tokens(measured)
    assert (outcome.verdict.verdict, outcome.evidence) == ("inconclusive", {})
    assert outcome.sentence == "For p, c, map arctan: no power is known (inconclusive)."


def test_a_map_that_is_undefined_leaves_its_claim_open(measured, tmp_path):
    undefined = dict.fromkeys([*phase_result(), "residual"])
    reason = {"verdict": "inconclusive", "reason": "ties at zero", "sentence": "For a pair: no.", "robust": True}
    changes = {"phases": {"arctan": undefined}, "planning": None, "negative_control_rate": None, **reason}
    measured.coherence.update(changes)
    claims = {claim["id"]: claim for claim in judged(measured, tmp_path)}
    found = claims["brf.phase_coherence"]
    assert (found["verdict"], found["reason"]) == ("inconclusive", "ties at zero")
    assert found["evidence"]["excess share"] is None
    assert claims["brf.discrimination"]["verdict"] == "falsified"


@pytest.mark.parametrize(
    ("stage", "gate", "value", "reason"),
    [
        ("coherence", "controls", "failed", "controls"),
        ("discrimination", "controls", "not run", "controls"),
        ("discrimination", "n_documents", 19, "documents"),
    ],
)
def test_a_failed_control_or_gate_leaves_every_claim_open(measured, tmp_path, stage, gate, value, reason):
    getattr(measured, stage)["gates"][gate] = value
    assert {claim["verdict"] for claim in judged(measured, tmp_path)} == {"inconclusive", "not tested"}
    reasons = {claim["reason"] for claim in judged(measured, tmp_path) if claim["verdict"] == "inconclusive"}
    assert reasons == {reason}


def judged(measured: t.Measured, folder) -> list[dict]:
    for stage, results in (
        ("coherence", measured.coherence),
        ("discriminate", measured.discrimination),
        ("audit", measured.audit),
    ):
        (folder / stage).mkdir(exist_ok=True)
        write_json(folder / stage / "results.json", results)
    return read_json(claims_of(folder, None) / "results.json")["claims"]


def test_claims_that_are_tested_come_first(measured, tmp_path):
    claims = judged(measured, tmp_path)
    assert [claim["id"] for claim in claims][:2] == ["brf.phase_coherence", "brf.discrimination"]
    assert claims[0]["sentence"] == "For a pair: yes."
    assert claims[1]["sentence"] == "For a pair: no. Other phase maps give other verdicts."
    kinds = [claim["verdict"] == "not tested" for claim in claims]
    assert kinds == sorted(kinds)


def test_the_frozen_ledger_stands_and_a_change_shows(measured, tmp_path):
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    claim = vars(load_ledger(None)[0])
    text = "".join(f"{name}: {value!r}\n" for name, value in claim.items())
    (ledger / "one.yaml").write_text(text, encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    first = freeze(run, str(ledger))
    (ledger / "one.yaml").write_text(text.replace("statement: ", "statement: 'x' #"), encoding="utf-8")
    assert freeze(run, str(ledger)) == first
    for stage in ("coherence", "discriminate", "audit"):
        (run / stage).mkdir()
    write_json(run / "coherence/results.json", measured.coherence)
    write_json(run / "discriminate/results.json", measured.discrimination)
    write_json(run / "audit/results.json", measured.audit)
    found = read_json(claims_of(run, str(ledger)) / "results.json")
    assert found["ledger_changed"] is True
    assert found["ledger_sha256"] == first


def test_an_edited_frozen_ledger_is_refused(measured, tmp_path):
    judged(measured, tmp_path)
    content = read_json(tmp_path / FROZEN)
    edited = copy.deepcopy(content)
    edited["claims"][0]["falsified_if"] = "never"
    write_json(tmp_path / FROZEN, edited)
    with pytest.raises(InputError, match="must match its own hash"):
        claims_of(tmp_path, None)


def test_missing_stages_name_the_command(tmp_path):
    with pytest.raises(MissingInputError, match="brf-exp run"):
        claims_of(tmp_path, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [("id: x\n", "must have exactly the keys id, source"), ("{", "must be YAML"), ("- a\n", "must have exactly")],
)
def test_broken_claim_files_are_named(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"`bad.yaml` {message}"):
        load_ledger(str(tmp_path))


def test_an_empty_ledger_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"`claims.ledger` must be a folder of claim files"):
        load_ledger(str(tmp_path))


def test_every_shipped_claim_names_a_test_or_none():
    claims = load_ledger(None)
    assert {claim.test for claim in claims} == {*t.TESTS, "none"}
    assert len({claim.id for claim in claims}) == len(claims)
