"""Every claim's decision rule, case by case, on hand-made results."""

import copy
import re
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from brf_exp.config import RunStageConfig
from brf_exp.errors import InputError, MissingInputError
from brf_exp.maths.decisions import Verdict
from brf_exp.maths.power import Pilot, power_at
from brf_exp.report import load_run
from brf_exp.report.page import page
from brf_exp.report.tables import tables
from brf_exp.stages import claim_tests as t
from brf_exp.stages.claims import FROZEN_LATE, claims_of
from brf_exp.stages.ledger import FROZEN, freeze, ledger_hash, load_ledger
from brf_exp.stages.run import run
from brf_exp.stages.sentences import coherence_sentence, discrimination_sentence, unnormalised_sentence
from brf_exp.storage.runs import read_json, write_json

WHERE = "For p, c, map arctan"
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
        "sentence": f"{WHERE}: yes (supported).",
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
        "sentence": f"{WHERE}: no (falsified).",
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


# --- every claim, case by case ---------------------------------------------------------------------------------------
Edit = Callable[[t.Measured], None]


def coherence_says(verdict: str, reason: str, failed: str = "", *, robust: bool = True) -> Edit:
    """The Phase Coherence Test as it comes out, with its own sentence."""

    def edit(m: t.Measured) -> None:
        said = coherence_sentence(Verdict(verdict, reason), WHERE)
        m.coherence.update({"verdict": verdict, "reason": reason, "sentence": said, "robust": robust})
        m.coherence["gates"]["failed"] = failed

    return edit


def discrimination_says(verdict: str, reason: str, failed: str = "", *, robust: bool = True) -> Edit:
    """The Cross-Term Discrimination Test as it comes out, with its own sentence."""

    def edit(m: t.Measured) -> None:
        said = discrimination_sentence(Verdict(verdict, reason), WHERE)
        m.discrimination.update({"verdict": verdict, "reason": reason, "sentence": said, "robust": robust})
        m.discrimination["gates"]["failed"] = failed

    return edit


def both(*edits: Edit) -> Edit:
    def edit(m: t.Measured) -> None:
        for one in edits:
            one(m)

    return edit


def no_contrasts(m: t.Measured) -> None:
    """What the discrimination results look like where Born Rule Fusion has no mean, or no normaliser is known."""
    changes = {"contrasts": {}, "below_minimum_rate": None, "below_minimum_interval": None}
    m.discrimination.update({**changes, "below_minimum_controls": {}})


def no_plan(m: t.Measured) -> None:
    m.coherence["planning"] = None


def unnormalised(m: t.Measured) -> None:
    discrimination_says("inconclusive", "missing logsumexp", "missing logsumexp")(m)
    m.discrimination["sentence"] = unnormalised_sentence(["model-b"], WHERE)
    no_contrasts(m)


def shares(share: float, interval: list[float] | None, **maps: list[float]) -> Edit:
    """The share of positions that suppress agreement, under the primary map and under others."""

    def edit(m: t.Measured) -> None:
        found = {"negative_share": share, "interval": interval}
        others = {name: {"negative_share": sum(ends) / 2, "interval": ends} for name, ends in maps.items()}
        m.discrimination["agreement"] = found | ({"maps": {"arctan": found} | others} if maps else {})

    return edit


def never_below(**values: bool | None) -> Edit:
    def edit(m: t.Measured) -> None:
        for name, value in values.items():
            m.audit["rules"][name]["properties"]["never_below_minimum"] = value

    return edit


def powers(coherence_error: float, loss_error: float) -> Edit:
    def edit(m: t.Measured) -> None:
        m.coherence["planning"] = plan(coherence_error)
        m.discrimination["contrasts"]["linear"] = contrast(0.01, loss_error)

    return edit


def no_cross_terms(m: t.Measured) -> None:
    for name in ("power_mean", "product"):
        m.audit["rules"][name]["properties"]["no_cross_terms"] = True


def gate(stage: str, **changes: object) -> Edit:
    def edit(m: t.Measured) -> None:
        getattr(m, stage)["gates"].update(changes)

    return edit


