"""The page's tables of the Cross-Term Discrimination Test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibration import claims, discrimination_rows, losses, ranks
from calibration.designs import Design
from calibration.discrimination_rows import LAWS
from calibration.losses import DELTA, EVALUATION, GAINS, LossDesign
from calibration.measures import ALPHA, Results, rate
from calibration.tables import judged, section, short, text

LOSSES = f"""Simulated differences in log loss, candidate minus each of {LossDesign.n_references} references, go through
the shipped contrasts and the shipped verdict. By position they have variance 1 (shown times {short(losses.POSITION_SD)}
nat in the power table), a document level with {short(LossDesign.icc)} of it and autocorrelation
{short(LossDesign.rho)} in the rest; *skewed*: levels and innovations are exponential. Documents are ragged (lognormal
lengths, mean of the logarithm {short(losses.LOG_LENGTH_MEAN)}, standard deviation {short(losses.LOG_LENGTH_SD)}) or
all of {LossDesign.length}. {EVALUATION.n_resamples} resamples. *Correlation*: between the differences.

*Upper end*: the one-sided 95 % end that `supported` needs below -delta against every rival; rates are means over the
references. *Bootstrap alone*: what that end would be without its floor, a t quantile with Satterthwaite's degrees of
freedom of the jackknife error. *Lower end*: the simultaneous one that `falsified` needs above -delta against some
rival. *p*: the smallest adjusted p-value (bootstrap-t, step-down max-T). *Sign flip*: of document sums, single and
the smallest adjusted by max-T; it takes sums for symmetric, which is why the contrasts do not use it. *Supported*: true
differences exactly -delta against all rivals, or against one while all others are far behind, which is the worst case.
*Falsified*: all exactly -delta. *Tokens*: a z-test that takes positions for independent.

Where sums are normal, ends, p-values and verdicts claim at most .05; the two-sided interval (share that miss the truth)
and the sign flip claim .05. Where they are skewed, nothing is claimed: ends that decide were meant to hold .05 there as
well and do not quite. That was settled after these simulations had been seen, so what lies above the band there is
**bold** in its brackets."""

TRUNCATION = f"""40 ragged documents, normal, correlation .3; truncation leaves {short(discrimination_rows.WIDTH_NATS)}
nats open at a position on average, {discrimination_rows.WIDTH_NATS / DELTA:g} delta, and the truth lies where said.
Columns as above."""

POWER = f"""Share of simulations that end `supported` / `falsified`, the rest `inconclusive`, by the true gain over
every reference in units of delta = {short(DELTA)} nat. A difference has standard deviation
{short(losses.POSITION_SD)} nat at a position: what counts is the standard error over delta, shown as its median.
Normal, correlation .3, {short(LossDesign.icc)} of the variance between documents. Ten thousand positions decide more
the more documents they come from."""

RANKS = f"""AUC of a candidate minus that of other scores, Obuchowski's variance with t(D - 1). Labels and scores have
document levels (.05 of the variance) and autocorrelation .3. *Single*: share of rejections against
{ranks.N_EQUAL} equally good scores; *family*: any of them after Holm; *missed*: intervals of a true difference, against
a worse score, that do not hold it; *found*: that difference is found; *tokens*: DeLong's test, tokens taken for
independent. With 20 very unequal documents the t distribution is a little too narrow; that nothing is claimed
there was settled after these simulations had been seen, and what lies above the band is **bold** in its brackets."""

HEADER = (
    "documents",
    "upper end",
    "bootstrap alone",
    "two-sided",
    "lower end",
    "p",
    "sign flip",
    "sign flip, max-T",
    "supported, all",
    "supported, one",
    "falsified",
    "tokens",
)


def loss_rates(columns: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Error rates of everything that decides, and of what does not."""
    shares = ("upper", "upper_bootstrap", "two_sided", "simultaneous", "sign_flip", "tokens")
    return {
        **{key: float(np.mean(columns[key])) for key in shares},
        **{key: rate([p < ALPHA for p in columns[key]]) for key in ("adjusted", "sign_flip_adjusted")},
        "supported_all": verdicts(columns, 1, "supported"),
        "supported_one": rate([found == "supported" for found in columns[losses.ONE]]),
        "falsified": verdicts(columns, 1, "falsified"),
    }


def verdicts(columns: Mapping[str, Sequence[Any]], gain: int, verdict: str) -> float:
    """Share of a verdict at a true gain over every reference, in delta."""
    return rate([found == verdict for found in columns[f"gain {gain}"]])


def claim_of(measure: str, design: LossDesign) -> str:
    """SIZE, AT_MOST or NOT: what an error rate claims in a design."""
    if design.width:
        return claims.AT_MOST if measure in TRUNCATED else claims.NOT
    if design.skewed or measure in ("upper_bootstrap", "tokens"):
        return claims.NOT
    return claims.SIZE if measure in ("two_sided", "sign_flip", "sign_flip_adjusted") else claims.AT_MOST


