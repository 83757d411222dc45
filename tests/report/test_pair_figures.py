import numpy as np
import pytest
from matplotlib.colors import to_hex

from brf_exp.report.pair_figures import PairRow, order_histogram, pair_forest
from brf_exp.report.style import BLUE, ORANGE


def test_every_pair_has_its_shares_and_its_verdict():
    rows = [
        PairRow("a\nb", "✓ supported\nwhy", 0.4, (0.3, 0.5), 0.2, (0.1, 0.3)),
        PairRow("a\nc", "✗ falsified\nwhy not", 0.1, (0.0, 0.2)),
    ]
    axes = pair_forest(rows, delta=0.05, level=1 - 0.05 / 3).axes[0]
    drawn = {
        (to_hex(line.get_color()), *line.get_xdata(), line.get_ydata()[0])
        for line in axes.lines
        if len(line.get_xdata()) == 2 and line.get_color() in (BLUE, ORANGE)
    }
    assert drawn == {(BLUE, 0.3, 0.5, -0.13), (ORANGE, 0.1, 0.3, 0.13), (BLUE, 0.0, 0.2, 0.87)}
    assert [(text.get_position()[1], text.get_text()) for text in axes.texts] == [
        (0, "✓ supported\nwhy"),
        (1, "✗ falsified\nwhy not"),
    ]
    assert "98.3 % intervals" in axes.get_xlabel()


def test_both_histograms_are_shares_of_the_positions():
    rng = np.random.default_rng(0)
    observed, shifted = (np.histogram(rng.beta(a, 2, 4000), bins=50, range=(0, 1))[0].astype(float) for a in (8, 3))
    axes = order_histogram(observed, shifted / 3, mean=0.8, shifted_mean=0.6).axes[0]
    bars = [patch for patch in axes.patches if hasattr(patch, "get_height")]
    assert [bar.get_height() for bar in bars] == pytest.approx((100 * observed / 4000).tolist())
    (outline,) = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    assert outline.get_data().values.sum() == pytest.approx(100)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["observed (bars), mean 0.800", "shifted (outline), mean 0.600"]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.8, 0.6]
