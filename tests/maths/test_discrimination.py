import numpy as np
import pytest

from brf_exp.maths.discrimination import Contrast, below_minimum, contrasts
from brf_exp.maths.documents import document_sums
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.resampling import minimum_detectable_effect, ratio_estimate
from brf_exp.maths.topk_bounds import difference_bounds
from brf_exp.maths.topk_rules import RuleLosses, coherent_losses, linear_losses, log_linear_losses, power_mean_losses


def _point(values: np.ndarray, width: float = 0.0) -> RuleLosses:
    return RuleLosses(np.stack([values - width, values + width]), None, np.zeros(values.size, dtype=bool))


def _contrasts(
    rows: FusionRows,
    candidate: RuleLosses,
    references: list[RuleLosses],
    rivals: list[bool] | None = None,
    seed: int = 0,
) -> list[Contrast]:
    ends = [document_sums(difference_bounds(candidate, losses).T, rows.offsets) for losses in references]
    return contrasts(
        [f"r{i}" for i in range(len(references))],
        np.stack(ends).transpose(2, 1, 0),
        np.diff(rows.offsets),
        rivals=rivals or [True] * len(references),
        confidence_level=0.95,
        n_resamples=999,
        rng=np.random.default_rng(seed),
    )


def test_sign_and_size(rows: FusionRows) -> None:
    """Candidate minus reference: a candidate that loses 0.1 less gives -0.1."""
    rng = np.random.default_rng(1)
    base = rng.gamma(2, 1, rows.offsets[-1])
    better = base - 0.1 + 0.05 * rng.standard_normal(base.size)
    (found,) = _contrasts(rows, _point(better), [_point(base)])
    assert found.difference_nats == pytest.approx((better - base).mean())
    assert found.truncation == (found.difference_nats, found.difference_nats)
    sums = document_sums((better - base)[:, None], rows.offsets)
    estimate = ratio_estimate(sums, np.diff(rows.offsets))
    assert found.standard_error == pytest.approx(estimate.standard_error[0])
    assert found.minimum_detectable_nats == pytest.approx(minimum_detectable_effect(found.standard_error, 19))
    assert found.interval[0] < found.lower_simultaneous < found.difference_nats
    assert found.difference_nats < found.upper_one_sided < found.interval[1]
    half = (found.interval[1] - found.interval[0]) / 2
    assert half == pytest.approx(2.09 * found.standard_error, rel=0.25)
    assert (found.upper_middle, found.lower_middle) == (found.upper_one_sided, found.lower_simultaneous)
    assert found.pvalue_adjusted == 1 / 1000


def test_swapping_candidate_and_reference_mirrors(rows: FusionRows) -> None:
    rng = np.random.default_rng(2)
    one, other = (_point(row) for row in rng.gamma(2, 1, size=(2, rows.offsets[-1])))
    (forward,), (backward,) = _contrasts(rows, one, [other]), _contrasts(rows, other, [one])
    assert forward.difference_nats == pytest.approx(-backward.difference_nats)
    assert forward.interval == pytest.approx((-backward.interval[1], -backward.interval[0]))
    assert forward.upper_one_sided == pytest.approx(-backward.lower_simultaneous)


def test_truncation_widens_every_end(rows: FusionRows) -> None:
    rng = np.random.default_rng(3)
    one, other = rng.gamma(2, 1, size=(2, rows.offsets[-1]))
    (point,) = _contrasts(rows, _point(one), [_point(other)])
    (wide,) = _contrasts(rows, _point(one, 0.2), [_point(other, 0.1)])
    assert wide.difference_nats == pytest.approx(point.difference_nats)
    assert wide.truncation == pytest.approx((point.difference_nats - 0.3, point.difference_nats + 0.3))
    assert wide.interval == pytest.approx((point.interval[0] - 0.3, point.interval[1] + 0.3))
    assert wide.upper_one_sided == pytest.approx(point.upper_one_sided + 0.3)
    assert wide.lower_simultaneous == pytest.approx(point.lower_simultaneous - 0.3)
    assert wide.upper_middle == pytest.approx(point.upper_middle)
    assert wide.lower_middle == pytest.approx(point.lower_middle)


