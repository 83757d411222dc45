"""The page's tables of real captures."""

from calibration import rows
from calibration.captures import PAIRS
from calibration.measures import Results, median, rate, reasons, supported_rate
from calibration.procedure import ALPHA, DELTA
from calibration.tables import section, text

HOW = {"separate": "separate documents", "deranged": "derangement"}

BROKEN = """Model 1's rows of one document beside model 2's rows of another of similar length, cropped to the shorter,
each model with the covariates of its own rows; the whole procedure, map `arctan`. *Separate documents*: half of the
documents for model 1, others for model 2, so that no re-pairing brings true partners together. *Derangement*: one of
the test's own. There, one in seven or so of the pairs in a re-pairing is a true one, which puts the re-pairing mean
above kappa; the regressor runs only where P1 rejects. `supported` must be at most .1. Where the shift null alone
rejects, it is because every model finds the start of a text hard."""

TRUE = """Smallest and largest of each number. A seed changes the folds, the regressor, how ties are broken and what is
resampled. N-grams counted in so few documents know little of difficulty: what they leave is no evidence of more."""


def broken(results: Results) -> str:
    """The whole procedure where the models have read different documents."""
    lines = [
        _broken_line(results, pair, how) for pair in PAIRS for how in HOW if results.has(rows.broken_name(pair, how))
    ]
    return section(
        "Real captures with the pairing broken",
        BROKEN,
        ["pair (draws)", "shift null", "re-pairing null", "P1", "P2", "supported", "median share"],
        lines,
    )


def _broken_line(results: Results, pair: str, how: str) -> list[str]:
    name = rows.broken_name(pair, how)
    columns = results.phase_columns(name, "arctan")
    nulls = [rate([p < ALPHA for p in columns[null]]) for null in ("shift", "repairing")]
    above = [lower > DELTA for lower in columns["residual_lower"] if lower is not None]
    beyond = text(rate(above)) if how == "separate" else ""
    share = f"{median(columns['plain_share']):+.3f}"
    cells = [*map(text, nulls), text(rate(columns["dependent"])), beyond, text(supported_rate(columns)), share]
    return [f"{pair}, {HOW[how]} ({results.n(name)})", *cells]


def true_pairs(results: Results) -> str:
    """The whole procedure on the pairs as they are, over seeds."""
    lines = []
    for pair in PAIRS:
        name = rows.true_name(pair)
        if not results.has(name):
            continue
        columns = results.phase_columns(name, "arctan")
        keys = ("plain_share", "residual_share", "residual_lower", "residual_upper")
        ends = [f"{text(min(columns[key]))} to {text(max(columns[key]))}" for key in keys]
        lines.append([f"{pair} ({results.n(name)})", *ends, reasons(columns)])
    return section(
        "The same pairs as they are, over seeds",
        TRUE,
        ["pair (seeds)", "share", "residual share", "its lower end", "its upper end", "verdicts"],
        lines,
    )
