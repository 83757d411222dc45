import re
from collections import Counter
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
    assert reader.tags["svg"] == 8
    assert not reader.tags["script"]
    assert reader.links
    assert all(link.startswith("#") for link in reader.links)
    assert max(Counter(reader.ids).values()) == 1
    assert {link[1:] for link in reader.links} <= set(reader.ids)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in whole_page
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


def test_names_of_strangers_are_escaped(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("brf_exp.report.write.FIGURES", {"contrast_forest": FIGURES["contrast_forest"]})
    monkeypatch.setattr("brf_exp.report.write.FORMATS", ("svg",))
    attack = "<script>alert(1)</script>\"'&"
    run = load_run(make_run(pair=attack, models=(attack, "</svg><b>"), captures=False))
    write_report(run, tmp_path / "report")
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    reader = read(html)
    assert not reader.tags["script"]
    assert not reader.tags["b"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


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
