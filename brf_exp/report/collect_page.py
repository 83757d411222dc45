"""The page over many runs: counts per claim, forests, a grid of claims by pairs, every run with its report."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from brf_exp.report import wording
from brf_exp.report.collect_load import Collection, Row, subject_name
from brf_exp.report.templating import render

TEMPLATE = "collect.html.j2"
FILTERS = (
    wording.number,
    wording.fixed,
    wording.interval,
    wording.percent,
    wording.pvalue,
    wording.listed,
    subject_name,
)
QUESTIONS = {
    "dependence": "phases depend on each other beyond both nulls (P1)",
    "difference": "Born Rule Fusion differs from its strongest rival",
    "supported": "the claim holds",
    "falsified": "the claim fails",
}


def collection_page(collection: Collection, *, figures: Mapping[str, str]) -> str:
    """The HTML of a collection. `figures` are SVG elements by name; the page loads nothing, and links to reports."""
    return render(TEMPLATE, _content(collection), figures=figures, filters=FILTERS)


def _content(collection: Collection) -> dict[str, Any]:
    claims = collection.results["claims"]
    return {
        "results": collection.results,
        "rows": collection.rows,
        "grid": _grid(collection, [claim["id"] for claim in claims]),
        "links": {folder: quote(f"{folder}/{page}") for folder, page in collection.pages.items()},
        "marks": wording.MARKS,
        "questions": QUESTIONS,
    }


def _grid(collection: Collection, claim_ids: list[str]) -> list[tuple[Row, list[Row | None]]]:
    """One line per counted run, with its row of every claim; tests on their own may give one subject two lines."""
    counted = [collection.counted(claim) for claim in claim_ids]
    lines = []
    for row in collection.rows:
        cells = [found.get(row["folder"]) for found in counted]
        if any(cells):
            lines.append((row, cells))
    return lines
