import numpy as np
import pytest

from brf_exp.maths.coherence import coherence, rejects_at, share_lower_ends, shift_null, shift_null_monte_carlo
from brf_exp.maths.pairing import derangements, length_blocks, pair_table, pairing_at, true_pairing
from brf_exp.maths.resampling import ratio_test


def _world(seed: int, *, correlation: float, n_documents: int = 24, length: int = 80) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    first, noise = rng.standard_normal((2, n_documents * length))
    second = correlation * first + np.sqrt(1 - correlation**2) * noise
    z = [np.exp(2j * np.arctan(np.exp(0.9 * x))) for x in (first, second)]
    return z[0], z[1], np.arange(0, n_documents * length + 1, length)


def _run(world: tuple[np.ndarray, ...], seed: int = 0, n_repairings: int = 199) -> tuple:
    return coherence(
        *world, n_repairings=n_repairings, confidence_level=0.95, n_resamples=199, rng=np.random.default_rng(seed)
    )


def test_a_planted_relation_is_found_and_none_is_not() -> None:
    planted, _, _ = _run(_world(1, correlation=0.4))
    assert planted.excess > 0.05 and planted.interval[0] > 0
    assert planted.pvalue == 1 / 200 or planted.pvalue < 0.005
    opposite, _, _ = _run(_world(1, correlation=-0.4))
    assert opposite.interval[1] < 0 and opposite.pvalue < 0.01
    nothing, _, _ = _run(_world(1, correlation=0.0))
    assert nothing.interval[0] < 0 < nothing.interval[1]
    assert nothing.pvalue > 0.05


def test_the_result_is_what_its_parts_say() -> None:
    z1, z2, offsets = world = _world(2, correlation=0.2)
    found, table, columns = _run(world)
    raw = [
        (z1[a:b] - z1[a:b].mean()) @ np.conj(z2[a:b] - z2[a:b].mean())
        for a, b in zip(offsets[:-1], offsets[1:], strict=True)
    ]
    assert found.excess_raw == pytest.approx(np.sum(raw).real / z1.size)
    draws = np.array([pairing_at(table, row).kappa for row in columns])
    np.testing.assert_allclose(found.repairing.draws, draws, atol=1e-12)
    as_far = sum(abs(k - draws.mean()) >= abs(found.excess_raw - draws.mean()) for k in draws)
    assert found.repairing.pvalue == (1 + as_far) / (draws.size + 1)
    assert found.resultant_length_independent == pytest.approx(abs(z1.mean()) * abs(z2.mean()))
    test = ratio_test(
        np.array(raw).real,
        np.diff(offsets),
        null_value=draws.mean(),
        confidence_level=0.95,
        n_resamples=9,
        rng=np.random.default_rng(0),
    )
    assert found.test.pvalue == pytest.approx(test.pvalue)
    assert found.interval == pytest.approx((test.interval[0] - draws.mean(), test.interval[1] - draws.mean()))
    assert found.shift == shift_null(true_pairing(table))


def test_effective_n_is_the_number_of_positions_for_independent_ones() -> None:
    found, _, _ = _run(_world(3, correlation=0.0, n_documents=150, length=40), n_repairings=9)
    assert found.effective_n == pytest.approx(6000, rel=0.3)


def test_null_kind_is_the_larger_p() -> None:
    found, _, _ = _run(_world(4, correlation=0.0))
    kinds = {"shift": found.shift.pvalue, "repairing": found.repairing.pvalue}
    assert found.null_kind == max(kinds, key=lambda kind: kinds[kind])
    assert found.pvalue == max(kinds.values())


