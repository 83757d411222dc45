"""The page's tables of the whole procedure on simulated pairs."""

import numpy as np

from calibration import claims, rows
from calibration.measures import (
    Results,
    coverage,
    median,
    planned_power,
    rate,
    rates_below,
    reasons,
    supported_rate,
    verdict_rate,
)
from calibration.procedure import DELTA
from calibration.tables import covered, judged, section, short, text

NULLS = f"""Documents of {rows.LENGTH} positions; the proxy is the shared token difficulty itself, or has reliability .9
where said. `supported` must not exceed the band's upper edge. Where P1 does not reject, nothing can be supported: with
independent models and shared positions the regressor was run on the first {rows.N_ALWAYS_RESIDUAL} simulations and
elsewhere only where P1 rejects, and `falsified` and `inconclusive` are shares of those {rows.N_ALWAYS_RESIDUAL}."""

RESIDUALS = """How often the document test of the residual kappa, and of the partial rank correlation, reject 0. P2 asks
for more than 0: its lower end must exceed delta. The share is what a regressor fitted on 40 documents leaves of the
shared difficulty; with a proxy of reliability .9 nothing could remove all of it."""

POWER = f"""Shared token difficulty .3 with a perfect proxy, AR .6, icc .1, documents of {rows.LENGTH} positions. r:
correlation of the models' scores beyond the difficulty. *True share*: the residual excess over the largest possible
one, from one simulation of {rows.TRUTH_DOCUMENTS:,} documents; delta is {short(DELTA)}. P2: the lower end
exceeds delta."""

COVERAGE = f"""Share of intervals that hold the truth, which is that of one simulation of {rows.TRUTH_DOCUMENTS:,}
documents. {rows.PILOT_DOCUMENTS} documents of {rows.LENGTH} positions, shared token difficulty .3. **Bold** is outside
the band of 95 %."""

PLANNING = f"""Power that a pilot of {rows.PILOT_DOCUMENTS} documents predicts for the residual interval to lie above a
bound, as median and 90 % range over pilots with the true share taken as known, and how often it did. Map `arctan`."""


def null_procedures(results: Results) -> str:
    """Verdicts where nothing is beyond shared difficulty."""
    lines = []
    for design in rows.PROCEDURES:
        name = rows.procedure_name(design)
        if not results.has(name):
            continue
        for phase in rows.PHASES:
            columns, whole = results.phase_columns(name, phase), results.with_residual(name, phase)
            rates = [
                text(rate(columns["dependent"])),
                judged(supported_rate(columns), results.n(name), claims.AT_MOST),
                *(text(verdict_rate(whole, verdict)) for verdict in ("falsified", "inconclusive")),
            ]
            lines.append([f"{design}, `{phase}`", *rates, reasons(whole)])
    return section(
        "The whole procedure where nothing is beyond shared difficulty",
        NULLS,
        ["design, map", "P1", "supported", "falsified", "inconclusive", "verdicts"],
        lines,
    )


def residual_tests(results: Results) -> str:
    """Rejections of the residual tests against 0."""
    lines = []
    for design in rows.PROCEDURES:
        name = rows.procedure_name(design)
        if not results.has(name):
            continue
        claim = claims.NOT if "proxy" in design else claims.SIZE
        by_phase = [results.with_residual(name, phase) for phase in rows.PHASES]
        n, cells = len(by_phase[0]["verdict"]), []
        for columns in by_phase:
            cells += [
                judged(rates_below(columns)["residual_pvalue"], n, claim),
                text(median(columns["residual_share"])),
            ]
        ranks = judged(rates_below(by_phase[0])["rank_correlation"], n, claim)
        lines.append([f"{design} ({n:,})", *cells, ranks])
    header = [title for phase in rows.PHASES for title in (f"kappa, `{phase}`", "median share")]
    return section(
        "Residual tests against 0",
        RESIDUALS,
        ["design (simulations)", *header, "partial rank correlation"],
        lines,
    )


def power(results: Results) -> str:
    """Verdicts with a planted relation beyond shared difficulty."""
    lines = []
    for residual in rows.RESIDUALS:
        for n_documents in rows.POWER_DOCUMENTS:
            name = rows.power_name(residual, n_documents)
            if not results.has(name):
                continue
            for phase in rows.PHASES:
                columns = results.phase_columns(name, phase)
                rates = [
                    results.truth(residual, phase)["residual"],
                    rate(columns["dependent"]),
                    rate([lower > DELTA for lower in columns["residual_lower"]]),
                    rate(columns["survives"]),
                    *(verdict_rate(columns, verdict) for verdict in ("supported", "falsified", "inconclusive")),
                ]
                lines.append([f"{short(residual)}, {n_documents}, `{phase}` ({results.n(name)})", *map(text, rates)])
    header = ["r, documents, map (simulations)", "true share", "P1", "P2", "survives .8", "supported", "falsified"]
    return section("Power", POWER, [*header, "inconclusive"], lines)


def interval_coverage(results: Results) -> str:
    """Coverage of the intervals of both shares."""
    lines = []
    for residual in rows.COVERAGE_RESIDUALS:
        name = rows.procedure_name("shared token .3")
        if residual:
            name = rows.power_name(residual, rows.PILOT_DOCUMENTS)
        if not results.has(name):
            continue
        n = results.n(name)
        for phase in rows.PHASES:
            columns, truth = results.phase_columns(name, phase), results.truth(residual, phase)
            cells = []
            for kind in ("plain", "residual"):
                cells += [text(truth[kind]), covered(coverage(columns, kind, truth[kind]), n)]
            lines.append([f"{short(residual)}, `{phase}` ({n:,})", *cells])
    return section(
        "Coverage of the 95 % intervals",
        COVERAGE,
        ["r, map (simulations)", "true share", "covered", "true residual share", "covered"],
        lines,
    )


def planning(results: Results) -> str:
    """Predicted beside simulated power."""
    lines = []
    for residual in rows.RESIDUALS:
        if not all(results.has(rows.power_name(residual, n)) for n in rows.POWER_DOCUMENTS):
            continue
        pilots = results.phase_columns(rows.power_name(residual, rows.PILOT_DOCUMENTS), "arctan")
        truth = results.truth(residual, "arctan")["residual"]
        for bound in (0.0, DELTA):
            for n_documents in rows.POWER_DOCUMENTS if truth > bound else ():
                found = results.phase_columns(rows.power_name(residual, n_documents), "arctan")
                predicted = planned_power(pilots, truth - bound, n_documents * rows.LENGTH)
                middle, low, high = (text(float(np.quantile(predicted, q))) for q in (0.5, 0.05, 0.95))
                simulated = text(rate([lower > bound for lower in found["residual_lower"]]))
                lines.append(
                    [f"{short(residual)}, {n_documents}", short(bound), f"{middle} ({low} to {high})", simulated]
                )
    return section("Sample-size planning", PLANNING, ["r, documents", "above", "predicted", "simulated"], lines)