identical = both(
    coherence_says("inconclusive", "identical models", "identical models"),
    discrimination_says("inconclusive", "identical models", "identical models"),
    shares(0.0, None),
)
undefined = both(discrimination_says("inconclusive", "undefined fusion"), no_contrasts)
no_scale = discrimination_says("inconclusive", "ties at zero", "ties at zero")
one_map = " Not known to be robust: only one phase map was looked at."
fragile = " Not robust: this does not hold under every phase map."
S, F, OPEN = "supported", "falsified", "inconclusive"
PHASE, RULES, NOVEL = "brf.phase_coherence", "brf.discrimination", "brf.novel_cross_terms"
AGREE, BELOW, TOKENS = "brf.agreement_amplified", "brf.below_minimum", "brf.ten_thousand_tokens"
DECISIONS = [
    # claim, results, verdict, reason, words of the sentence, what follows the verdict
    (PHASE, coherence_says(S, "coherent beyond shared difficulty"), S, None, "related token by token, beyond", ""),
    (PHASE, coherence_says(S, "coherent beyond shared difficulty", robust=False), S, None, "token by token", fragile),
    (PHASE, coherence_says(F, "no coherence"), F, None, "not related by more than a negligible amount", ""),
    (PHASE, coherence_says(F, "no coherence", robust=False), F, None, "not related", fragile),
    (PHASE, coherence_says(F, "shared difficulty"), F, None, "find the same tokens hard", ""),
    (PHASE, coherence_says(F, "opposite sign"), F, None, "the opposite way", ""),
    (PHASE, coherence_says(OPEN, "power", robust=False), OPEN, "power", "cannot tell a relevant relation", ""),
    (PHASE, coherence_says(OPEN, "no difficulty proxy"), OPEN, None, "without a third model", ""),
    (PHASE, coherence_says(OPEN, "proxy reliability"), OPEN, None, "only 80 % reliable", ""),
    (PHASE, coherence_says(OPEN, "proxy under test", "proxy under test"), OPEN, None, "takes away what it", ""),
    (PHASE, coherence_says(OPEN, "pseudo-documents"), OPEN, None, "one long document cut into blocks", ""),
    (PHASE, coherence_says(OPEN, "negative control"), OPEN, None, "mismatched on purpose", ""),
    (PHASE, identical, OPEN, "identical models", "two of the models are one and the same", ""),
    (PHASE, unnormalised, S, None, "yes", ""),
    (PHASE, undefined, S, None, "yes", ""),
    (RULES, discrimination_says(S, "better than every phase-free rule"), S, None, "better than every phase-free", ""),
    (RULES, discrimination_says(S, "better than every phase-free rule", robust=False), S, None, "better than", fragile),
    (RULES, discrimination_says(F, "no gain over linear"), F, None, "no relevant gain over the phase-free rule", ""),
    (RULES, discrimination_says(F, "no gain over linear", robust=False), F, None, "phase-free rule linear", fragile),
    (RULES, discrimination_says(F, "no gain over brf_shifted"), F, None, "the same rule with phases shifted", ""),
    (RULES, discrimination_says(OPEN, "power"), OPEN, "power", "cannot tell a relevant gain from none", ""),
    (RULES, discrimination_says(OPEN, "truncation"), OPEN, None, "too few logits per token", ""),
    (RULES, discrimination_says(OPEN, "not tuned", "not tuned"), OPEN, None, "rules were not tuned", ""),
    (RULES, discrimination_says(OPEN, "folds", "folds"), OPEN, None, "fall into one fold", ""),
    (RULES, discrimination_says(OPEN, "constant gaps", "constant gaps"), OPEN, None, "one constant phase", ""),
    (RULES, discrimination_says(OPEN, "no variation"), OPEN, None, "chance cannot be told from it", ""),
    (RULES, no_scale, OPEN, "ties at zero", "half of the gaps are exactly 0", ""),
    (RULES, identical, OPEN, "identical models", "fusing them tells nothing", ""),
    (RULES, undefined, OPEN, "undefined fusion", "undefined at some positions", ""),
    (RULES, unnormalised, OPEN, "missing logsumexp", "logsumexp is missing from the rows of model-b; add it", ""),
    (NOVEL, lambda m: None, F, "published rules have them", "published rules have cross-terms", ""),
    (NOVEL, no_cross_terms, S, "no audited rule has them", "no audited phase-free rule has cross-terms", ""),
    (NOVEL, identical, F, "published rules have them", "published rules have cross-terms", ""),
    (NOVEL, unnormalised, F, "published rules have them", "published rules have cross-terms", ""),
    (AGREE, shares(0.08, [0.06, 0.1]), F, "agreement suppressed", "at 8.0 % of the positions", one_map),
    (AGREE, shares(0.08, [0.06, 0.1], tanh=[0.2, 0.3]), F, "agreement suppressed", "at 8.0 %", ""),
    (AGREE, shares(0.08, [0.06, 0.1], tanh=[0.02, 0.3]), F, "agreement suppressed", "at 8.0 %", fragile),
    (AGREE, shares(0.03, [0.01, 0.04], tanh=[0.0, 0.02]), S, "rarely suppressed", "at 3.0 %", ""),
    (AGREE, shares(0.03, [0.01, 0.04], tanh=[0.2, 0.3]), S, "rarely suppressed", "at 3.0 %", fragile),
    (AGREE, shares(0.05, [0.04, 0.06], tanh=[0.2, 0.3]), OPEN, "power", "at 5.0 %", ""),
    (AGREE, shares(0.0, None, tanh=[0.0, 0.02]), S, "rarely suppressed", "at 0.0 %", ""),
    (AGREE, shares(1.0, None), F, "agreement suppressed", "at 100.0 %", one_map),
    (AGREE, shares(0.3, None), OPEN, "no variation", "at 30.0 %", ""),
    (AGREE, identical, OPEN, "identical models", "because of identical models", ""),
    (AGREE, no_scale, OPEN, "ties at zero", "because of ties at zero", ""),
    (AGREE, both(unnormalised, shares(0.03, [0.01, 0.04], tanh=[0.0, 0.1])), S, None, "at 3.0 %", fragile),
    (AGREE, both(undefined, shares(0.08, [0.06, 0.1])), F, None, "at 8.0 %", one_map),
    (BELOW, lambda m: None, S, "structural", "1.00 % of the realised tokens fall below every model; no weighted", ""),
    (BELOW, never_below(linear=False), F, "structural", "a weighted average can do that too", ""),
    (BELOW, never_below(brf=True), F, "structural", "Born Rule Fusion cannot go there", ""),
    (BELOW, never_below(brf=None), OPEN, "audit", "the audit does not say what is possible", ""),
    (BELOW, unnormalised, S, "structural", "how many of the realised tokens fall below every model is not known", ""),
    (BELOW, undefined, S, "structural", "is not known", ""),
    (BELOW, identical, S, "structural", "1.00 % of the realised tokens", ""),
    (TOKENS, powers(0.002, 0.0004), S, "power", "1.00 for coherence and 1.00 for discrimination", one_map),
    (TOKENS, powers(0.002, 0.02), F, "power", "1.00 for coherence and 0.04 for discrimination", one_map),
    (TOKENS, powers(0.04, 0.0004), F, "power", "0.07 for coherence and 1.00 for discrimination", one_map),
    (TOKENS, powers(0.002, 0.00115), OPEN, "power", "for discrimination", ""),
    (TOKENS, both(unnormalised, no_plan), OPEN, "missing logsumexp", "because of missing logsumexp", ""),
    (TOKENS, unnormalised, OPEN, "missing logsumexp", "the power at delta is 0.98 for coherence (", ""),
    (TOKENS, both(powers(0.04, 0.001), unnormalised), F, "power", "0.07 for coherence (", one_map),
    (TOKENS, both(undefined, no_plan), OPEN, "power", "no power is known (inconclusive)", ""),
    (TOKENS, identical, OPEN, "identical models", "no power is known, because of identical models", ""),
]


