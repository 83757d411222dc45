import numpy as np
import pytest
from scipy import stats

from brf_exp.maths.discrimination import Contrast, contrasts
from brf_exp.maths.resampling import (
    bootstrap_t,
    bootstrap_t_pvalues,
    effective_df,
    jackknife_errors,
    ratio_estimate,
)
from brf_exp.maths.undefined import UndefinedStatisticError


def _documents(n_documents: int, n_ratios: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(5, 0.8, n_documents)).astype(int)
    return rng.normal(0.02, 0.1, size=(n_documents, n_ratios)) * lengths[:, None], lengths


def _contrasts(sums: np.ndarray, lengths: np.ndarray, n_resamples: int = 999, **changes) -> list[Contrast]:
    n_references = sums.shape[1]
    settings = {"rivals": [True] * n_references, "confidence_level": 0.95, **changes}
    return contrasts(
        [f"rule {number}" for number in range(n_references)],
        np.stack([sums, sums]),
        lengths,
        n_resamples=n_resamples,
        rng=np.random.default_rng(1),
        **settings,
    )


def test_jackknife_leaves_out_one_document_at_a_time() -> None:
    sums, lengths = _documents(9, 3)
    left = [np.delete(sums, d, axis=0).sum(axis=0) / np.delete(lengths, d).sum() for d in range(9)]
    expected = np.sqrt(8 / 9 * ((np.array(left) - sums.sum(axis=0) / lengths.sum()) ** 2).sum(axis=0))
    assert jackknife_errors(sums, lengths) == pytest.approx(expected, rel=1e-12)


def test_jackknife_is_the_linearised_error_for_equal_lengths_and_larger_otherwise() -> None:
    sums, lengths = _documents(9, 3)
    equal = np.full(9, 50)
    assert jackknife_errors(sums, equal) == pytest.approx(ratio_estimate(sums, equal).standard_error, rel=1e-12)
    assert (jackknife_errors(sums, lengths) > ratio_estimate(sums, lengths).standard_error).all()
    with pytest.raises(UndefinedStatisticError, match="^at least 2 documents are needed, got 1$"):
        jackknife_errors(sums[:1], lengths[:1])


def test_effective_df_has_the_moments_of_the_jackknife_variance() -> None:
    """Against the eigenvalues of the quadratic form itself, and against variances of normal sums drawn."""
    lengths = _documents(12, 1, seed=3)[1]
    shares = lengths / lengths.sum()
    residual = np.eye(12) - np.outer(lengths, np.ones(12)) / lengths.sum()
    root = np.diag(1 / (1 - shares)) @ residual @ np.diag(lengths)
    eigenvalues = np.linalg.eigvalsh(root.T @ root)
    df = effective_df(lengths)
    assert df == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-10)
    drawn = jackknife_errors(np.random.default_rng(4).standard_normal((12, 20_000)) * lengths[:, None], lengths) ** 2
    assert df == pytest.approx(2 * drawn.mean() ** 2 / drawn.var(), rel=0.05)


def test_effective_df_of_equal_and_of_very_unequal_documents() -> None:
    assert effective_df(np.full(20, 100)) == pytest.approx(19)
    assert effective_df(np.full(20, 7)) == pytest.approx(19)
    assert effective_df(np.array([100_000, *[10] * 19])) < 2


def test_step_down_p_values_by_brute_force() -> None:
    sums, lengths = _documents(15, 5)
    replicates, estimate = bootstrap_t(sums, lengths, n_resamples=199, rng=np.random.default_rng(2))
    statistics = estimate.mean / estimate.standard_error
    plain, adjusted = bootstrap_t_pvalues(statistics, replicates)
    size, drawn = np.abs(statistics), np.abs(replicates)
    worst = 0.0
    for place, j in enumerate(np.argsort(-size)):
        remaining = np.argsort(-size)[place:]
        p = (1 + sum(draw[remaining].max() >= size[j] for draw in drawn)) / 200
        worst = max(worst, p)
        assert adjusted[j] == pytest.approx(worst)
        assert plain[j] == (1 + (drawn[:, j] >= size[j]).sum()) / 200
    assert (adjusted >= plain).all()


def test_ends_lie_no_nearer_than_jackknife_errors_put_them() -> None:
    """With so few replicates that the bootstrap's own quantiles mean nothing, every end is at its floor or beyond."""
    sums, lengths = _documents(20, 6)
    mean, errors = sums.sum(axis=0) / lengths.sum(), jackknife_errors(sums, lengths)
    decides = stats.t.ppf(0.95, effective_df(lengths))
    two_sided = max(decides, stats.t.ppf(0.975, 19))
    for found, middle, error in zip(_contrasts(sums, lengths, n_resamples=2), mean, errors, strict=True):
        assert found.upper_one_sided >= middle + decides * error - 1e-12
        assert found.lower_simultaneous <= middle - decides * error + 1e-12
        assert found.interval[0] <= middle - two_sided * error + 1e-12
        assert found.interval[1] >= middle + two_sided * error - 1e-12


def test_ends_are_those_of_the_bootstrap_where_it_puts_them_farther() -> None:
    """Sums with a heavy right tail: the bootstrap's upper end is beyond the symmetrical one."""
    rng = np.random.default_rng(5)
    lengths = np.full(30, 100)
    sums = rng.exponential(1, (30, 1)) ** 2 * 100
    (found,) = _contrasts(sums, lengths)
    replicates, estimate = bootstrap_t(np.hstack([sums] * 3), lengths, n_resamples=999, rng=np.random.default_rng(1))
    expected = estimate.mean[0] - np.quantile(replicates[:, 1], 0.05) * estimate.standard_error[0]
    assert found.upper_one_sided == pytest.approx(expected, rel=1e-12)
    assert found.upper_one_sided > estimate.mean[0] + stats.t.ppf(0.95, 29) * estimate.standard_error[0]


def test_ends_move_with_the_truth() -> None:
    """The same amount at every position moves every end by it and changes nothing else."""
    sums, lengths = _documents(25, 4)
    for one, moved in zip(_contrasts(sums, lengths), _contrasts(sums - 0.3 * lengths[:, None], lengths), strict=True):
        ends = [(each.upper_one_sided, each.lower_simultaneous, *each.interval) for each in (one, moved)]
        assert np.array(ends[1]) == pytest.approx(np.array(ends[0]) - 0.3, abs=1e-12)
        assert moved.standard_error == pytest.approx(one.standard_error, rel=1e-9)


def test_p_values_of_references_that_are_no_rivals_are_their_own() -> None:
    sums, lengths = _documents(25, 4)
    together = _contrasts(sums, lengths)
    apart = _contrasts(sums, lengths, rivals=[True, True, True, False])
    none = _contrasts(sums, lengths, rivals=[False] * 4)
    assert apart[3].pvalue_adjusted == none[3].pvalue_adjusted <= together[3].pvalue_adjusted
    assert apart[0].pvalue_adjusted >= none[0].pvalue_adjusted


def test_a_difference_that_is_the_same_everywhere() -> None:
    lengths = np.array([10, 20, 30])
    (found,) = _contrasts(np.array([[-5.0], [-10.0], [-15.0]]), lengths)
    assert found.interval == (-0.5, -0.5) and found.pvalue_adjusted == 1 / 1000
    (nothing,) = _contrasts(np.zeros((3, 1)), lengths)
    assert nothing.interval == (0, 0) and nothing.pvalue_adjusted == 1.0
