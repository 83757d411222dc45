import numpy as np
import pytest

from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.phases import MAPS, PARAMETRIC_MAPS, PhaseTable, Phasors, circular_shift, phases

GAPS = np.array([0.0, 0.5, 1.0, 2.0, 7.0, 40.0])
TABLE = PhaseTable(np.array([0.5, 1.0, 3.0]), np.array([1.0, -1.0, 2.0]))


def _phases(name: str, gaps: np.ndarray = GAPS, scale: float | None = 2.0, **options: object) -> np.ndarray:
    return phases(name, gaps, scale=scale, **options)


@pytest.mark.parametrize(
    ("name", "at_scale"),
    [("arctan", np.pi / 2), ("linear", 0.0), ("tanh", np.pi * np.tanh(1)), ("exponential", np.pi * (1 - np.exp(-1)))],
)
def test_values_at_zero_and_at_the_scale(name: str, at_scale: float) -> None:
    found = _phases(name)
    assert found[0] == 0.0
    assert found[3] == pytest.approx(at_scale, abs=1e-12)


@pytest.mark.parametrize("name", ["arctan", "tanh", "exponential"])
def test_half_circle_maps_rise_to_pi(name: str) -> None:
    found = _phases(name, np.linspace(0, 30, 500))
    assert (np.diff(found[:200]) > 0).all()
    assert found.min() == 0 and found.max() <= np.pi
    assert found[-1] > 0.9 * np.pi


def test_linear_wraps() -> None:
    found = _phases("linear", np.array([0.5, 2.5, 3.0, 200.5]))
    np.testing.assert_allclose(found, [np.pi / 2, np.pi / 2, np.pi, np.pi / 2], atol=1e-9)
    assert (_phases("linear", np.random.default_rng(1).gamma(2, 3, 1000)) < 2 * np.pi).all()
    # s = 2 pi is the gap in radians.
    assert _phases("linear", np.array([1.234]), scale=2 * np.pi)[0] == pytest.approx(1.234)


def test_tanh_at_two_is_the_top_two_share() -> None:
    gap = np.array([1.3])
    share = np.exp(gap) / (1 + np.exp(gap))
    np.testing.assert_allclose(_phases("tanh", gap), np.pi * (2 * share - 1))


def test_quantile_is_the_ranks_once_round_the_circle() -> None:
    ranks = np.array([0.5, 0.01, 0.25, 0.99])
    np.testing.assert_allclose(_phases("quantile", GAPS[:4], ranks=ranks), 2 * np.pi * ranks)
    gaps = np.random.default_rng(2).gamma(1, 1, 100)
    middle = gap_distribution([gaps]).middle_ranks(gaps)
    found = _phases("quantile", gaps, scale=None, ranks=middle)
    np.testing.assert_allclose(np.sort(found), 2 * np.pi * (np.arange(100) + 0.5) / 100)
    assert (np.argsort(found) == np.argsort(gaps)).all()


def test_table_interpolates_and_is_constant_beyond_its_ends() -> None:
    found = _phases("table", np.array([0.0, 0.5, 0.75, 2.0, 9.0]), scale=None, table=TABLE)
    np.testing.assert_allclose(found, [1.0, 1.0, 0.0, 0.5, 2.0])


@pytest.mark.parametrize(
    ("gaps", "values", "message"),
    [
        ([1.0], [1.0], r"a phase table needs two or more \(gap, phase\) rows, got 1"),
        ([1.0, 2.0], [1.0], r"a phase table needs two or more \(gap, phase\) rows, got 2"),
        ([1.0, 1.0], [1.0, 2.0], "the gaps of a phase table must increase from row to row"),
        ([1.0, np.nan], [1.0, 2.0], "a phase table must hold finite numbers"),
        ([1.0, 2.0], [1.0, np.inf], "a phase table must hold finite numbers"),
    ],
)
def test_tables_that_cannot_be_used(gaps: list[float], values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        PhaseTable(np.array(gaps), np.array(values))


@pytest.mark.parametrize("scale", [None, 0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", list(PARAMETRIC_MAPS))
def test_scale_must_be_positive(name: str, scale: float | None) -> None:
    with pytest.raises(ValueError, match=f"^`scale` must be above 0, got {scale!r}$"):
        _phases(name, scale=scale)


def test_unknown_map_and_missing_table_or_ranks() -> None:
    with pytest.raises(
        ValueError, match="^`phase` must be one of arctan, exponential, linear, quantile, table, tanh, got 'sine'$"
    ):
        _phases("sine")
    with pytest.raises(ValueError, match="^phase map `table` needs a table$"):
        _phases("table")
    with pytest.raises(ValueError, match="^phase map `quantile` needs the gaps' ranks$"):
        _phases("quantile")


def _many_gaps() -> np.ndarray:
    """Gaps of every size, exact zeros and powers of two among them."""
    rng = np.random.default_rng(5)
    return np.concatenate([[0.0, 5e-324, 1e-300, 1e-9, 2.0, 1e9], np.exp(rng.uniform(-20, 20, 5000))])


@pytest.mark.parametrize("scale", [1e-3, 0.7, 1.0, 250.0])
@pytest.mark.parametrize("name", [*MAPS, "table"])
def test_phasors_are_the_exponentials_of_the_phases(name: str, scale: float) -> None:
    """Also the arctan map's, which are worked out without sine and cosine."""
    values = _many_gaps()
    if name == "quantile":
        values = gap_distribution([values]).uniform_ranks(values, np.random.default_rng(6))
    phi = phases(name, values, scale=scale, table=TABLE, ranks=values)
    found = Phasors(name, values, scale, TABLE)[:]
    assert found.dtype == np.complex128
    np.testing.assert_allclose(found, np.exp(1j * phi), rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.abs(found), 1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [*MAPS, "table"])
@pytest.mark.parametrize("rows", [slice(0, 0), slice(3, 4), slice(7, 40), slice(30, None), slice(None, None, 3)])
def test_phasors_are_sliced_like_arrays(name: str, rows: slice) -> None:
    phasors = Phasors(name, np.random.default_rng(7).uniform(0.01, 0.99, 50), 0.6, TABLE)
    np.testing.assert_array_equal(phasors[rows], phasors[:][rows])


@pytest.mark.parametrize("scale", [None, 0.0, -1.0])
@pytest.mark.parametrize("name", list(PARAMETRIC_MAPS))
def test_phasors_need_a_scale(name: str, scale: float | None) -> None:
    with pytest.raises(ValueError, match=f"^`scale` must be above 0, got {scale!r}$"):
        Phasors(name, GAPS, scale)[:]


def test_shifts_are_uniform_with_zero_and_every_shift_reached() -> None:
    offsets = np.arange(0, 4001, 4)
    shifted = circular_shift(np.tile(np.arange(4.0), 1000), offsets, np.random.default_rng(4))
    counts = np.bincount(shifted[::4].astype(int), minlength=4)
    assert counts.min() > 200 and counts.sum() == 1000


def test_seed() -> None:
    offsets = np.array([0, 20, 50])
    same, again, other = (circular_shift(np.arange(50.0), offsets, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()
