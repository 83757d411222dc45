import numpy as np
import pytest
from scipy import stats

from brf_exp.maths import worlds
from brf_exp.maths.distribution import gap_distribution
from brf_exp.maths.documents import autocorrelation
from brf_exp.maths.phases import phases
from brf_exp.maths.rules import fuse
from brf_exp.maths.worlds import GapWorld, TokenWorld, WorldShape, gap_world, token_world, world_shape

N = worlds.N_DOCUMENTS * worlds.N_POSITIONS


@pytest.fixture(scope="module")
def shape() -> WorldShape:
    rng = np.random.default_rng(1)
    return world_shape([gap_distribution([rng.gamma(k, s, 20_000)]) for k, s in ((1.2, 1.5), (1.0, 2.5))], 0.4)


@pytest.fixture(scope="module")
def planted(shape: WorldShape) -> TokenWorld:
    return token_world(shape, planted=True, least_gain_nats=0.02, rng=np.random.default_rng(2))


@pytest.fixture(scope="module")
def twin(shape: WorldShape) -> TokenWorld:
    return token_world(shape, planted=False, least_gain_nats=0.02, rng=np.random.default_rng(2))


def _world(shape: WorldShape, planted: bool, seed: int = 3) -> GapWorld:
    return gap_world(shape, planted=planted, rng=np.random.default_rng(seed))


def _scores(row: np.ndarray) -> np.ndarray:
    return stats.norm.ppf(gap_distribution([row]).uniform_ranks(row, np.random.default_rng(0)))


def test_shape_is_the_pairs_quantiles() -> None:
    # Gaps in the middles of equal steps: their quantiles are the probabilities themselves.
    middles = (np.arange(5000) + 0.5) / 5000
    gaps = np.stack([middles, 2 + 2 * middles])
    distributions = [gap_distribution([row]) for row in gaps]
    shape = world_shape(distributions, 1.5)
    np.testing.assert_allclose(shape.gap_quantiles, [worlds.QUANTILES, 2 + 2 * worlds.QUANTILES], atol=1e-9)
    assert shape.autocorrelation == 0.9
    assert world_shape(distributions, -0.3).autocorrelation == 0.0
    assert shape.scale == pytest.approx(np.median(gaps), abs=0.01)


@pytest.mark.parametrize("planted", [True, False])
def test_gap_world_has_the_pairs_marginals_and_autocorrelation(shape: WorldShape, planted: bool) -> None:
    world = _world(shape, planted)
    assert world.gaps.shape == (2, N) and world.offsets.size == 201 and world.offsets[-1] == N
    levels = np.linspace(0.05, 0.95, 19)
    for row, quantiles in zip(world.gaps, shape.gap_quantiles, strict=True):
        expected = np.interp(levels, worlds.QUANTILES, quantiles)
        np.testing.assert_allclose(np.quantile(row, levels), expected, rtol=0.08)
        assert autocorrelation([(_scores(row), world.offsets)]) == pytest.approx(0.4, abs=0.03)


def test_gap_world_shares_difficulty_and_the_planted_one_more(shape: WorldShape) -> None:
    for planted, beyond in ((True, worlds.PLANTED_CORRELATION), (False, 0.0)):
        world = _world(shape, planted)
        u = np.stack([_scores(row) for row in world.gaps])
        shared = worlds.SHARED_DIFFICULTY
        for row in u:
            assert np.corrcoef(row, world.difficulty)[0, 1] ** 2 == pytest.approx(shared, abs=0.03)
        residual = u - np.sqrt(shared) * world.difficulty
        assert np.corrcoef(residual)[0, 1] == pytest.approx(beyond, abs=0.03)
        assert np.corrcoef(u)[0, 1] == pytest.approx(shared + (1 - shared) * beyond, abs=0.03)


def test_documents_are_independent(shape: WorldShape) -> None:
    difficulty = _world(shape, True).difficulty
    last, first = difficulty[199:-1:200], difficulty[200::200]
    assert abs(np.corrcoef(last, first)[0, 1]) < 0.25
    assert first.std() == pytest.approx(1, abs=0.15)


