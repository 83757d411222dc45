import math

import numpy as np
import pytest
from scipy import stats

from brf_exp.maths.coherence import (
    CoherenceResult,
    Repairings,
    coherence,
    rejects_at,
    repairing_null,
    share_lower_ends,
    shift_null,
    shift_null_monte_carlo,
)
from brf_exp.maths.pairing import Pairing, derangements, length_blocks, pair_table, pairing_at, true_pairing
from brf_exp.maths.phases import Phasors
from brf_exp.maths.resampling import ratio_test
from brf_exp.maths.undefined import UndefinedStatisticError


def _world(seed: int, *, correlation: float, n_documents: int = 24, length: int = 80) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    first, noise = rng.standard_normal((2, n_documents * length))
    second = correlation * first + np.sqrt(1 - correlation**2) * noise
    z = [np.exp(2j * np.arctan(np.exp(0.9 * x))) for x in (first, second)]
    return z[0], z[1], np.arange(0, n_documents * length + 1, length)


def _run(world: tuple[np.ndarray, ...], seed: int = 0, n_repairings: int = 199) -> tuple[CoherenceResult, Repairings]:
    return coherence(
        *world, n_repairings=n_repairings, confidence_level=0.95, n_resamples=199, rng=np.random.default_rng(seed)
    )


def test_a_planted_relation_is_found_and_none_is_not() -> None:
    planted, _ = _run(_world(1, correlation=0.4))
    assert planted.excess > 0.05 and planted.interval[0] > 0
    assert planted.pvalue == 1 / 200 or planted.pvalue < 0.005
    opposite, _ = _run(_world(1, correlation=-0.4))
    assert opposite.interval[1] < 0 and opposite.pvalue < 0.01
    nothing, _ = _run(_world(1, correlation=0.0))
    assert nothing.interval[0] < 0 < nothing.interval[1]
    assert nothing.pvalue > 0.05


def test_the_result_is_what_its_parts_say() -> None:
    z1, z2, offsets = world = _world(2, correlation=0.2)
    found, repairings = _run(world)
    raw = [
        (z1[a:b] - z1[a:b].mean()) @ np.conj(z2[a:b] - z2[a:b].mean())
        for a, b in zip(offsets[:-1], offsets[1:], strict=True)
    ]
    assert found.excess_raw == pytest.approx(np.sum(raw).real / z1.size)
    draws = np.array([pairing_at(repairings.table, row).kappa for row in repairings.columns])
    np.testing.assert_allclose(found.repairing.draws, draws, atol=1e-12)
    # 24 documents in three blocks of 8: the draws' deviations are scaled up by sqrt(8 / 6).
    as_far = sum(np.sqrt(8 / 6) * abs(k - draws.mean()) >= abs(found.excess_raw - draws.mean()) for k in draws)
    assert found.repairing.pvalue == (1 + as_far) / (draws.size + 1)
    assert found.pairing.mean == pytest.approx((z1 * np.conj(z2)).mean())
    assert found.possible == pytest.approx(1 - abs(z1.mean()) * abs(z2.mean()))
    assert found.resultant_length_independent == pytest.approx(abs(z1.mean()) * abs(z2.mean()))
    test = ratio_test(
        np.array(raw).real,
        np.diff(offsets),
        null_value=draws.mean(),
        # Blocks of 8: the mean of the wrong pairs varies by a seventh of what one pairing does.
        null_variance=draws.var() * (8 / 6) / 7,
        confidence_level=0.95,
        n_resamples=9,
        rng=np.random.default_rng(0),
    )
    assert found.test.pvalue == pytest.approx(test.pvalue)
    assert found.interval == pytest.approx((test.interval[0] - draws.mean(), test.interval[1] - draws.mean()))
    assert found.shift == shift_null(true_pairing(z1, z2, offsets))
    assert found.shift.log_pvalue == pytest.approx(-found.shift.statistic / 2)


def test_effective_n_is_the_number_of_positions_for_independent_ones() -> None:
    found, _ = _run(_world(3, correlation=0.0, n_documents=150, length=40), n_repairings=9)
    assert found.effective_n == pytest.approx(6000, rel=0.3)


