import numpy as np
import pytest
from matplotlib.colors import to_hex

from brf_exp.report import coherence_figures as coherence
from brf_exp.report import discrimination_figures as discrimination
from brf_exp.report import draw, load_run, score_figures
from brf_exp.report.gallery import FIGURES
from brf_exp.report.style import GREEN, MUTED, ORANGE

OF_MORE_MODELS = ("pair_forest", "kuramoto_order")


def test_the_area_of_a_sector_is_its_share():
    differences = np.concatenate([np.zeros(40), np.full(10, np.pi / 2), [2 * np.pi - 0.01]])
    figure = coherence.phase_rose(
        differences, mean_direction_rad=0.2, resultant_length=0.8, resultant_length_independent=0.3
    )
    bars = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in figure.axes[0].patches}
    assert len(bars) == coherence.N_SECTORS
    assert bars[0.0] == 1.0  # 41 positions, the one just below a full turn among them
    assert bars[round(np.pi / 2, 6)] ** 2 == pytest.approx(10 / 41)
    assert sum(height**2 for height in bars.values()) == pytest.approx(51 / 41)


def test_the_legend_names_both_lengths():
    figure = coherence.phase_rose(
        np.zeros(3), mean_direction_rad=-0.5, resultant_length=0.814, resultant_length_independent=0.299
    )
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["R₀ = 0.30, expected of independent phases", "R = 0.81, mean direction −29°"]


def test_the_null_shows_every_draw_and_the_observed_value():
    draws = np.linspace(-0.02, 0.02, 99)
    panel = coherence.NullPanel("All", draws, 0.1, (0.08, 0.12), 0.03)
    axes = coherence.repairing_null([panel, panel], level=0.983).axes
    assert len(axes) == 2
    assert sum(bar.get_height() for bar in axes[0].patches) == 99
    assert [0.1] in [line.get_xdata() for line in axes[0].lines if len(line.get_xdata()) == 1]
    assert "98.3 % interval" in axes[0].get_legend_handles_labels()[1]


def test_maps_show_residuals_where_there_are_some():
    rows = [coherence.MapRow("one", 0.1, (0.0, 0.2), 0.01, (-0.1, 0.1)), coherence.MapRow("two", 0.3, (0.2, 0.4))]
    figure = coherence.map_intervals(rows, delta=0.05, level=0.95)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["one (decides)", "two"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["too small to matter (δ = 0.05)", "plain", "beyond shared difficulty"]


def test_an_impossible_correlation_does_not_set_the_scale():
    reliability = np.array([0.5, 0.6, 0.8, 1.0])
    value = np.array([np.nan, -1.7, 0.0, 0.2])
    axes = coherence.reliability_curve(reliability, value, value - 0.05, value + 0.05, level=0.95).axes[0]
    low, high = axes.get_ylim()
    assert -0.3 < low < -0.05
    assert 0.25 < high < 0.5


def test_negative_coherence_is_coloured_as_suppression():
    axes = coherence.coherence_histogram(np.array([-0.9, 0.9, 0.9, 0.9]), negative_share=0.25).axes[0]
    heights = {to_hex(bar.get_facecolor()): 0.0 for bar in axes.patches}
    for bar in axes.patches:
        heights[to_hex(bar.get_facecolor())] += bar.get_height()
    assert heights == {ORANGE: 25.0, GREEN: 75.0}
    assert "25 %" in axes.texts[0].get_text()


@pytest.mark.parametrize(
    ("interval", "marker", "colour"),
    [
        ((-0.1, -0.006), "<", GREEN),
        ((0.006, 0.1), ">", ORANGE),
        ((-0.1, -0.004), "o", MUTED),
        ((-0.1, 0.1), "o", MUTED),
    ],
)
def test_shape_and_colour_say_which_side_of_delta(interval, marker, colour):
    row = discrimination.ContrastRow("linear", "Rivals", sum(interval) / 2, interval, interval)
    axes = discrimination.contrast_forest([row], delta_nats=0.005).axes[0]
    point = next(line for line in axes.lines if len(line.get_xdata()) == 1)
    assert (point.get_marker(), point.get_color()) == (marker, colour)


def test_contrasts_are_sorted_within_their_group():
    rows = [
        discrimination.ContrastRow(name, group, value, (value - 1, value + 1), (value, value))
        for name, group, value in [("b", "G", 0.2), ("a", "G", -0.3), ("c", "H", -0.9)]
    ]
    axes = discrimination.contrast_forest(rows, delta_nats=0.005).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["G", "a", "b", "H", "c"]
    ticks = axes.get_xticks()
    assert 0.0 in ticks
    assert min(ticks) < 0 < max(ticks)


def test_the_best_constant_is_marked():
    grid = np.linspace(-0.9, 1.0, 20)
    loss = (grid - 0.3) ** 2 + 1.4
    point = discrimination.CurvePoint(0.9, (1.45, 1.46))
    axes = discrimination.coherence_curve(grid, loss - 0.01, loss + 0.01, brf=point).axes[0]
    marked = {
        line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() in "oD"
    }
    assert marked["o"] == pytest.approx((0.3, 1.4))
    assert marked["D"] == pytest.approx((0.9, 1.455))


def test_rates_are_labelled_in_per_cent():
    axes = discrimination.rate_bars(["BRF", "zero"], [0.0125, 0.0], [(0.01, 0.02), None]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.25 %", "0 %"]
    assert axes.yaxis_inverted()


def test_a_row_with_a_margin_of_its_own_is_judged_by_it():
    row = discrimination.ContrastRow("linear", "Rivals", -0.02, (-0.03, -0.01), (-0.02, -0.02), margin_nats=0.015)
    axes = discrimination.contrast_forest([row], delta_nats=0.005).axes[0]
    strokes = [line for line in axes.lines if line.get_marker() == "|"]
    assert [list(line.get_xdata()) for line in strokes] == [[-0.015, 0.015]]
    (point,) = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert (point.get_marker(), point.get_color()) == ("o", MUTED)


def test_the_forest_takes_margins_above_delta_only(make_run):
    run = load_run(make_run(captures=False))
    run.discrimination["contrasts"]["log_linear"] |= {"noise_floor_nats": 0.2, "least_gain_nats": 0.2}
    axes = draw(run, "contrast_forest").axes[0]
    assert [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"] == [[-0.2, 0.2]]


@pytest.mark.parametrize(
    ("ends", "marker", "colour"),
    [((0.01, 0.03), ">", GREEN), ((-0.03, -0.01), "<", ORANGE), ((-0.01, 0.03), "o", MUTED), (None, "o", MUTED)],
)
def test_an_auc_is_better_where_its_difference_lies_above_0(ends, marker, colour):
    rows = [
        score_figures.AucRow("own", 0.6, (0.55, 0.65)),
        score_figures.AucRow("other", 0.58, (0.5, 0.66), 0.02, ends, "" if ends else "no variation"),
    ]
    left, right = score_figures.auc_comparison(rows, level=0.95).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["own", "other"]
    points = [line for line in right.lines if len(line.get_xdata()) == 1]
    assert [(line.get_marker(), line.get_color(), line.get_ydata()[0]) for line in points] == [(marker, colour, 1)]
    assert [text.get_text() for text in right.texts] == ([] if ends else ["no variation"])


def test_the_candidate_stands_first_among_the_aucs(make_run):
    run = load_run(make_run(captures=False))
    scores = run.discrimination["auc"]["scores"]
    run.discrimination["auc"]["scores"] = dict(reversed(scores.items()))
    axes = draw(run, "auc_comparison").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "interference term c B",
        "top probability",
        "c alone",
    ]


def test_bins_lie_where_accuracy_meets_confidence(whole_run):
    axes = draw(load_run(whole_run), "reliability_diagram").axes[0]
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert curves["Born Rule Fusion"] == ([0.2, 0.5, 0.9], [0.25, 0.4, 0.8])
    assert list(curves) == ["as often as it says", "Born Rule Fusion", "linear pool"]


def test_aucs_that_do_not_exist_are_not_drawn(make_run):
    run = load_run(make_run(captures=False))
    run.discrimination["auc"]["reason"] = "one class"
    run.discrimination["secondary"]["rules"] = {"contrastive": run.discrimination["secondary"]["rules"]["contrastive"]}
    assert draw(run, "auc_comparison") is None
    assert draw(run, "reliability_diagram") is None


def test_an_unbounded_fusion_is_no_point_beside_the_curve(make_run):
    run = load_run(make_run(captures=False))
    run.discrimination["rules"]["brf"]["log_loss_nats"] = [1.4, None]
    assert "D" not in [line.get_marker() for line in draw(run, "coherence_curve").axes[0].lines]


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in OF_MORE_MODELS])
def test_a_whole_run_has_every_figure(whole_run, name):
    assert draw(load_run(whole_run), name).axes


