"""P-values of the claims that are decided per pair, from stored results: each agrees with the verdict's own rule."""

from collections.abc import Callable
from typing import Any

from brf_exp.maths.multiplicity import tail_pvalue
from brf_exp.stages.claim_tests import AMPLIFIED_SHARE

Results = dict[str, Any] | None
# Runs that do not say how many degrees of freedom their documents are worth may have this many, the least there are.
LEAST_DF = 1.0
# One p-value for `supported` and one for `falsified`; None where the results hold nothing to work it out from.
Sides = tuple[float | None, float | None]


def dependence_pvalue(coherence: Results) -> float | None:
    """P1: the larger p-value of the two nulls of the primary map; of the pair of models where it is largest."""
    if coherence is None:
        return None
    nulls = [_primary(part)["null"] for part in _parts(coherence)]
    return _jointly([null["pvalue"] if null else None for null in nulls], _n_pairs(coherence))


def dependence_floor(coherence: Results) -> float | None:
    """The smallest P1 that so many re-pairings can give."""
    if coherence is None:
        return None
    counts = [_primary(part)["nulls"]["repairing"]["n"] for part in _parts(coherence) if _primary(part)["nulls"]]
    return _n_pairs(coherence) / (min(counts) + 1) if counts else None


def strongest_rival(discrimination: dict[str, Any]) -> str | None:
    """The rival that the claim names: the one whose simultaneous lower end is highest."""
    rivals = _rivals(discrimination)
    return max(rivals, key=lambda name: rivals[name]["lower_simultaneous"]) if rivals else None


def coherence_sides(coherence: Results, discrimination: Results) -> Sides:
    """Supported: both nulls are rejected, and the residual share lies above delta. Falsified: a share lies below it.

    Intervals are two-sided, so one-sided p-values are doubled. The residual share or the plain one can falsify: the
    smaller p-value counts, and the doubling pays for having two.
    """
    if coherence is None:
        return None, None
    parts, n_pairs = _parts(coherence), _n_pairs(coherence)
    tail, delta = (1 - coherence["confidence_level"]) / 2, coherence["delta"]
    df = _df(coherence)
    supported = [_support(_primary(part), delta, tail, df) for part in parts]
    falsified = [_falsification(_primary(part), delta, tail, df) for part in parts]
    return _jointly(supported, n_pairs), _jointly(falsified, n_pairs)


def _support(made: dict[str, Any], delta: float, tail: float, df: float) -> float | None:
    residual = made["residual"]
    if made["null"] is None or residual is None or residual["excess_share"] is None:
        return None
    return max(made["null"]["pvalue"], 2 * _beyond(residual, delta, tail, df, above=True))


def _falsification(made: dict[str, Any], delta: float, tail: float, df: float) -> float | None:
    tests = [found for found in (made, made["residual"]) if found is not None and found["excess_share"] is not None]
    return min((2 * _beyond(found, delta, tail, df, above=False) for found in tests), default=None)


def _beyond(found: dict[str, Any], bound: float, tail: float, df: float, *, above: bool) -> float:
    """Is a share of the possible excess above, or below, a bound?"""
    value, ends = found["excess_share"], found["excess_share_interval"]
    return _interval_pvalue(value, ends, bound, tail, df, above=above)


def _df(results: dict[str, Any]) -> float:
    """Degrees of freedom of the shape that p-values take beyond a stored end.

    Not documents less one: where few documents hold most of the positions the tails are those of far fewer.
    """
    return max(LEAST_DF, float(results.get("effective_df") or LEAST_DF))


def _interval_pvalue(value: float, ends: list[float], bound: float, tail: float, df: float, *, above: bool) -> float:
    end = ends[0] if above else ends[1]
    distance = value - bound if above else bound - value
    return tail_pvalue(distance, abs(value - end), tail=tail, df=df)


def discrimination_sides(coherence: Results, discrimination: Results) -> Sides:
    """Supported: better than every rival by the least gain that counts. Falsified: not by that much than some rival.

    So the largest p-value over rivals supports, and the smallest one, with max-T widths, falsifies.
    """
    if discrimination is None:
        return None, None
    rivals, tail = list(_rivals(discrimination).values()), 1 - discrimination["confidence_level"]
    df = _df(discrimination)
    gains = [_gain(rival, discrimination["delta_nats"]) for rival in rivals]
    better = [
        tail_pvalue(-gain - rival["truncation"][1], rival["upper_one_sided"] - rival["truncation"][1], tail=tail, df=df)
        for rival, gain in zip(rivals, gains, strict=True)
    ]
    no_gain = [
        tail_pvalue(
            rival["truncation"][0] + gain, rival["truncation"][0] - rival["lower_simultaneous"], tail=tail, df=df
        )
        for rival, gain in zip(rivals, gains, strict=True)
    ]
    return max(better, default=None), min(no_gain, default=None)


def _gain(rival: dict[str, Any], delta_nats: float) -> float:
    gain: float = rival.get("least_gain_nats", delta_nats)
    return gain


def agreement_sides(coherence: Results, discrimination: Results) -> Sides:
    """Supported: agreement is suppressed at fewer than a twentieth of the positions. Falsified: at more."""
    found = (discrimination or {}).get("agreement")
    if discrimination is None or found is None or found["interval"] is None:
        return None, None
    share, ends = found["negative_share"], found["interval"]
    tail, df = (1 - discrimination["confidence_level"]) / 2, _df(discrimination)
    rarely, often = (
        min(1.0, 2 * _interval_pvalue(share, ends, AMPLIFIED_SHARE, tail, df, above=above)) for above in (False, True)
    )
    return rarely, often


def _rivals(discrimination: dict[str, Any]) -> dict[str, dict[str, Any]]:
    roles = discrimination["rules"]
    return {name: c for name, c in discrimination["contrasts"].items() if roles[name]["role"] == "rival"}


def _parts(coherence: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pair of models with its maps; two models are one pair."""
    return coherence.get("pairs") or [coherence]


def _primary(part: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = part["phases"][part["primary"]]
    return made


def _n_pairs(coherence: dict[str, Any]) -> int:
    return len(_parts(coherence))


def _jointly(pvalues: list[float | None], n_pairs: int) -> float | None:
    """Of several pairs of models all must reject, each at its share of the level."""
    known = [value for value in pvalues if value is not None]
    return min(1.0, n_pairs * max(known)) if len(known) == len(pvalues) else None


# By the name of the claim's decision rule, as ledgers name it.
SIDES: dict[str, Callable[[Results, Results], Sides]] = {
    "phase_coherence": coherence_sides,
    "discrimination": discrimination_sides,
    "agreement_amplified": agreement_sides,
}