def _case(case: tuple) -> str:
    return f"{case[0].removeprefix('brf.')}-{case[2]}-{case[3]}"


@pytest.mark.parametrize(("claim", "edit", "verdict", "reason", "words", "after"), DECISIONS, ids=map(_case, DECISIONS))
def test_every_claim_case_by_case(measured, tmp_path, claim, edit, verdict, reason, words, after):
    edit(measured)
    found = next(one for one in judged(measured, tmp_path) if one["id"] == claim)
    assert found["verdict"] == verdict, found
    assert reason is None or found["reason"] == reason
    assert words in found["sentence"]
    is_one_sentence_of(found["sentence"].removesuffix(after), verdict)
    assert found["sentence"].endswith(f"({verdict}).{after}")
    # What is decided is said without qualification only where it is robust.
    assert (after == "") == (found["robust"] is True or verdict == OPEN)


def is_one_sentence_of(sentence: str, verdict: str) -> None:
    """Names pair, corpus and map, ends in its verdict, and holds nothing that only a program would write."""
    assert sentence.startswith(WHERE)
    assert sentence.endswith(f" ({verdict}).")
    assert sentence.count(f"({verdict})") == 1
    assert not {"None", "nan", "null"} & set(sentence.replace(".", " ").split())


BLOCKS = [
    (gate("coherence", controls="failed"), "controls", "planted controls did not come out"),
    (gate("discrimination", controls="failed"), "controls", "planted controls did not come out"),
    (gate("discrimination", controls="not run"), "controls", "planted controls did not come out"),
    # A gate of its own explains why controls were not run; one that failed stays failed.
    (gate("discrimination", controls="failed", failed="identical models"), "controls", "planted controls"),
    (gate("coherence", n_documents=19), "documents", "too few documents"),
    (gate("discrimination", n_documents=19, controls="failed"), "documents", "too few documents"),
]


