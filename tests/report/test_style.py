import re

import matplotlib as mpl
import pytest

from brf_exp.report.coherence_figures import MapRow, map_intervals
from brf_exp.report.style import FORMATS, THEMED, drawing, encode, inline_svg, nameable, printable, settle


def a_figure(name="arctan"):
    return map_intervals([MapRow(name, 0.1, (0.05, 0.15)), MapRow("quantile", 0.3, (0.2, 0.4))], delta=0.05, level=0.95)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_is_the_same_bytes(kind):
    assert encode(a_figure(), kind, name="x") == encode(a_figure(), kind, name="x")


def test_no_date_is_written():
    for kind in FORMATS:
        assert not re.search(rb"CreationDate|dc:date|20\d\d-\d\d", encode(a_figure(), kind, name="x"))


def test_the_users_settings_are_left_alone_and_have_no_effect():
    plain = encode(a_figure(), "svg", name="x")
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red"}):
        assert encode(a_figure(), "svg", name="x") == plain
        with drawing():
            assert mpl.rcParams["font.size"] == 9.0
        assert mpl.rcParams["font.size"] == 30.0


def test_a_settled_figure_keeps_its_layout():
    figure = a_figure()
    settle(figure)
    before = figure.axes[0].get_position().bounds
    figure.axes[0].set_yticks([0, 1], ["a much longer name than before", "b"])
    encode(figure, "svg", name="x")
    assert figure.axes[0].get_position().bounds == before


def test_an_inline_svg_takes_the_themes_colours_and_own_ids():
    text = inline_svg(encode(a_figure(), "svg", name="x"), name="maps", label='a "b" <c>')
    assert text.startswith('<svg role="img" aria-label="a &quot;b&quot; &lt;c&gt;"')
    assert not any(colour in text for colour in THEMED)
    assert "var(--blue)" in text
    assert "<style" not in text
    assert "<metadata" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert ids
    assert all(name.startswith("maps-") for name in ids)
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert used
    assert set(used) <= set(ids)


def test_names_of_strangers_are_drawn_as_they_stand():
    svg = encode(a_figure("$\\frac{1}$ <b> 模型"), "svg", name="x").decode()
    assert "$\\frac{1}$ &lt;b&gt; 模型" in svg
    assert encode(a_figure("模型"), "png", name="x").startswith(b"\x89PNG")


def test_what_xml_cannot_hold_is_replaced():
    assert printable("a\x00b\ud800c\n\té") == "a\ufffdb\ufffdc\n\té"


def test_names_show_what_would_be_invisible_or_turn_text_around():
    assert nameable("gpt\u202e2\u200bx\u2066y\u00ad\ufeff\u2028z") == "gpt\ufffd2\ufffdx\ufffdy\ufffd\ufffd\ufffdz"
    assert nameable("אב 模型 é {{ x }} <b>") == "אב 模型 é {{ x }} <b>"


def test_figures_and_their_labels_hold_no_overrides():
    svg = encode(a_figure("gpt\u202e2"), "svg", name="x")
    assert "gpt\ufffd2" in svg.decode()
    assert "\u202e" not in inline_svg(svg, name="x", label="a \u202e b")
