import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from brf_exp.config import CollectStageConfig
from brf_exp.report.collect_figures import MAX_NAMED, PairRow, gain_forest, share_forest
from brf_exp.report.collect_tables import runs_latex
from brf_exp.report.style import drawing
from brf_exp.stages.collect import run

NASTY = "<script>alert(1)</script> & 'q\"\u202e\u200b"
VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}


class Reader(HTMLParser):
    """Every element's name and attributes; what is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def collected(tmp_path_factory, write_light_run):
    """Two pairs, one of them with a name that is markup and with two maps; a broken run with such a name too."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    write_light_run(runs / "run" / "sure & <b>", pair="sure", share=(0.3, 0.01), gain=(-0.02, 0.001))
    write_light_run(runs / "run" / "nasty", pair=NASTY, corpus=NASTY, share=(0.075, 0.01))
    write_light_run(runs / "run" / "nasty-tanh", pair=NASTY, corpus=NASTY, phase="tanh", share=(0.3, 0.01))
    (write_light_run(runs / "run" / "<i>broken", pair="b") / "manifest.json").unlink()
    (runs / "run" / "sure & <b>" / "report").mkdir()
    (runs / "run" / "sure & <b>" / "report" / "report.html").write_text("a report", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brf_exp.report.collect_write.FORMATS", ("svg",))
        return run(CollectStageConfig(runs_dir=str(runs), progress=False, name=NASTY))


@pytest.fixture(scope="module")
def html(collected):
    return (collected / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_loads_nothing_and_runs_nothing(html, read):
    tags = {tag for tag, _ in read.elements}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base", "img", "i", "b"})
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)
    assert "default-src 'none'" in html
    assert re.findall(r"url\((?!#)[^)]*\)|https?://(?!www\.w3\.org)[^\s\"<]*", html) == []


def test_links_go_to_the_reports_that_are_there(collected, read):
    links = [attributes["href"] for tag, attributes in read.elements if tag == "a" and "href" in attributes]
    outward = [link for link in links if not link.startswith("#")]
    assert len(outward) == 2  # in the grid and in the table
    for link in outward:
        assert (collected / unquote(link)).read_text(encoding="utf-8") == "a report"
    anchors = {attributes.get("id") for _, attributes in read.elements}
    assert {link[1:] for link in links if link.startswith("#") and link[1:] in anchors} == {
        "claims", "multiplicity", "forests", "grid", "runs", "left-out",
    }  # fmt: skip


def test_names_of_strangers_are_text_and_show_what_is_invisible(html):
    assert "<script" not in html
    assert "\u202e" not in html
    assert "\u200b" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in html


def test_every_coloured_cell_says_its_verdict_in_words(html):
    cells = re.findall(r'<td class="(supported|falsified|inconclusive|not-tested)">(.*?)</td>', html, re.DOTALL)
    assert len(cells) == 2 * 3  # pairs by claims
    for verdict, text in cells:
        assert verdict.replace("-", " ") in text
    assert "alone supported" not in html  # two tests: 0.075 stands 2.5 errors above delta, p 0.042 after Holm
    assert "0 of 1 others agree" not in html


def test_the_page_says_counts_families_and_what_is_left_out(read):
    text = " ".join(" ".join(read.text).split())
    assert "tested on 2 pairs" in text
    assert "\u2713 2 supported" in text
    assert "../../run/<i>broken not a finished run" in text
    assert "brf.phase_coherence the claim holds 2 2 2 2 2 1.0\u00d710\u207b\u2075" in text


def rows(n):
    verdicts = ("supported", "falsified", "inconclusive")
    return [
        PairRow(f"pair {i:04d}, corpus", i / n - 0.5, (i / n - 0.6, i / n - 0.4), verdicts[i % 3], beside=0.2)
        for i in range(n)
    ]


@pytest.mark.parametrize("draw", [lambda r: share_forest(r, delta=0.05), lambda r: gain_forest(r, delta_nats=0.005)])
def test_a_forest_names_its_rows_in_the_order_of_the_estimates(draw):
    figure = draw(rows(30))
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    ordered = [f"pair {i:04d}, corpus" for i in range(30)]
    assert names in (ordered, ordered[::-1])
    counts = {"supported (10)", "falsified (10)", "inconclusive (10)"}
    assert counts <= {text.get_text() for text in figure.legends[0].get_texts()}
    low, high = axes.get_xlim()
    assert low <= -0.6
    assert high >= 0.56


def test_a_forest_of_a_thousand_pairs_is_one_figure_of_ordinary_size():
    figure = share_forest(rows(1000), delta=0.05)
    assert MAX_NAMED < 1000
    assert figure.get_figheight() < 10
    with drawing():
        figure.draw_without_rendering()


def test_one_pair_and_one_without_variation_are_drawn():
    for one in (PairRow("only", 0.0, (0.0, 0.0), "inconclusive"), PairRow("open", 3.0, (-9.0, 9.0), "falsified")):
        figure = share_forest([one], delta=0.0)
        low, high = figure.axes[0].get_xlim()
        assert -1.5 < low < high < 1.5
        gain_forest([one], delta_nats=0.0)


def test_latex_has_a_dash_where_a_test_was_not_run():
    row = dict.fromkeys(
        "residual_share residual_share_low residual_share_high difference_nats difference_low_nats "
        "difference_high_nats coherence_verdict discrimination_verdict phase_map n_positions".split()
    )
    tex = runs_latex([row | {"pair": "a_b", "corpus": "c"}], caption="all")
    assert r"a\_b & c & -- & -- & -- & -- & -- & -- & -- & -- \\" in tex