@pytest.mark.parametrize(("edit", "reason", "words"), BLOCKS)
def test_a_failed_control_or_too_few_documents_leave_every_claim_open(measured, tmp_path, edit, reason, words):
    edit(measured)
    claims = judged(measured, tmp_path)
    for claim in claims:
        if claim["verdict"] != "not tested":
            assert (claim["verdict"], claim["reason"], claim["robust"]) == ("inconclusive", reason, None)
            assert words in claim["sentence"]
        is_one_sentence_of(claim["sentence"], claim["verdict"])
    assert sum(claim["verdict"] == "inconclusive" for claim in claims) == len(t.TESTS)


def test_a_gate_explains_why_controls_were_not_run(measured, tmp_path):
    discrimination_says(OPEN, "constant gaps", "constant gaps")(measured)
    measured.discrimination["gates"]["controls"] = "not run"
    found = {claim["id"]: (claim["verdict"], claim["reason"]) for claim in judged(measured, tmp_path)}
    assert found[RULES] == (OPEN, "constant gaps")
    assert found[PHASE] == ("supported", "coherent beyond shared difficulty")


@pytest.mark.parametrize(
    ("difference", "adjusted", "said"),
    [(-0.01, 0.01, "yes"), (0.01, 0.01, "no"), (-0.01, 0.2, "undecided"), (None, None, "undecided")],
)
def test_whether_realised_tokens_are_hit_less_often_is_evidence(measured, difference, adjusted, said):
    interval = None if difference is None else [difference - 0.005, difference + 0.005]
    found = {"difference": difference, "interval": interval, "pvalue": adjusted, "pvalue_adjusted": adjusted}
    measured.discrimination["below_minimum_contrasts"] = {"brf_zero": dict(found), "brf_shifted": found}
    evidence = t.below_minimum(measured).evidence
    assert evidence["rarer among realised tokens than under shifted phases"] == said
    assert evidence["rate minus that with shifted phases"] == interval