def test_null_kind_is_the_larger_p() -> None:
    found, _ = _run(_world(4, correlation=0.0))
    kinds = {"shift": found.shift.pvalue, "repairing": found.repairing.pvalue}
    assert found.null_kind == max(kinds, key=lambda kind: kinds[kind])
    assert found.pvalue == max(kinds.values())


def test_shared_positions_fool_the_shift_null_and_not_the_repairing() -> None:
    """Every model finds the start of a text hard: re-pairing keeps that, so the re-centred excess is about 0."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(2, -2, 40)
    x = rng.standard_normal((2, 40, 40)) * 0.7 + ramp
    z = np.exp(2j * np.arctan(np.exp(x.reshape(2, -1))))
    found, repairings = _run((z[0], z[1], np.arange(0, 1601, 40)))
    assert found.excess_raw > 0.1 and found.shift.pvalue < 1e-6
    assert abs(found.excess) < 0.02 and found.repairing.pvalue > 0.05
    assert found.null_kind == "repairing"
    assert rejects_at(repairings, repairings.columns[:50], found.repairing, alpha=0.05).mean() < 0.2


def test_rejects_at_is_the_decision_draw_by_draw() -> None:
    """At every level, so that each draw's own place among the draws decides at one of them."""
    found, repairings = _run(_world(6, correlation=0.0, n_documents=16, length=30), n_repairings=99)
    pairings = [pairing_at(repairings.table, row) for row in repairings.columns]
    shifts = np.array([shift_null(pairing).pvalue for pairing in pairings])
    kappas = np.array([pairing.kappa for pairing in pairings])
    mean, n = found.repairing.draws.mean(), found.repairing.n
    as_far = np.array([(abs(found.repairing.draws - mean) >= abs(k - mean) - 1e-15).sum() for k in kappas])
    for alpha in (np.arange(2, 60) - 0.5) / (n + 1):
        decided = rejects_at(repairings, repairings.columns, found.repairing, alpha=alpha)
        expected = (kappas > mean) & ((1 + as_far) / (n + 1) < alpha) & (shifts < alpha)
        np.testing.assert_array_equal(decided, expected)
    assert decided.any() and not decided.all()


def test_share_lower_ends_are_those_of_the_ratio_test() -> None:
    found, repairings = _run(_world(7, correlation=0.1))
    columns = repairings.columns[:5]
    ends = share_lower_ends(repairings, columns, repairing=found.repairing, possible=0.6, confidence_level=0.9)
    for row, end in zip(columns, ends, strict=True):
        pairing = pairing_at(repairings.table, row)
        test = ratio_test(
            pairing.excess.real,
            pairing.lengths,
            null_variance=found.repairing.mean_variance(),
            confidence_level=0.9,
            n_resamples=9,
            rng=np.random.default_rng(0),
        )
        assert end == pytest.approx((test.interval[0] - found.repairing.mean) / 0.6)


def test_the_recentred_excess_varies_as_its_standard_error_says() -> None:
    """Over many independent pairs: kappa less the mean of the wrong pairs, made of the same documents."""
    found = [_run(_world(seed, correlation=0.0, n_documents=16, length=12), seed=seed)[0] for seed in range(600)]
    stated = np.mean([one.test.standard_error**2 for one in found])
    assert np.var([one.excess for one in found]) == pytest.approx(stated, rel=0.15)
    # kappa alone varies less, by the seventh that the mean of the wrong pairs adds in blocks of 8.
    extra = np.mean([one.repairing.mean_variance() for one in found])
    assert np.var([one.excess_raw for one in found]) == pytest.approx(stated - extra, rel=0.15)
    assert extra == pytest.approx((stated - extra) / 7, rel=0.15)