MEASURES = (
    "upper",
    "upper_bootstrap",
    "two_sided",
    "simultaneous",
    "adjusted",
    "sign_flip",
    "sign_flip_adjusted",
    "supported_all",
    "supported_one",
    "falsified",
    "tokens",
)
# What a truth anywhere between the bounds must not break; p-values are those of the midpoints.
TRUNCATED = ("upper", "simultaneous", "supported_all", "supported_one", "falsified")
DECIDING = (*TRUNCATED, "two_sided", "adjusted")


def loss_sizes(results: Results) -> str:
    """Error rates of ends, p-values and verdicts, one table per law."""
    lines = []
    for law in LAWS:
        for name, design in discrimination_rows.size_designs().items():
            if design.skewed == LAWS[law] and results.has(name):
                lines.append([name.removeprefix("losses / "), *_judged(results, name, design, MEASURES)])
    return section("Cross-Term Discrimination Test: error rates", LOSSES, HEADER, lines)


def _judged(results: Results, name: str, design: LossDesign, measures: Sequence[str]) -> list[str]:
    found, n = loss_rates(results.columns(name)), results.n(name)
    return [
        unclaimed(found[measure], n)
        if design.skewed and measure in DECIDING
        else judged(found[measure], n, claim_of(measure, design))
        for measure in measures
    ]


def unclaimed(value: float, n: int) -> str:
    """A rate that was meant to hold .05 and is not claimed to: in brackets, bold above the band."""
    return f"({judged(value, n, claims.AT_MOST)})"


def truncation(results: Results) -> str:
    """Error rates where top-k rows leave something open."""
    lines = [
        [name.removeprefix("losses truncated / "), *_judged(results, name, design, TRUNCATED)]
        for name, design in discrimination_rows.truncation_designs().items()
        if results.has(name)
    ]
    header = ["truth", "upper end", "lower end", "supported, all", "supported, one", "falsified"]
    return section("Error rates with truncation", TRUNCATION, header, lines)


def power(results: Results) -> str:
    """Verdicts by true gain, documents and positions."""
    designs = {name: one for name, one in discrimination_rows.size_designs().items() if _is_plain(one)}
    lines = []
    for name in [*designs, *discrimination_rows.power_designs()]:
        if not results.has(name):
            continue
        columns = results.columns(name)
        shown = name.removeprefix("losses power / ").removeprefix("losses / ").split(",")[0]
        error = float(np.median(columns["standard_error"])) / DELTA
        cells = [
            f"{text(verdicts(columns, gain, 'supported'))} / {text(verdicts(columns, gain, 'falsified'))}"
            for gain in GAINS
        ]
        positions = f"{np.median(columns['n_positions']):,.0f}"
        lines.append([f"{shown} ({results.n(name):,})", positions, f"{error:.2f}", *cells])
    header = ["documents (simulations)", "positions", "error / delta", *(f"gain {gain}" for gain in GAINS)]
    return section("Power of the Cross-Term Discrimination Test", POWER, header, lines)


def _is_plain(design: LossDesign) -> bool:
    return design.ragged and not design.skewed and design.correlation == LossDesign.correlation


def rank_rates(columns: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Error rates and power of the comparison of AUCs."""
    return {
        "difference": float(np.mean(columns["difference"])),
        "family": rate([p < ALPHA for p in columns["family"]]),
        "missed": rate(columns["missed"]),
        "found": rate(columns["found"]),
        "tokens": float(np.mean(columns["tokens"])),
    }


RANK_MEASURES = ("difference", "family", "missed", "tokens")


def rank_claim_of(measure: str, design: Design) -> str:
    """SIZE, AT_MOST or NOT: what an error rate of the comparison of AUCs claims in a design."""
    if measure == "tokens" or (design.ragged and design.n_documents <= 20):
        return claims.NOT
    return claims.AT_MOST if measure == "family" else claims.SIZE


def rank_sizes(results: Results) -> str:
    """Error rates and power of the comparison of AUCs."""
    lines = []
    for name, design in discrimination_rows.rank_designs().items():
        if results.has(name):
            found, n = rank_rates(results.columns(name)), results.n(name)
            cells = [
                unclaimed(found[key], n)
                if key != "tokens" and rank_claim_of(key, design) == claims.NOT
                else judged(found[key], n, rank_claim_of(key, design))
                for key in RANK_MEASURES
            ]
            lines.append([name.removeprefix("ranks / "), *cells, text(found["found"])])
    return section("Differences of AUCs", RANKS, ["documents", "single", "family", "missed", "tokens", "found"], lines)