def test_without_phase_controls_nothing_is_said_of_how_often_tokens_are_hit(measured):
    assert not [name for name in t.below_minimum(measured).evidence if "shifted phases" in name and "rarer" in name]


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
    reason = {"verdict": "inconclusive", "reason": "ties at zero", "sentence": "open", "robust": True}
    changes = {"phases": {"arctan": undefined}, "planning": None, "negative_control_rate": None, **reason}
    measured.coherence.update(changes)
    claims = {claim["id"]: claim for claim in judged(measured, tmp_path)}
    found = claims["brf.phase_coherence"]
    assert (found["verdict"], found["reason"]) == ("inconclusive", "ties at zero")
    assert found["evidence"]["excess share"] is None
    assert claims["brf.discrimination"]["verdict"] == "falsified"


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
    assert claims[0]["sentence"] == f"{WHERE}: yes (supported)."
    assert claims[1]["sentence"] == f"{WHERE}: no (falsified). Not robust: this does not hold under every phase map."
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


def test_a_ledger_frozen_after_results_says_so_for_good(measured, tmp_path):
    for _ in range(2):  # the second time the ledger is there, and still was late
        judged(measured, tmp_path)
        found = read_json(tmp_path / "claims" / "results.json")
        assert found["ledger_frozen_late"] is True
        assert found["ledger_note"] == FROZEN_LATE
    assert read_json(tmp_path / FROZEN)["frozen_late"] is True


def test_a_ledger_frozen_before_results_is_not_late(measured, tmp_path):
    first = freeze(tmp_path, None)
    judged(measured, tmp_path)
    found = read_json(tmp_path / "claims" / "results.json")
    assert (found["ledger_sha256"], found["ledger_frozen_late"], found["ledger_note"]) == (first, False, None)
    assert read_json(tmp_path / "claims" / "manifest.json")["determines"]["ledger"] == first


@pytest.mark.parametrize("stage", ["coherence", "discriminate", "audit"])
def test_results_of_any_stage_make_a_freeze_late(tmp_path, stage):
    (tmp_path / stage).mkdir()
    write_json(tmp_path / stage / "results.json", {})
    freeze(tmp_path, None)
    assert read_json(tmp_path / FROZEN)["frozen_late"] is True


class StoppedError(Exception):
    """What a stage raises in place of its work."""


def test_a_run_freezes_its_ledger_before_the_first_stage(write_capture, tmp_path, monkeypatch):
    def first_stage(config, inputs, folder):
        content = read_json(folder.parent / FROZEN)
        assert content["sha256"] == ledger_hash(load_ledger(None))
        assert content["frozen_late"] is False
        raise StoppedError

    def too_early(*given):
        raise AssertionError("a stage ran before the ledger was frozen")

    monkeypatch.setattr("brf_exp.stages.run.coherence_of", first_stage)
    for later in ("discrimination_of", "audit_of"):
        monkeypatch.setattr(f"brf_exp.stages.run.{later}", too_early)
    gaps = np.random.default_rng(0).exponential(size=(2, 40))
    captures = [write_capture(name, row, [20, 20]) for name, row in zip("ab", gaps, strict=True)]
    with pytest.raises(StoppedError):
        run(RunStageConfig(captures=captures, runs_dir=str(tmp_path / "runs"), progress=False))


def shown(folder) -> str:
    """The report page of a run folder, as text without tags."""
    made = load_run(folder)
    return re.sub(r"<[^>]+>", "", page(made, figures={}, tables=tables(made)))


def test_a_changed_or_late_ledger_shows_in_the_report(make_run):
    folder = make_run(captures=False)
    assert not [words for words in ("has been changed since", FROZEN_LATE) if words in shown(folder)]
    found = read_json(folder / "claims" / "results.json")
    write_json(folder / "claims" / "results.json", found | {"ledger_changed": True})
    assert "has been changed since this run froze it" in shown(folder)
    write_json(folder / "claims" / "results.json", found | {"ledger_frozen_late": True, "ledger_note": FROZEN_LATE})
    assert FROZEN_LATE in shown(folder)
    assert "was frozen before any result was looked at" not in shown(folder)


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
