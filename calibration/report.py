"""docs/calibration.md from the results of the rows."""

from collections.abc import Sequence
from pathlib import Path

from calibration import capture_sections, component_sections, discrimination_sections, procedure_sections, rows
from calibration.components import EVALUATION
from calibration.designs import band
from calibration.measures import Results
from calibration.procedure import DELTA
from calibration.rows import Row
from calibration.tables import short, text

SECTIONS = (
    component_sections.components,
    component_sections.kuramoto,
    component_sections.must_fail,
    procedure_sections.null_procedures,
    procedure_sections.residual_tests,
    procedure_sections.power,
    procedure_sections.interval_coverage,
    procedure_sections.planning,
    capture_sections.broken,
    capture_sections.true_pairs,
    discrimination_sections.loss_sizes,
    discrimination_sections.truncation,
    discrimination_sections.power,
    discrimination_sections.rank_sizes,
)

SETTINGS = f"""Settings of the Phase Coherence Test: {EVALUATION.n_repairings} re-pairings,
{EVALUATION.n_resamples} resamples,
{EVALUATION.n_negative_controls} negative controls, delta {short(DELTA)}, the shipped regressor and its folds. Gaps are
exp(.5 + .9 x), x a standard normal score; the scale is the pooled median gap. AR: autocorrelation of x within
documents. icc: share of the variance of x that is a model's own level of the document. *Shared* parts are common to
both models, by their share of the variance: a document's level, a ramp over the document, the difficulty of each token,
all three together (.2, .1, .3); those designs have AR .6 and icc .1 besides. *Hard start*: the first five positions of
every document are two standard deviations harder for both models. 40 documents of 256 positions unless said; ragged
ones have lognormal lengths (median 134) that vary by more than half their mean, AR .6 and icc .2; tied gaps lie on a
lattice of .125 (bf16 logits), AR .6 and icc .2."""


def page(folder: Path, made: Sequence[Row]) -> str:
    """The whole page, in Markdown."""
    results = Results(folder, made)
    sections = [_introduction(results), *(section(results) for section in SECTIONS)]
    return "\n\n".join([*(section for section in sections if section), *_missing(results)]) + "\n"


def _missing(results: Results) -> list[str]:
    """What the page does not say because it was not computed."""
    names = [f"- {name}" for name in results.missing]
    return ["\n".join(["## Not computed yet", "", *names])] if names else []


def _introduction(results: Results) -> str:
    lower, upper = band(rows.N_SIMULATIONS)
    return f"""# Calibration of the two tests

Made by `python -m calibration`; `make calibration` runs the slow tests as well. {results.n_simulations:,} simulations,
{results.seconds / 60:.0f} minutes of processor time, shared by two processes. What is there under `runs/calibration` is
not computed again.

How often does a test of size .05 reject where there is nothing, how often is something found where there is, and how
often does an interval hold the truth? Each number is a share of simulations with fixed seeds, {rows.N_SIMULATIONS:,}
unless said. In so many a test of size .05 rejects in {text(lower)} to {text(upper)} of them with probability .999: the
*band*. A number **in bold** is outside it although the test claims to cover that design; a number (in brackets) is in a
design that the test does not claim to cover. No band was widened.

{SETTINGS}"""
