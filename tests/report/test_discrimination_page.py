import re
from html import unescape

import pytest

from brf_exp.report import load_run
from brf_exp.report.discrimination_gallery import DISCRIMINATION_FIGURES
from brf_exp.report.gallery import FIGURES
from brf_exp.report.page import page
from brf_exp.report.tables import tables


def words_of(html):
    """The text of a page, or of a piece of one, with single blanks."""
    text = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"</?[^>]+>", " ", text)).split())


def sentences_of(html):
    """The text as a reader sees it: marks of emphasis leave no blank behind."""
    return words_of(re.sub(r"</?(strong|em|code|span)[^>]*>", "", html))


def rows_of(html):
    """Every row of every table, its cells separated by a blank."""
    return [words_of(row) for row in re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)]


def said_of(run):
    return sentences_of(page(run, figures={}, tables=tables(run)))


@pytest.fixture(scope="module")
def whole_page(whole_run):
    run = load_run(whole_run)
    return page(run, figures={}, tables=tables(run))


def test_the_noise_floor_is_measured_or_why_it_is_not_is_said(make_run):
    run = load_run(make_run(captures=False))
    text = said_of(run)
    assert "The first 96 positions were captured a second time, as bfloat16 in batches of 4,096 tokens." in text
    assert "no difference to a rule moves by more than 0.0004 nats. That is less than δ, so δ decides." in text
    run.discrimination.update(noise_floor=None, noise_floor_reason="recapture.enabled is false")
    assert "The noise floor was not measured: recapture.enabled is false." in said_of(run)


def test_a_noise_floor_above_delta_takes_its_place(make_run):
    run = load_run(make_run(captures=False))
    run.discrimination["noise_floor"] |= {"largest_nats": 0.03, "dtype": None, "batch_tokens": None}
    run.discrimination["contrasts"]["brf_zero"] |= {"noise_floor_nats": 0.03, "least_gain_nats": 0.03}
    text = said_of(run)
    assert "were captured a second time. Between" in text
    assert "moves by more than 0.03 nats. Where that is more than δ, it takes the place of δ." in text
    figure = page(run, figures={"contrast_forest": "<svg></svg>"}, tables=tables(run))
    assert "that is what a rule must be beaten by (zero phase)." in figure


@pytest.mark.parametrize(
    ("k", "verdict", "sentence"),
    [
        (412, "falsified", "With about 412 logits per token and model the comparison would come out as “falsified”"),
        (None, None, "No number of logits within reach would decide the comparison"),
    ],
)
def test_the_k_that_would_decide(make_run, k, verdict, sentence):
    run = load_run(make_run(captures=False))
    assert "logits it would take" not in said_of(run)
    widths = {"5": {"linear": 0.4}, "10": {"linear": 0.2}, "20": {"linear": 0.1}}
    run.discrimination["deciding_k"] = {"k": k, "verdict": verdict, "widths": widths}
    text = said_of(run)
    assert sentence in text
    assert "the mean widths that truncation leaves at 5, 10 and 20 logits" in text


def test_aucs_are_differences_first(whole_page):
    text = sentences_of(whole_page)
    assert "An AUC above 0.5 is automatic" in text
    assert "that holds at 112 of 252 positions in 21 documents, and might not at 3 of them." in text
    found = [row for row in rows_of(whole_page) if row.startswith(("interference term", "top probability"))]
    assert found[0].startswith("interference term c B 0.620 [0.610, 0.630] 0.600 [0.570, 0.630] – –")
    assert found[1].endswith("−0.210 [−0.220, −0.200] 0.002")


def test_aucs_that_do_not_exist_have_their_reason(make_run):
    run = load_run(make_run(captures=False))
    none = dict.fromkeys(("auc", "standard_error", "interval", "within_document"))
    auc = run.discrimination["auc"]
    auc["scores"] = {name: {**none, "reason": "one class"} for name in auc["scores"]}
    nothing = dict.fromkeys(("difference", "standard_error", "interval", "pvalue", "pvalue_adjusted"))
    auc["differences"] = {name: {**nothing, "reason": "one class"} for name in auc["differences"]}
    auc["reason"] = "one class"
    assert "No AUC exists for these data: one class." in said_of(run)


