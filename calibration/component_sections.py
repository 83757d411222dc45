"""The page's tables of component tests."""

from calibration import claims, rows
from calibration.designs import DESIGNS
from calibration.measures import Results, rates_below
from calibration.tables import judged, section, table, text

MUST_FAIL = """Tests that look natural, and nulls outside of what they cover, on models without any relation beyond what
is named. Each must reject more often than stated: if it did not, the designs would be too easy."""


def components(results: Results) -> str:
    """Rejections of every component test in every design, one table per map."""
    parts = ["## Component tests: share of rejections", claims.text()]
    header = ["design", *(claim.title for claim in claims.TESTS.values())]
    for phase in rows.PHASES:
        lines = [[design, *_rates(results, design, phase)] for design in DESIGNS]
        parts += [f"Map `{phase}`:", table(header, lines)]
    return "\n\n".join(parts)


def _rates(results: Results, design: str, phase: str) -> list[str]:
    name = rows.component_name(design, phase)
    found, n = rates_below(results.columns(name)), results.n(name)
    claimed = {test: claims.covers(test, DESIGNS[design]) for test in claims.TESTS}
    return [judged(found[test], n, claim) if test in found else "" for test, claim in claimed.items()]


def kuramoto(results: Results) -> str:
    """Rejections of the three-model test."""
    lines = []
    for design in rows.KURAMOTO:
        names = [rows.kuramoto_name(design, phase) for phase in rows.PHASES]
        rates = [judged(rates_below(results.columns(name))["kuramoto"], results.n(name), claims.SIZE) for name in names]
        lines.append([design, *rates])
    return section(
        "Three models: excess of the Kuramoto order against circular shifts",
        "One-sided; it covers what the shift null covers.",
        ["design", *(f"`{phase}`" for phase in rows.PHASES)],
        lines,
    )


def must_fail(results: Results) -> str:
    """Rejections of tests that must not be used."""
    lines = []
    for control in claims.MUST_FAIL:
        value = rates_below(results.columns(rows.component_name(control.design, control.phase)))[control.test]
        does = "yes" if value > control.least else "**no**"
        lines.append([control.what, control.design, f"`{control.phase}`", text(control.least), text(value), does])
    return section("What must fail", MUST_FAIL, ["test", "design", "map", "must exceed", "rejects", "does"], lines)