def test_a_rule_against_itself_is_nothing(rows: FusionRows) -> None:
    losses = linear_losses(rows.known)
    (found,) = _contrasts(rows, losses, [losses])
    assert found.difference_nats == 0 and found.interval == (0, 0)
    assert found.upper_one_sided == found.lower_simultaneous == 0
    assert found.pvalue_adjusted == 1.0


def test_the_family_is_the_rivals(rows: FusionRows) -> None:
    """More rivals lower the simultaneous ends; references that are no rivals do not, nor do marginal ends move."""
    rng = np.random.default_rng(4)
    base = rng.gamma(2, 1, rows.offsets[-1])
    references = [_point(base + rng.standard_normal(base.size)) for _ in range(8)]
    alone = _contrasts(rows, _point(base), references, [True] + [False] * 7)
    family = _contrasts(rows, _point(base), references)
    assert family[0].lower_simultaneous < alone[0].lower_simultaneous
    assert family[0].upper_one_sided == alone[0].upper_one_sided
    assert family[0].interval == alone[0].interval
    none = _contrasts(rows, _point(base), references, [False] * 8)
    assert none[0].lower_simultaneous == family[0].lower_simultaneous


def test_contrasts_are_joint_in_the_overlap(truncated_rows: FusionRows) -> None:
    one, other = (coherent_losses(truncated_rows.known, coherence=c) for c in (0.5, 0.4))
    (found,) = _contrasts(truncated_rows, one, [other])
    joint = difference_bounds(one, other).mean(axis=1)
    assert found.truncation == pytest.approx(tuple(joint))
    separate = (one.bounds[1] - other.bounds[0]).mean() - (one.bounds[0] - other.bounds[1]).mean()
    assert joint[1] - joint[0] < 0.2 * separate
    (apart,) = _contrasts(truncated_rows, one, [power_mean_losses(truncated_rows.known, order=2.0)])
    assert apart.truncation[0] < apart.difference_nats < apart.truncation[1]


def test_seed(rows: FusionRows) -> None:
    rng = np.random.default_rng(5)
    one, other = (_point(row) for row in rng.gamma(2, 1, size=(2, rows.offsets[-1])))
    assert _contrasts(rows, one, [other], seed=1) == _contrasts(rows, one, [other], seed=1)
    assert _contrasts(rows, one, [other], seed=1) != _contrasts(rows, one, [other], seed=2)


def test_nothing_is_shared_across_temperatures(tempered_rows: FusionRows) -> None:
    """At another temperature the models have another overlap: only the intervals themselves bound the difference."""
    plain, warm = tempered_rows.known_at(1.0), tempered_rows.known_at(2.0)
    assert np.abs(plain.overlap - warm.overlap).max() > 0.1
    one, other = coherent_losses(plain, coherence=0.5), log_linear_losses(warm)
    separate = np.stack([one.bounds[0] - other.bounds[1], one.bounds[1] - other.bounds[0]])
    np.testing.assert_array_equal(difference_bounds(one, other), separate)
    joint = difference_bounds(coherent_losses(warm, coherence=0.5), other)
    apart = coherent_losses(warm, coherence=0.5).bounds[1] - other.bounds[0]
    assert (joint[1] < apart - 1e-6).mean() > 0.5


def test_below_minimum_of_averages_is_never(rows: FusionRows) -> None:
    target = rows.known.target
    for losses in (linear_losses(rows.known), coherent_losses(rows.known, coherence=0.0)):
        assert not below_minimum(losses.bounds, target).any()
    suppressed = below_minimum(coherent_losses(rows.known, coherence=-0.95).bounds, target)
    floor = np.exp(target.min(axis=0))
    p = np.exp(target)
    q = (0.5 * p.sum(axis=0) - 0.95 * np.sqrt(p.prod(axis=0))) / (1 - 0.95 * rows.known.overlap[0])
    np.testing.assert_array_equal(suppressed[1], q < floor * (1 - 1e-9))
    assert 0.05 < suppressed[1].mean() < 0.95


def test_below_minimum_is_below_every_model_of_three(three_models: FusionRows) -> None:
    target = three_models.known.target
    least = -target.min(axis=0)
    assert not below_minimum(np.stack([least, least]), target).any()
    assert below_minimum(np.stack([least + 0.01] * 2), target).all()
    surely, middle, possibly = below_minimum(np.stack([least - 0.3, least + 0.5]), target)
    assert not surely.any() and middle.all() and possibly.all()