def test_whom_falling_below_every_model_hits(make_run, whole_page):
    text = sentences_of(whole_page)
    assert "Born Rule Fusion puts 1 realised token below every model. The linear pool finds it 5.5 nats" in text
    assert "top tokens agree at 0 % of these positions, elsewhere at 60 %" in text
    assert "the median token is number 40 by frequency, elsewhere number 7.5 of 50" in text
    rows = rows_of(whole_page)
    assert "zero phase 0.00 0.40 no variation [0.00, 0.79] –" in rows
    assert "flipped phase 30.00 −29.60 [−34.00, −25.00] [−31.00, −28.00] 2.0×10⁻⁹" in rows
    run = load_run(make_run(captures=False))
    run.discrimination["below_minimum_events"] |= {"n_events": 0, "n_undefined": 7, "reason": "no events"}
    assert "as tuned, puts no realised token below every model. Not counted: 7 positions" in said_of(run)


def test_what_interference_does_and_a_learned_gate_does(make_run):
    run = load_run(make_run(captures=False))
    text = said_of(run)
    assert "gains −0.025 nats per token [−0.035, −0.015] (Coherent Gain)" in text
    assert "between 0.01 and 0.03 nats from the linear pool’s" in text
    assert "at most 0.0013 (one-sided). So its map loses nothing that matters" in text
    run.discrimination["attribution"]["not_worse"] = False
    run.discrimination["interference"] = dict.fromkeys(run.discrimination["interference"])
    text = said_of(run)
    assert "a learned function of the gaps may well do better" in text
    assert "Coherent Gain" not in text


def test_secondary_scores_of_rules_are_said_to_decide_nothing(whole_page):
    text = sentences_of(whole_page)
    assert "Secondary scores, which decide nothing" in text
    assert "linear pool 0.6000 0.0150 [0.0050, 0.0250] 8.30 [5.00, 12.00] 1.3500 (1.3700)" in rows_of(whole_page)
    missing = "What is missing: oracle (upper bound) (recalibrated: not tuned); contrastive (unbounded normaliser)."
    assert missing in text


def test_maps_say_how_often_they_suppress_agreement(whole_page):
    rows = rows_of(whole_page)
    assert "arctan ✗ falsified no gain over linear 28.0 [25.0, 31.0]" in rows
    assert "quantile ✗ falsified no gain over linear 50.0" in rows


def test_earlier_discrimination_results_have_a_page(make_run, forget_later_keys):
    run = load_run(make_run(captures=False))
    forget_later_keys(run.discrimination)
    text = said_of(run)
    assert "The noise floor was not measured: it needs a second dump of the same texts" in text
    for words in ("An AUC above", "Whom it hits", "Attribution", "Coherent Gain", "Brier", "suppresses agreement at"):
        assert words not in text


def test_results_without_a_normaliser_have_a_page(make_run):
    run = load_run(make_run(captures=False))
    found, reason = run.discrimination, {"verdict": "inconclusive", "reason": "missing logsumexp"}
    rule = {"role": "rival", "log_loss_nats": [1.3, None], "n_undefined": 0, "accuracy": None, "parameters": {}}
    found["rules"] = {"brf": {**rule, "role": "candidate", "log_loss_nats": None}, "linear": rule}
    found |= {"contrasts": {}, "bhattacharyya": [0.0, 1.0], "auc": {}, "below_minimum_controls": {}, **reason}
    found["maps"] = {"arctan": {"rule": "brf", "contrasts": {}, **reason}}
    found["interference"] = dict.fromkeys(found["interference"])
    names = "below_minimum_rate below_minimum_contrasts below_minimum_events attribution noise_floor noise_floor_reason"
    found |= dict.fromkeys((*names.split(), "deciding_k", "minimum_detectable_nats"))
    del found["secondary"]
    run.tables.pop("losses")
    drawn = [name for name in DISCRIMINATION_FIGURES if FIGURES[name](run)]
    assert drawn == []
    html = page(run, figures={}, tables=tables(run))
    assert "Born Rule Fusion candidate – – – –" in rows_of(html)
    assert "linear pool rival [1.3000, –] – – –" in rows_of(html)
    assert "? inconclusive missing logsumexp" in " ".join(rows_of(html))
