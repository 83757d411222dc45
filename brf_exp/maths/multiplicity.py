"""P-values of several tests at once, and p-values that agree with an interval that was stored."""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from brf_exp.maths.resampling import holm


@dataclass(frozen=True)
class AdjustedPvalues:
    """P-values of one family of tests after three corrections, each (m,), in the order given.

    `holm`: the chance of a single false rejection is bounded, under any dependence. `benjamini_hochberg`: the expected
    share of false rejections among the rejections, for tests that are independent or positively dependent;
    `benjamini_yekutieli`: the same under any dependence.
    """

    holm: np.ndarray
    benjamini_hochberg: np.ndarray
    benjamini_yekutieli: np.ndarray


def adjusted_pvalues(pvalues: np.ndarray) -> AdjustedPvalues:
    """Correct the p-values (m,) of a family; m may be 0.

    Holm, Scandinavian Journal of Statistics 6:65 (1979); Benjamini and Hochberg, JRSS B 57:289 (1995); Benjamini and
    Yekutieli, Annals of Statistics 29:1165 (2001), doi 10.1214/aos/1013699998.

    >>> adjusted_pvalues(np.array([0.01, 0.02, 0.04])).holm.tolist()
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(pvalues, dtype=np.float64)
    if not values.size:
        return AdjustedPvalues(values, values.copy(), values.copy())
    rates = (stats.false_discovery_control(values, method=method) for method in ("bh", "by"))
    return AdjustedPvalues(holm(values), *rates)


def tail_pvalue(distance: float, width: float, *, tail: float, df: float) -> float:
    """One-sided p-value that agrees with the end of an interval: below `tail` just where the end lies beyond a bound.

    Parameters: `distance` from the bound to the estimate, positive where the estimate lies beyond the bound; `width`
    from the estimate to the interval's end on the bound's side, in the same unit; `tail`, the chance that was left
    outside that end; `df`, degrees of freedom. The end is taken to be a multiple of a Student's t quantile away, so
    the p-value is exact at `tail` and, where the end came from a bootstrap, as good as that shape elsewhere.

    >>> round(tail_pvalue(1.0, 1.0, tail=0.025, df=39), 3)
    0.025
    """
    if width <= 0:  # no sampling error: the estimate itself decides
        return 0.0 if distance > 0 else 1.0
    quantile = -special.stdtrit(df, tail)  # as scipy.stats.t has it, without its overhead
    return float(special.stdtr(df, -distance / width * quantile))
