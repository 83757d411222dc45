import numpy as np
import pytest

from brf_exp.maths.power import Pilot, power_at
from brf_exp.report import draw, load_run
from brf_exp.report.planning_figures import PlannedPower, power_curve
from brf_exp.report.style import BAND


def curve_of(figure):
    """The longest line: the power curve itself."""
    return max(figure.axes[0].lines, key=lambda line: len(line.get_xdata()))


def test_the_curve_is_the_power_at_this_pairs_precision(whole_run):
    figure = draw(load_run(whole_run), "power_curve")
    pilot = Pilot(0.04, 252, 21)
    line = curve_of(figure)
    for n, power in list(zip(line.get_xdata(), line.get_ydata(), strict=True))[::20]:
        assert power == pytest.approx(power_at(round(n), effect=0.05, pilot=pilot).power)
    at = power_at(10_000, effect=0.05, pilot=pilot)
    (mark,) = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (10_000, at.power)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"10,000 tokens: power {at.power:.2f} [{at.interval[0]:.2f}, {at.interval[1]:.2f}]" in labels
    assert "this run: 252 tokens" in labels


def test_too_few_documents_are_shaded_up_to_twenty(make_run):
    run = load_run(make_run(stages=("coherence",)))
    run.coherence["planning"] |= {"n_positions": 5100, "n_documents": 20}
    axes = draw(run, "power_curve").axes[0]
    (shaded,) = [patch for patch in axes.patches if patch.get_facecolor()[:3] == pytest.approx(rgb(BAND))]
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == pytest.approx((700, 5100))


def test_nothing_is_shaded_where_documents_are_short(whole_run):
    axes = draw(load_run(whole_run), "power_curve").axes[0]
    assert [patch for patch in axes.patches if patch.get_facecolor()[:3] == pytest.approx(rgb(BAND))] == []


def test_ticks_are_whole_numbers_within_the_curve():
    n = np.geomspace(700, 250_000, 5)
    mark = PlannedPower(10_000, 0.5, (0.4, 0.6), "10,000")
    axes = power_curve(n, n / 3e5, n / 4e5, n / 2.5e5, marked=mark, own_tokens=900, least_tokens=1e9).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1,000", "10,000", "100,000"]
    assert axes.get_xlim() == pytest.approx((700, 250_000))


def rgb(colour):
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