def test_figures_of_pairs_need_more_than_two_models(whole_run, make_three):
    two, three = load_run(whole_run), load_run(make_three(stages=("coherence",)))
    assert [bool(draw(run, name)) for run in (two, three) for name in OF_MORE_MODELS] == [False, False, True, True]


def test_what_was_not_measured_is_not_drawn(make_run):
    run = load_run(make_run(stages=("coherence",), proxy=False))
    drawn = "phase_rose repairing_null map_intervals specification_curve power_curve"
    assert [name for name in FIGURES if draw(run, name)] == drawn.split()


def test_a_test_that_does_not_exist_is_not_drawn(make_undefined):
    run = load_run(make_undefined("constant gaps", stages=("coherence",)))
    assert [name for name in FIGURES if draw(run, name)] == []


def test_results_without_the_later_keys_are_drawn(make_run):
    run = load_run(make_run(stages=("coherence",), proxy=False))
    for name in ("specification", "planning", "secondary", "confidence_level", "alpha", "aligned_share"):
        del run.coherence[name]
    assert [name for name in FIGURES if draw(run, name)] == ["phase_rose", "repairing_null", "map_intervals"]


def test_one_undefined_map_is_named_beside_the_others(make_run, undefine_map):
    run = load_run(make_run(stages=("coherence",)))
    undefine_map(run.coherence["phases"]["quantile"], "ties at zero")
    axes = draw(run, "map_intervals").axes[0]
    assert [text.get_text() for text in axes.texts] == ["not defined: ties at zero"]
    assert axes.texts[0].get_position()[1] == 1
    heights = {float(line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert heights == {-0.15, 0.15}


def test_a_pair_without_a_test_keeps_its_place_and_its_reason(make_three):
    axes = draw(load_run(make_three("constant gaps", stages=("coherence",))), "pair_forest").axes[0]
    assert [text.get_text().split("\n")[1] for text in axes.texts] == ["constant gaps", "reason 1", "reason 2"]
    heights = {float(line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert heights == {0.87, 1.13, 1.87, 2.13}


def test_an_unknown_figure_is_a_key_error(whole_run):
    with pytest.raises(KeyError, match="no_such_figure"):
        draw(load_run(whole_run), "no_such_figure")
