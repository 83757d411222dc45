import pytest
from matplotlib.colors import to_hex

from brf_exp.report import draw, load_run
from brf_exp.report.specification_figures import Specification, specification_curve
from brf_exp.report.style import BLUE, INK, ORANGE, PAPER

ROWS = [
    Specification("tanh", 2.0, 0.3, (0.2, 0.4), 0.1, (0.05, 0.15)),
    Specification("arctan", 1.0, 0.2, (0.1, 0.3), 0.02, (-0.03, 0.07), decides=True),
    Specification("quantile", None, 0.5, (0.4, 0.6)),
    Specification("arctan", 0.25, -0.1, (-0.2, 0.0), 0.0, (-0.05, 0.05), rejects=False),
]


def marks(axes, marker, colour):
    lines = [line for line in axes.lines if line.get_marker() == marker and to_hex(line.get_color()) == colour]
    return [(line.get_xdata()[0], line.get_ydata()[0], line) for line in lines if len(line.get_xdata()) == 1]


def test_effects_ascend_and_residuals_stand_beside_them():
    effects, _ = specification_curve(ROWS, delta=0.05, level=0.95).axes
    plain, residual = marks(effects, "o", BLUE), marks(effects, "D", ORANGE)
    assert [(x, y) for x, y, _ in plain] == [(-0.17, -0.1), (0.83, 0.2), (1.83, 0.3), (2.83, 0.5)]
    assert [(x, y) for x, y, _ in residual] == [(0.17, 0.0), (1.17, 0.02), (2.17, 0.1)]
    assert [line.get_markerfacecolor() == PAPER for *_, line in plain] == [True, False, False, False]
    drawn = [tuple(line.get_ydata()) for line in effects.lines if len(line.get_xdata()) == 2]
    assert {row.interval for row in ROWS} <= set(drawn)


def test_every_column_marks_its_own_map_and_scale():
    _, matrix = specification_curve(ROWS, delta=0.05, level=0.95).axes
    names = [label.get_text() for label in matrix.get_yticklabels()]
    assert names == ["map", "tanh", "arctan", "quantile", "scale", "s / 4", "s", "2 s", "no scale"]
    dots = {
        (int(x), names[int(y)])
        for line in matrix.lines
        if line.get_color() == INK
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert dots == {
        (0, "arctan"), (0, "s / 4"), (1, "arctan"), (1, "s"), (2, "tanh"), (2, "2 s"), (3, "quantile"), (3, "no scale"),
    }  # fmt: skip


def test_the_one_that_decides_is_shaded_in_both_panels():
    figure = specification_curve(ROWS, delta=0.05, level=0.95)
    for axes in figure.axes:
        stripes = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
        assert [(round(box.x0, 6), round(box.x1, 6)) for box in stripes if box.width < 2] == [(0.5, 1.5)]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == sorted(
        ["decides", "too small to matter (δ = 0.05)", "plain", "plain, a null not rejected", "beyond shared difficulty"]
    )


def test_without_residuals_there_is_one_mark_a_column():
    rows = [Specification("arctan", 1.0, 0.2, (0.1, 0.3))]
    effects, _ = specification_curve(rows, delta=0.05, level=0.95).axes
    assert [(x, y) for x, y, _ in marks(effects, "o", BLUE)] == [(0, 0.2)]
    assert marks(effects, "D", ORANGE) == []


@pytest.mark.parametrize(
    ("factor", "label"), [(None, "no scale"), (1.0, "s"), (0.25, "s / 4"), (4.0, "4 s"), (1.5, "3 s / 2")]
)
def test_scales_are_fractions_of_s(factor, label):
    assert Specification("arctan", factor, 0.0, (0.0, 0.0)).scale_label == label


def test_a_run_shows_what_it_has_specified(make_run):
    run = load_run(make_run(stages=("coherence",)))
    run.coherence["specification"][0] |= {"share": None, "share_interval": None}
    effects, matrix = draw(run, "specification_curve").axes
    assert [round(y, 6) for _, y, _ in marks(effects, "o", BLUE)] == [0.2, 0.3, 0.33]
    assert "3 specifications" in matrix.get_xlabel()
    # p is a fifth of the share here: the first one alone is not below .05.
    assert [line.get_markerfacecolor() == PAPER for *_, line in marks(effects, "o", BLUE)] == [False, True, True]