def test_token_world_is_made_of_distributions(planted: TokenWorld) -> None:
    np.testing.assert_allclose(np.exp(planted.log_p).sum(axis=2), 1, rtol=1e-12)
    assert planted.targets.min() >= 0 and planted.targets.max() < planted.log_p.shape[2]
    top = np.sort(planted.log_p, axis=2)[:, :, -2:]
    gaps = top[:, :, 1] - top[:, :, 0]
    # The gaps of the distributions are those of the phases, in a unit of their own.
    for mine, phased in zip(gaps, planted.gaps, strict=True):
        assert (mine > 0).all()
        np.testing.assert_allclose(phased / mine, (phased / mine)[0], rtol=1e-6)


def test_the_planted_gain_is_reached_and_measured_right(planted: TokenWorld, shape: WorldShape) -> None:
    assert planted.expected_gain_nats >= 0.02
    phi = np.stack([phases("arctan", row, scale=shape.scale) for row in planted.gaps])
    rows = np.arange(N)
    born = fuse("brf", planted.log_p, phases_rad=phi).p[rows, planted.targets]
    constants = [
        -np.log(fuse("constant_coherence", planted.log_p, coherence=c).p[rows, planted.targets])
        for c in np.linspace(-0.8, 1, 19)
    ]
    best = min(constants, key=lambda losses: losses.mean())
    gains = best + np.log(born)
    assert gains.mean() == pytest.approx(planted.expected_gain_nats, abs=4 * gains.std() / np.sqrt(N))
    linear = -np.log(fuse("linear", planted.log_p).p[rows, planted.targets])
    assert (linear + np.log(born)).mean() > planted.expected_gain_nats


def test_the_planted_truth_is_born(planted: TokenWorld, shape: WorldShape) -> None:
    """Randomised ranks of the realised tokens are uniform under Born Rule Fusion, and not under the linear pool."""
    phi = np.stack([phases("arctan", row, scale=shape.scale) for row in planted.gaps])
    level = np.random.default_rng(5).random(N)

    def ranks(p: np.ndarray) -> np.ndarray:
        mine = np.take_along_axis(p, planted.targets[:, None], 1)[:, 0]
        return (np.where(p > mine[:, None], p, 0)).sum(axis=1) + level * mine

    assert stats.kstest(ranks(fuse("brf", planted.log_p, phases_rad=phi).p), "uniform").pvalue > 0.001
    assert stats.kstest(ranks(fuse("linear", planted.log_p).p), "uniform").pvalue < 1e-6


def test_the_twin_has_nothing_to_gain(twin: TokenWorld, planted: TokenWorld, shape: WorldShape) -> None:
    assert twin.expected_gain_nats == 0.0
    np.testing.assert_array_equal(twin.gaps, planted.gaps)
    phi = np.stack([phases("arctan", row, scale=shape.scale) for row in twin.gaps])
    rows = np.arange(N)
    losses = [
        -np.log(p[rows, twin.targets]).mean()
        for p in (fuse("linear", twin.log_p).p, fuse("brf", twin.log_p, phases_rad=phi).p)
    ]
    assert losses[0] < losses[1] - 0.01


def test_gaps_are_spread_only_as_far_as_needed(shape: WorldShape) -> None:
    easy, hard = (
        token_world(shape, planted=True, least_gain_nats=least, rng=np.random.default_rng(2)) for least in (1e-4, 0.06)
    )
    assert easy.spread_exponent == 1.0 < hard.spread_exponent
    assert hard.expected_gain_nats >= 0.06 > easy.expected_gain_nats


def test_a_gain_that_cannot_be_planted_is_refused(shape: WorldShape) -> None:
    with pytest.raises(ValueError, match=r"^no planted world gains 5 nats; the most was 0\.\d{4}$"):
        token_world(shape, planted=True, least_gain_nats=5, rng=np.random.default_rng(2))


def test_seeds(shape: WorldShape, planted: TokenWorld) -> None:
    np.testing.assert_array_equal(_world(shape, True, 4).gaps, _world(shape, True, 4).gaps)
    assert (_world(shape, True, 4).gaps != _world(shape, True, 5).gaps).any()
    again, other = (
        token_world(shape, planted=True, least_gain_nats=0.02, rng=np.random.default_rng(seed)) for seed in (2, 9)
    )
    np.testing.assert_array_equal(again.targets, planted.targets)
    assert (other.targets != planted.targets).any()
