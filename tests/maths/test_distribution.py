"""The streamed distribution of gaps against numpy on all gaps at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from brf_exp.maths.distribution import (
    GapDistribution,
    default_scale,
    gap_distribution,
    pooled,
    scale_of,
)
from brf_exp.maths.undefined import UndefinedStatisticError

GAPS = st.lists(
    st.one_of(st.integers(0, 8).map(float), st.floats(0, 50, allow_subnormal=False)), min_size=1, max_size=60
).map(np.array)
CUTS = st.lists(st.integers(0, 60), max_size=6).map(sorted)
FEW = settings(deadline=None, max_examples=80)


def _equal(first: GapDistribution, second: GapDistribution) -> bool:
    return (
        np.array_equal(first.values, second.values)
        and np.array_equal(first.counts, second.counts)
        and first.dropped_bits == second.dropped_bits
    )


@FEW
@given(GAPS, CUTS, st.integers(1, 70))
def test_cuts_into_chunks_make_no_difference(gaps: np.ndarray, cuts: list[int], max_cells: int) -> None:
    """Also where the cells have to be made coarser, and where chunks are empty or come in another order."""
    whole = gap_distribution([gaps], max_cells=max_cells)
    chunks = np.split(gaps, np.minimum(cuts, gaps.size))
    assert _equal(gap_distribution(chunks, max_cells=max_cells), whole)
    assert _equal(gap_distribution(chunks[::-1], max_cells=max_cells), whole)
    assert whole.values.size <= max_cells
    assert whole.n == gaps.size


@FEW
@given(GAPS)
def test_cells_are_the_distinct_gaps(gaps: np.ndarray) -> None:
    found = gap_distribution([gaps])
    values, counts = np.unique(gaps, return_counts=True)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.counts, counts)
    assert found.dropped_bits == 0
    assert found.largest_atom == counts.max() / gaps.size
    tied = [(gaps == gap).sum() > 1 for gap in gaps]
    assert found.tie_fraction == pytest.approx(np.mean(tied))


def test_cells_are_made_no_coarser_than_needed() -> None:
    gaps = np.random.default_rng(1).gamma(1, 2, 4000)
    found = gap_distribution(np.split(gaps, 10), max_cells=500)
    assert 250 < found.values.size <= 500
    # So many leading bits are kept of each gap that the relative error is below one in their number.
    kept = found.values[np.searchsorted(found.values, gaps, side="right") - 1]
    assert (kept <= gaps).all()
    assert ((gaps - kept) / gaps).max() < 2.0 ** (found.dropped_bits - 52)
    np.testing.assert_array_equal(found.counts, [(kept == value).sum() for value in found.values])


@FEW
@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=40, unique=True), st.lists(st.floats(0, 1), max_size=9))
def test_quantiles_are_numpys(gaps: list[float], p: list[float]) -> None:
    """Hazen's definition, where all gaps differ."""
    found = gap_distribution([np.array(gaps)]).quantile(np.array([*p, 0.5]))
    np.testing.assert_allclose(found, np.quantile(gaps, [*p, 0.5], method="hazen"), rtol=1e-9)


def test_quantiles_of_tied_gaps_rise_between_the_middles_of_the_ties() -> None:
    found = gap_distribution([np.array([1.0, 1.0, 1.0, 3.0])])
    # Ranks 0 to .75 are 1, .75 to 1 are 3: middles .375 and .875.
    np.testing.assert_allclose(found.quantile([0.0, 0.375, 0.625, 0.875, 1.0]), [1.0, 1.0, 2.0, 3.0, 3.0])


@FEW
@given(GAPS, st.integers(0, 2**32 - 1), st.sampled_from([5, 2**21]))
def test_uniform_ranks_keep_the_order(gaps: np.ndarray, seed: int, max_cells: int) -> None:
    """Of gaps in different cells; and each cell's ranks lie in the cell's own share of (0, 1)."""
    distribution = gap_distribution([gaps], max_cells=max_cells)
    ranks = distribution.uniform_ranks(gaps, np.random.default_rng(seed))
    assert ((ranks > 0) & (ranks < 1)).all()
    middle = distribution.middle_ranks(gaps)
    order = np.argsort(middle, kind="stable")
    assert (np.diff(middle[order]) >= 0).all()
    apart = np.diff(middle[order]) > 0
    assert (np.diff(ranks[order])[apart] > 0).all()
    for cell in np.unique(middle):
        mine = middle == cell
        width = mine.sum() / gaps.size
        assert (np.abs(ranks[mine] - cell) <= width / 2 + 1e-12).all()


def test_middle_ranks_are_scipys_average_ranks() -> None:
    gaps = np.random.default_rng(2).integers(0, 12, 300) / 8
    found = gap_distribution([gaps]).middle_ranks(gaps)
    np.testing.assert_allclose(found, (stats.rankdata(gaps) - 0.5) / gaps.size, rtol=1e-12)