def test_seed() -> None:
    world = _world(8, correlation=0.1)
    first, again, other = (_run(world, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.repairing.draws, again.repairing.draws)
    assert (first.repairing.draws != other.repairing.draws).any()
    assert first.excess_raw == other.excess_raw
    blocks = pair_table(*world).blocks
    drawn = [derangements(blocks, 5, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    unrelated = _world(20, correlation=0.0)
    one, two, three = (shift_null_monte_carlo(*unrelated, n=500, rng=np.random.default_rng(s)) for s in (3, 3, 4))
    assert one == two != three


def test_ragged_documents_are_tested_by_bootstrap() -> None:
    rng = np.random.default_rng(9)
    lengths = np.concatenate([rng.integers(5, 30, 20), [300, 250]])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    z = np.exp(1j * rng.gamma(2, 0.6, size=(2, offsets[-1])))
    assert _run((z[0], z[1], offsets))[0].test.method == "bootstrap_t"


@pytest.mark.parametrize("phase", [0.0, 1.3])
def test_constant_phases_are_refused(phase: float) -> None:
    z = np.full(200, np.exp(1j * phase))
    varying = _world(11, correlation=0.0, n_documents=20, length=10)[0]
    for first, second in ((z, z), (z, varying), (varying, z)):
        with pytest.raises(UndefinedStatisticError) as caught:
            _run((first, second, np.arange(0, 201, 10)))
        assert caught.value.reason == "constant phases"


def test_phases_that_are_constant_within_documents_are_refused() -> None:
    z = np.exp(1j * np.repeat(np.arange(20.0), 10))
    with pytest.raises(
        UndefinedStatisticError, match="^the phases do not vary within documents: the shift null is not defined$"
    ):
        shift_null(true_pairing(z, z, np.arange(0, 201, 10)))


def test_documents_of_one_token_are_refused() -> None:
    z1, z2, _ = _world(12, correlation=0.3)
    with pytest.raises(UndefinedStatisticError) as caught:
        _run((z1[:30], z2[:30], np.arange(31)))
    assert caught.value.reason == "constant phases"


def test_one_document_is_refused() -> None:
    with pytest.raises(UndefinedStatisticError, match="^at least 2 documents are needed, got 1$") as caught:
        _run(_world(10, correlation=0.3, n_documents=1))
    assert caught.value.reason == "documents"


def test_the_shift_null_is_defined_for_one_document() -> None:
    z1, z2, offsets = _world(10, correlation=0.6, n_documents=1, length=400)
    assert shift_null(true_pairing(z1, z2, offsets)).pvalue < 1e-6


def _two_phases(rng: np.random.Generator, agreement: float, n_documents: int = 12, length: int = 60) -> tuple:
    """Two models with two distinct phases each, equal but for what `agreement` leaves to chance."""
    state = rng.random((3, n_documents * length))
    first = state[0] < 0.4
    second = np.where(state[2] < agreement, first, state[1] < 0.4)
    z = [np.exp(1j * np.where(row, 0.3, 2.1 + model)) for model, row in enumerate((first, second))]
    return z[0], z[1], np.arange(0, n_documents * length + 1, length)


def test_two_distinct_phases_leave_one_degree_of_freedom() -> None:
    """All sums lie on a line through 0: q is a squared normal, and p its chi-squared(1) tail."""
    z1, z2, offsets = _two_phases(np.random.default_rng(13), 0.1)
    pairing = true_pairing(z1, z2, offsets)
    found = shift_null(pairing)
    assert found.df == 1
    total, variance = pairing.excess.sum(), pairing.shift_covariance[:, :2].sum()
    assert found.statistic == pytest.approx(abs(total) ** 2 / variance, rel=1e-4)
    assert found.pvalue == pytest.approx(stats.chi2.sf(found.statistic, 1))
    assert found.log_pvalue == pytest.approx(stats.chi2.logsf(found.statistic, 1))
    # Three phases span the plane.
    z1[::7] = 1j
    assert shift_null(true_pairing(z1, z2, offsets)).df == 2


def test_size_and_power_with_two_distinct_phases() -> None:
    rng = np.random.default_rng(14)
    pvalues = {
        agreement: np.array([shift_null(true_pairing(*_two_phases(rng, agreement))).pvalue for _ in range(n)])
        for agreement, n in ((0.0, 300), (0.2, 60))
    }
    assert stats.kstest(pvalues[0.0], "uniform").pvalue > 0.001
    # 99.9 % of binomial(300, .05) lies between these.
    assert 0.013 <= (pvalues[0.0] < 0.05).mean() <= 0.097
    assert (pvalues[0.2] < 0.05).mean() > 0.95


@pytest.mark.parametrize(("q", "df"), [(1.7, 2), (3000.0, 2), (1e6, 2), (1.7, 1), (3000.0, 1), (1e6, 1)])
def test_the_logarithm_is_exact_where_p_underflows(q: float, df: int) -> None:
    """A pairing made to have this statistic; Mills' ratio gives the tail of one degree of freedom."""
    covariance = np.array([[1.0, 1.0, 0.0]]) if df == 2 else np.array([[1.0, 0.0, 0.0]])
    found = shift_null(Pairing(np.array([100]), np.array([np.sqrt(q) + 0j]), covariance))
    assert (found.df, found.statistic) == (df, pytest.approx(q))
    exact = -q / 2
    if df == 1:
        x = np.sqrt(q)
        exact = np.log(stats.chi2.sf(q, 1)) if q < 10 else exact + np.log(2 / (x * np.sqrt(2 * np.pi)) * (1 - 1 / q))
    assert found.log_pvalue == pytest.approx(exact, rel=1e-6)
    assert found.pvalue == pytest.approx(np.exp(exact), rel=1e-6)
    assert (found.pvalue == 0.0) == (q >= 3000)


def test_phasors_can_be_given_instead_of_arrays() -> None:
    gaps = np.random.default_rng(15).gamma(1, 2, (2, 24 * 30))
    offsets = np.arange(0, 721, 30)
    lazy = [Phasors("arctan", row, 1.5) for row in gaps]
    assert _run((*lazy, offsets))[0].excess == pytest.approx(_run((lazy[0][:], lazy[1][:], offsets))[0].excess)


def test_shift_moments_of_repaired_documents_can_be_left_out() -> None:
    world = _world(16, correlation=0.2)
    found, repairings = coherence(
        *world,
        n_repairings=199,
        confidence_level=0.95,
        n_resamples=199,
        rng=np.random.default_rng(0),
        shift_moments=False,
    )
    assert repairings.table.shift_covariance is None
    assert found.repairing.pvalue == _run(world)[0].repairing.pvalue


def _repairing_pvalue(rng: np.random.Generator, n_documents: int, correlation: float = 0.0) -> float:
    world = _world(int(rng.integers(2**32)), correlation=correlation, n_documents=n_documents, length=20)
    table = pair_table(*world, shift_moments=False)
    columns = derangements(table.blocks, 199, rng)
    return repairing_null(table, columns, kappa=true_pairing(*world).kappa).pvalue


@pytest.mark.parametrize("n_documents", [2, 3, 4, 5])
def test_too_few_documents_have_no_repairing_reference(n_documents: int) -> None:
    """(n - 1)! derangements: a rank among 1, 2, 6 or 24 is no p-value."""
    assert _repairing_pvalue(np.random.default_rng(17), n_documents, correlation=0.9) == 1.0
    table = pair_table(*_world(17, correlation=0.0, n_documents=n_documents))
    columns = derangements(table.blocks, 999, np.random.default_rng(0))
    assert len({tuple(row) for row in columns}) == math.factorial(n_documents - 1)


@pytest.mark.parametrize("n_documents", [6, 8, 15, 16])
def test_size_and_power_of_repairing_with_few_documents(n_documents: int) -> None:
    rng = np.random.default_rng(n_documents)
    pvalues = np.array([_repairing_pvalue(rng, n_documents) for _ in range(300)])
    assert 0.013 <= (pvalues < 0.05).mean() <= 0.097
    related = np.array([_repairing_pvalue(rng, n_documents, 0.9) for _ in range(40)])
    assert (related < 0.05).mean() > 0.9


@pytest.mark.parametrize("n_documents", [1, 2, 5, 8, 15, 16, 17, 100])
def test_blocks_hold_neighbours_in_length(n_documents: int) -> None:
    lengths = np.random.default_rng(n_documents).integers(1, 50, n_documents)
    blocks = length_blocks(lengths)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(n_documents))
    assert all(block.size >= min(8, n_documents) for block in blocks)
    for shorter, longer in zip(blocks[:-1], blocks[1:], strict=True):
        assert lengths[shorter].max() <= lengths[longer].min()
