import json
import re
import unicodedata
from collections import Counter
from html import unescape
from html.parser import HTMLParser

import pytest

from brf_exp.report import load_run
from brf_exp.report.gallery import FIGURES
from brf_exp.report.page import page
from brf_exp.report.tables import tables
from brf_exp.report.write import write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Reader(HTMLParser):
    """Collects ids, tags and text, and checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.links, self.text = [], [], Counter(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src", "xlink:href", "action") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def whole_page(whole_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brf_exp.report.write.FORMATS", ("svg",))
        write_report(load_run(whole_run), folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_refers_to_nothing_outside(whole_page):
    reader = read(whole_page)
    assert reader.tags["svg"] == 12
    assert not reader.tags["script"]
    assert reader.links
    assert all(link.startswith("#") for link in reader.links)
    assert max(Counter(reader.ids).values()) == 1
    assert {link[1:] for link in reader.links} <= set(reader.ids)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', whole_page)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\((?!#)|@import", whole_page)


def test_verdicts_come_first_in_words(whole_page):
    text = " ".join("".join(read(whole_page).text).split())
    verdicts, coherence = text.index("Verdict on every claim"), text.index("Are the phases of the two models")
    assert verdicts < coherence
    first = text[verdicts:coherence]
    for words in (
        "✓ 1 supported",
        "✗ 1 falsified",
        "? 1 inconclusive",
        "– 1 not tested",
        "“brf.discrimination is true & proven.”",
    ):
        assert words in first
    assert "strongest rival" in first
    assert "[0.1,\u00a00.2]".replace("\u00a0", " ") in first


def test_numbers_stand_in_the_text(whole_page):
    text = " ".join("".join(read(whole_page).text).split())
    assert "R = 0.6 and z = 90.7, p = 10⁻²⁰⁵⁶" in text
    assert "Against linear pool, the rival with the lowest loss, a gain of 0.0123 nats" in text
    assert "28 % of the positions (95 % interval 25 % to 31 %)" in text
    assert "it found coherence in 3 % of these" in text
    assert "What the models share by descent: the second is distilled from the first." in text


def test_tokens_carry_their_colour_and_their_note(whole_page):
    assert '<span class="t l5 below centre" title="models 60.7\u00a0% and' in whole_page
    assert '<span class="t g5 centre"' in whole_page


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": '"\'` onmouseover="alert(1)" &#x27;',
    "breaking out": "</title></style></svg></td><img src=x onerror=alert(1)>",
    "braces": "{{ 7 * 7 }}{% raw %}{# gone #}${7*7}",
    "turned around": "gpt\u202e2-tpg\u202c \u2066x\u2069",
    "invisible": "gpt\u200b2\ufeff\u00ad\u2060",
    "control": "a\x00b\x1b[31m\x85",
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE.keys())
def test_names_of_strangers_do_nothing(make_run, tmp_path, monkeypatch, attack):
    monkeypatch.setattr("brf_exp.report.write.FIGURES", {"contrast_forest": FIGURES["contrast_forest"]})
    monkeypatch.setattr("brf_exp.report.write.FORMATS", ("svg",))
    run = load_run(make_run(pair=attack, models=(attack, "</svg><b>"), captures=False))
    run.coherence["lineage"] = run.discrimination["corpus"] = run.coherence["proxy"] = attack
    run.discrimination["auc"]["label"] = run.discrimination["noise_floor"]["dtype"] = attack
    plain = load_run(make_run("plain", captures=False))
    for name, found in (("attacked", run), ("plain", plain)):
        write_report(found, tmp_path / name)
    html, harmless = ((tmp_path / name / "report.html").read_text(encoding="utf-8") for name in ("attacked", "plain"))
    assert read(html).tags == read(harmless).tags
    assert not re.search(r"<[^>]*\son\w+=", html)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff\u00ad\u2060\x00\x1b\x85]", html)
    shown = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf") else c for c in attack)
    assert words_of(html).count(" ".join(shown.split())) >= 5


def test_texts_keep_the_joiners_that_their_script_needs(make_run):
    run = load_run(make_run())
    texts = run.captures["a"] / "texts.jsonl"
    lines = [json.loads(line) for line in texts.read_text(encoding="utf-8").splitlines()]
    starts = "\u0645\u06cc\u200c <b>"  # a zero-width non-joiner within the first token
    swapped = [json.dumps(line | {"text": starts + line["text"][len(starts) :]}) for line in lines]
    texts.write_text("\n".join(swapped), encoding="utf-8")
    html = page(run, figures={}, tables=tables(run))
    assert "\u0645\u06cc\u200c</span>" in html
    assert not read(html).tags["b"]


@pytest.mark.parametrize(
    ("stages", "absent"),
    [
        (
            ("coherence",),
            ["Cross-Term Discrimination Test</h2>", "Verdict on every claim", "Structural audit", "real tokens"],
        ),
        (("discriminate",), ["Phase Coherence Test</h2>", "Verdict on every claim", "Structural audit"]),
    ],
)
def test_what_was_not_run_is_said_not_shown(make_run, stages, absent):
    run = load_run(make_run(stages=stages, proxy=False, captures=False))
    html = page(run, figures={}, tables=tables(run))
    read(html)
    assert not [words for words in absent if words in html]
    assert "Test was not run" in html


def test_no_proxy_is_said(make_run):
    run = load_run(make_run(proxy=False))
    assert "No difficulty proxy was given" in page(run, figures={}, tables=tables(run))


def test_controls_that_were_not_run_are_said(make_run):
    run = load_run(make_run())
    run.coherence["controls"] = run.discrimination["controls"] = None
    assert page(run, figures={}, tables=tables(run)).count("were not run, so no verdict is possible") == 2


def test_an_undefined_fusion_is_said(make_run):
    run = load_run(make_run())
    found = run.discrimination
    found["rules"]["brf"] |= {"log_loss_nats": None, "n_undefined": 7, "accuracy": None}
    found |= {"contrasts": {}, "minimum_detectable_nats": None, "verdict": "inconclusive", "reason": "undefined fusion"}
    assert FIGURES["contrast_forest"](run) is None
    assert FIGURES["coherence_curve"](run) is not None
    html = page(run, figures={}, tables=tables(run))
    read(html)
    assert "undefined at 7" in html
    assert "would be found with 80 % power; 0.005" not in html


def rows_of(html):
    """Every row of every table, its cells separated by a blank."""
    rows = re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]


def words_of(html):
    return " ".join("".join(read(html).text).split())


@pytest.mark.parametrize("reason", ["constant gaps", "documents of one token", "ties at zero"])
def test_a_test_that_does_not_exist_says_why(make_undefined, tmp_path, monkeypatch, reason):
    monkeypatch.setattr("brf_exp.report.write.FORMATS", ("svg",))
    run = load_run(make_undefined(reason, stages=("coherence",), captures=False))
    write_report(run, tmp_path / "report")
    text = words_of((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert f"The test does not exist for these data: {reason}. No number is shown in its place." in text
    assert f"For this pair: {reason} (inconclusive)." in text
    assert text.count(reason) == 4  # the sentence, the reason, and one row per map
    assert "It was not measured, because there is no test to repeat." in text
    assert "Every phase map gives the same verdict" not in text
    assert not list((tmp_path / "report" / "figures").iterdir())


def test_one_undefined_map_has_dashes_and_its_reason(make_run, undefine_map):
    run = load_run(make_run(stages=("coherence",), captures=False))
    undefine_map(run.coherence["phases"]["quantile"], "constant phases")
    html = page(run, figures={}, tables=tables(run))
    assert "quantile – – – – – – – ? inconclusive constant phases" in rows_of(html)
    assert "The test does not exist" not in html


def test_every_pair_of_three_models_is_told(make_three, tmp_path, monkeypatch):
    monkeypatch.setattr("brf_exp.report.write.FORMATS", ("svg",))
    run = load_run(make_three(captures=False))
    write_report(run, tmp_path / "report")
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    text = words_of(html)
    assert "org/first, org/second and org/third: does fusing" in text
    assert "With 3 pairs, each is tested at level 0.0167 and has 98.3 % intervals" in text
    assert "hold together at 95 %" in text
    assert "The first pair in detail: org/first and org/second" in text
    assert "has mean 0.8, against 0.7 under shifts" in text
    assert "p < 10⁻³⁰⁰ against shifts" in text
    assert {"pair_forest.svg", "kuramoto_order.svg"} <= {
        path.name for path in (tmp_path / "report" / "figures").iterdir()
    }
    assert "These models, one corpus." in text
    assert "Rules fuse two models; here these are org/first and org/second." in text


def test_an_undefined_first_pair_leaves_the_others(make_three):
    run = load_run(make_three("constant gaps", stages=("coherence",), captures=False))
    html = page(run, figures={}, tables=tables(run))
    assert "The test does not exist for these data: constant gaps." in words_of(html)
    pairs = [row for row in rows_of(html) if row.startswith("org/") and " and " in row]
    assert [row.split()[:4] for row in pairs] == [
        ["org/first", "and", "org/second", "org/third"],
        ["org/first", "and", "org/third", "org/second"],
        ["org/second", "and", "org/third", "org/first"],
    ]
    assert pairs[0].endswith("– – – – ? inconclusive constant gaps –")
    assert "✓ supported reason 1" in pairs[1]
    assert "Kuramoto" not in html


def test_what_sample_sizes_it_takes(whole_page):
    text = " ".join("".join(read(whole_page).text).split())
    assert "252 tokens in 21 documents leave a standard error of 0.04" in text
    (row,) = [row for row in rows_of(whole_page) if row.startswith("above 0 ")]
    assert row == "above 0 0.05 1,512 [1,008, never] 126 0.97 [0.80, 0.99]"


def test_secondary_statistics_and_specifications_are_counted(whole_page):
    text = " ".join("".join(read(whole_page).text).split())
    assert "Of these, 4 would be falsified." in text
    assert "all permutations of documents (documents of one length only)" in text
    assert "Of the gaps, 2 % and 0 % equal another gap of their model." in text.replace("\u00a0", " ")


def test_how_the_proxy_was_aligned_and_which_models_are_one_is_said(make_run):
    run = load_run(make_run(stages=("coherence",), captures=False))
    run.coherence.update(aligned_share=0.991, identical_models=[["org/first", "org/second"]])
    text = words_of(page(run, figures={}, tables=tables(run)))
    assert "org/third (other tokens, matched by characters: 99.1 % of the tokens)" in text.replace("\u00a0", " ")
    assert "One and the same model: org/first and org/second." in text


def test_results_without_the_later_keys_have_a_page(make_run):
    run = load_run(make_run(captures=False))
    later = ("specification", "planning", "secondary", "confidence_level", "alpha", "aligned_share", "tie_fractions")
    for name in (*later, "identical_models", "rank_correlation"):
        del run.coherence[name]
    text = words_of(page(run, figures={}, tables=tables(run)))
    assert "Intervals are 95 %, by document." in text.replace("\u00a0", " ")
    assert "How many tokens does it take?" not in text


def test_a_late_ledger_is_said(make_run):
    run = load_run(make_run(captures=False))
    assert "frozen late" not in words_of(page(run, figures={}, tables=tables(run)))
    run.claims["ledger_note"] = "The ledger was frozen late."
    assert "The ledger was frozen late." in words_of(page(run, figures={}, tables=tables(run)))