@pytest.mark.parametrize("step", [0.0, 0.125, 2.0])
def test_uniform_ranks_are_uniform_whatever_the_ties(step: float) -> None:
    """A lattice of 2 logits puts more than half of the positions on one gap."""
    gaps = np.random.default_rng(3).exponential(1.5, 20_000)
    gaps = np.round(gaps / step) * step if step else gaps
    distribution = gap_distribution([gaps])
    found = distribution.uniform_ranks(gaps, np.random.default_rng(4))
    assert stats.kstest(found, "uniform").pvalue > 0.001
    scores = stats.norm.ppf(found)
    assert scores.mean() == pytest.approx(0, abs=0.03)
    assert scores.std() == pytest.approx(1, abs=0.03)


def test_ties_are_broken_independently_between_models() -> None:
    """By row order both models would agree: the same tied gaps must have unrelated ranks and unrelated phases."""
    gaps = np.full(10_000, 3.0)
    distribution = gap_distribution([gaps])
    first, second = (distribution.uniform_ranks(gaps, np.random.default_rng([0, model])) for model in (0, 1))
    assert abs(stats.spearmanr(first, second).statistic) < 4 / np.sqrt(gaps.size)
    assert abs(stats.spearmanr(first, np.arange(gaps.size)).statistic) < 4 / np.sqrt(gaps.size)
    z = 10_000 * abs(np.exp(2j * np.pi * (first - second)).mean()) ** 2
    assert np.exp(-z) > 0.001


def test_seeds() -> None:
    gaps = np.repeat([0.5, 2.0], 30)
    distribution = gap_distribution([gaps])
    same, again, other = (distribution.uniform_ranks(gaps, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert (same != other).all()


@FEW
@given(GAPS, GAPS)
def test_pooled_is_the_distribution_of_all(first: np.ndarray, second: np.ndarray) -> None:
    found = pooled([gap_distribution([first]), gap_distribution([second])])
    assert _equal(found, gap_distribution([np.concatenate([first, second])]))


@pytest.mark.parametrize("cells", [(50, 2**21), (2**21, 50), (30, 200)])
def test_pooled_has_the_coarser_cells(cells: tuple[int, int]) -> None:
    """A distribution of the coarser model's cells and the finer one's would know no gap of either."""
    gaps = np.random.default_rng(5).gamma(1, 2, (2, 500))
    parts = [gap_distribution([row], max_cells=n) for row, n in zip(gaps, cells, strict=True)]
    found = pooled(parts)
    assert found.dropped_bits == max(part.dropped_bits for part in parts)
    assert (np.diff(found.values) > 0).all() and found.n == 1000
    assert stats.kstest(found.uniform_ranks(gaps.ravel(), np.random.default_rng(6)), "uniform").pvalue > 0.001


@FEW
@given(GAPS, GAPS)
def test_default_scale_is_the_pooled_median(first: np.ndarray, second: np.ndarray) -> None:
    """numpy's, with ties as well; where that is 0 it is refused."""
    distributions = [gap_distribution([first]), gap_distribution([second])]
    expected = float(np.median(np.concatenate([first, second])))
    if expected > 0:
        assert default_scale(distributions) == pytest.approx(expected, rel=1e-12)
        return
    message = "^half of the gaps are 0: the pooled median cannot be the scale$"
    with pytest.raises(UndefinedStatisticError, match=message):
        default_scale(distributions)


@pytest.mark.parametrize("zeros", [3, 6, 10])
def test_a_scale_of_zero_is_refused_by_name(zeros: int) -> None:
    gaps = np.concatenate([np.zeros(zeros), [1.0, 4.0]])
    with pytest.raises(UndefinedStatisticError) as caught:
        default_scale([gap_distribution([gaps])])
    assert caught.value.reason == "ties at zero"


def test_scale_of_a_map() -> None:
    distributions = [gap_distribution([np.array([1.0, 2.0, 9.0])])]
    assert scale_of("arctan", None, distributions) == 2.0
    assert scale_of("arctan", 0.7, distributions) == 0.7
    assert scale_of("quantile", None, distributions) is scale_of("table", 3.0, distributions) is None
    # No scale is worked out where none is needed.
    assert scale_of("quantile", None, [gap_distribution([np.zeros(4)])]) is None


@pytest.mark.parametrize("gaps", [[1.0, -0.5], [np.nan], [2.0, np.inf]])
def test_gaps_that_cannot_be_are_refused(gaps: list[float]) -> None:
    with pytest.raises(ValueError, match="^gaps must be finite and not negative$"):
        gap_distribution([np.ones(3), np.array(gaps)])


@pytest.mark.parametrize("chunks", [[], [np.empty(0)]])
def test_no_positions_have_no_distribution(chunks: list[np.ndarray]) -> None:
    with pytest.raises(UndefinedStatisticError) as caught:
        gap_distribution(chunks)
    assert caught.value.reason == "no positions"
