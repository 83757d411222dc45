"""The page: a run's numbers, figures and examples in one self-contained HTML file."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from brf_exp.report import provenance, wording
from brf_exp.report.discrimination_gallery import own_margins
from brf_exp.report.examples import STEPS_NATS, excerpts
from brf_exp.report.gallery import level_of, primary_map, share_of
from brf_exp.report.load import Run
from brf_exp.report.tables import Table
from brf_exp.report.templating import render

VERDICTS = ("supported", "falsified", "inconclusive", "not tested")
NEGATIVE_CONTROL_LIMIT = 0.10
FILTERS: tuple[Callable[..., Any], ...] = (
    wording.number,
    wording.fixed,
    wording.interval,
    wording.percent,
    wording.per_cent_points,
    wording.pvalue,
    wording.evidence,
    wording.rule_name,
    wording.question_name,
    wording.listed,
    wording.sample_size,
    share_of,
)


def page(run: Run, *, figures: Mapping[str, str], tables: Mapping[str, Table]) -> str:
    """The HTML of a report. `figures` are SVG elements by name; nothing outside the page is referred to."""
    return render("report.html.j2", _content(run, tables), figures=figures, filters=FILTERS)


def _content(run: Run, tables: Mapping[str, Table]) -> dict[str, Any]:
    claims = run.claims["claims"] if run.claims else []
    tested = [claim for claim in claims if claim["verdict"] != "not tested"]
    return {
        "measured": run.measured,
        "coherence": run.coherence,
        "level": level_of(run.coherence or {}),
        "stated_level": _stated_level(run.coherence or {}),
        "specified": _counts((run.coherence or {}).get("specification") or []),
        "primary": primary_map(run),
        "discrimination": run.discrimination,
        "own_margins": _names_of_margins(run.discrimination),
        "audit": run.audit,
        "claims": run.claims,
        "tested": tested,
        "untested": [claim for claim in claims if claim["verdict"] == "not tested"],
        "counts": _counts(claims),
        "marks": wording.MARKS,
        "tables": tables,
        "excerpts": excerpts(run),
        "steps": STEPS_NATS,
        "sources": provenance.sources(run),
        "stages": provenance.stage_records(run),
        "packages": provenance.packages(run),
        "commands": provenance.commands(run),
        "negative_control_limit": NEGATIVE_CONTROL_LIMIT,
        "best_rival": _best_rival(run.discrimination),
    }


def _stated_level(coherence: dict[str, Any]) -> float:
    """Confidence level before it was divided among the pairs of models."""
    return 1 - (1 - level_of(coherence)) * max(len(coherence.get("pairs") or []), 1)


def _counts(decided: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """How many claims or specifications came to each verdict, in a fixed order."""
    counted = Counter(found["verdict"] for found in decided)
    return [(verdict, counted[verdict]) for verdict in VERDICTS if counted[verdict]]


def _names_of_margins(found: dict[str, Any] | None) -> list[str]:
    """Rules against which the noise floor decides and not delta."""
    return [wording.rule_name(rule, found["models"]) for rule in own_margins(found)] if found else []


def _best_rival(found: dict[str, Any] | None) -> str | None:
    """The rival of the lowest log loss, among those that are bounded."""
    if found is None:
        return None
    rivals = {
        name: sum(rule["log_loss_nats"])
        for name, rule in found["rules"].items()
        if rule["role"] == "rival" and rule["log_loss_nats"] and None not in rule["log_loss_nats"]
    }
    return min(sorted(rivals), key=lambda name: rivals[name]) if rivals else None