def test_shared_positions_fool_the_shift_null_and_not_the_repairing() -> None:
    """Every model finds the start of a text hard: re-pairing keeps that, so the re-centred excess is about 0."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(2, -2, 40)
    x = rng.standard_normal((2, 40, 40)) * 0.7 + ramp
    z = np.exp(2j * np.arctan(np.exp(x.reshape(2, -1))))
    found, table, columns = _run((z[0], z[1], np.arange(0, 1601, 40)))
    assert found.excess_raw > 0.1 and found.shift.pvalue < 1e-6
    assert abs(found.excess) < 0.02 and found.repairing.pvalue > 0.05
    assert found.null_kind == "repairing"
    assert rejects_at(table, columns[:50], found.repairing, alpha=0.05).mean() < 0.2


def test_rejects_at_is_the_decision_draw_by_draw() -> None:
    found, table, columns = _run(_world(6, correlation=0.0, n_documents=16, length=30))
    decided = rejects_at(table, columns, found.repairing, alpha=0.3)
    mean = found.repairing.draws.mean()
    for row, answer in zip(columns, decided, strict=True):
        pairing = pairing_at(table, row)
        as_far = (abs(found.repairing.draws - mean) >= abs(pairing.kappa - mean) - 1e-15).sum()
        expected = (
            pairing.kappa > mean and (1 + as_far) / (found.repairing.n + 1) < 0.3 and shift_null(pairing).pvalue < 0.3
        )
        assert answer == expected
    assert decided.any() and not decided.all()


def test_share_lower_ends_are_those_of_the_ratio_test() -> None:
    found, table, columns = _run(_world(7, correlation=0.1))
    ends = share_lower_ends(table, columns[:5], repairing_mean=found.repairing.mean, possible=0.6, confidence_level=0.9)
    for row, end in zip(columns[:5], ends, strict=True):
        pairing = pairing_at(table, row)
        test = ratio_test(
            pairing.excess.real, pairing.lengths, confidence_level=0.9, n_resamples=9, rng=np.random.default_rng(0)
        )
        assert end == pytest.approx((test.interval[0] - found.repairing.mean) / 0.6)


def test_seed() -> None:
    world = _world(8, correlation=0.1)
    first, again, other = (_run(world, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.repairing.draws, again.repairing.draws)
    assert (first.repairing.draws != other.repairing.draws).any()
    assert first.excess_raw == other.excess_raw
    z1, z2, offsets = world
    table = pair_table(z1, z2, offsets)
    np.testing.assert_array_equal(*(derangements(table, 5, np.random.default_rng(3)) for _ in range(2)))
    one, two = (shift_null_monte_carlo(*world, n=50, rng=np.random.default_rng(3)) for _ in range(2))
    assert one == two


def test_ragged_documents_are_tested_by_bootstrap() -> None:
    rng = np.random.default_rng(9)
    lengths = np.concatenate([rng.integers(5, 30, 20), [300, 250]])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    z = np.exp(1j * rng.gamma(2, 0.6, size=(2, offsets[-1])))
    assert _run((z[0], z[1], offsets))[0].test.method == "bootstrap_t"


@pytest.mark.parametrize("phase", [0.0, 1.3])
def test_constant_phases_are_refused(phase: float) -> None:
    z = np.full(200, np.exp(1j * phase))
    with pytest.raises(ValueError, match="standard error is 0|phases do not vary within documents"):
        _run((z, z, np.arange(0, 201, 10)))


def test_shift_null_of_constant_phases_is_refused() -> None:
    z = np.exp(1j * np.repeat(np.arange(20.0), 10))  # constant within each document
    with pytest.raises(ValueError, match="^the phases do not vary within documents: the shift null is not defined$"):
        shift_null(true_pairing(pair_table(z, z, np.arange(0, 201, 10))))


def test_one_document_is_refused() -> None:
    with pytest.raises(ValueError, match="^at least 2 documents are needed, got 1$"):
        _run(_world(10, correlation=0.3, n_documents=1))


@pytest.mark.parametrize("n_documents", [1, 2, 5, 8, 15, 16, 17, 100])
def test_blocks_hold_neighbours_in_length(n_documents: int) -> None:
    lengths = np.random.default_rng(n_documents).integers(1, 50, n_documents)
    blocks = length_blocks(lengths)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(n_documents))
    assert all(block.size >= min(8, n_documents) for block in blocks)
    for shorter, longer in zip(blocks[:-1], blocks[1:], strict=True):
        assert lengths[shorter].max() <= lengths[longer].min()
