"""Names and texts made to do harm, through ingest, both tests and the report: nothing is markup, nothing a formula."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brf_exp.cli import main

Submission = Any
QUICK = (
    "proxy=none",
    "evaluation.controls=false",
    "evaluation.n_resamples=99",
    "evaluation.n_repairings=99",
    "evaluation.n_negative_controls=10",
    "progress=false",
)
HARMFUL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title><svg/onload=alert(1)>",
    "</style><script>alert(2)</script>",
    "<iframe srcdoc='<b>x</b>'>",
    "<a href='javascript:alert(1)'>x</a>",
    "=cmd|'/C calc'!A1",
    "+1+cmd|'/C calc'!A1",
    "-2+3+cmd|'/C calc'!A1",
    "@SUM(1,2)*cmd",
    "{{ 7 * 7 }}{% raw %}",
    "${oc.env:HOME}",
    "\\input{/etc/passwd}$&#x3c;script&gt;",
    "--></script><!--",
    "]]><script>alert(3)</script>",
)
N_DOCUMENTS, N_ROWS = 24, 12
FORMULA = re.compile(r"[=+\-@\t\r]")


def harmful(submission: Submission) -> Path:
    """A submission whose every name and text is one of those."""
    names = [f"{HARMFUL[number % len(HARMFUL)]}{number}" for number in range(N_DOCUMENTS)]
    submission.rows = pd.DataFrame(
        {
            "doc_id": np.repeat(names, N_ROWS),
            "position": np.tile(np.arange(N_ROWS), N_DOCUMENTS),
            "token_id": submission.rng.integers(11, size=N_DOCUMENTS * N_ROWS),
        }
    )
    start = submission.rows["position"] * 3
    for key, name in (("a", HARMFUL[0]), ("b", HARMFUL[7])):
        submission.tables[key] = submission.table().assign(char_start=start, char_end=start + 3)
        submission.description["models"][key] |= {"name": name, "revision": HARMFUL[1], "tokenizer": HARMFUL[3]}
    submission.description["submitter"] = HARMFUL[4]
    texts = [(one * 40)[: 3 * N_ROWS] for one in HARMFUL]
    lines = [{"doc_id": name, "text": texts[number % len(texts)]} for number, name in enumerate(names)]
    submission.texts = "\n".join(map(json.dumps, lines))
    folder: Path = submission.write()
    return folder


class Markup(HTMLParser):
    """Gathers elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_nothing_harmful_reaches_a_page_or_a_table(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = f"runs_dir={tmp_path / 'runs'}"
    assert main(["ingest", f"submission={harmful(submission)}", runs]) == 0, capsys.readouterr().err
    assert main(["run", "pair=my-pair", runs, *QUICK]) == 0, capsys.readouterr().err
    run = Path(capsys.readouterr().out.splitlines()[-1])
    html = (run / "report" / "report.html").read_text(encoding="utf-8")
    page = Markup()
    page.feed(html)
    assert not page.elements & {"script", "iframe", "img", "object", "embed", "form", "base", "link"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "srcdoc"]
    assert not [value for _, value in page.attributes if "javascript:" in value]
    assert not [one for one in HARMFUL if "<" in one and one in html]
    assert "script-src" in html or "default-src 'none'" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html  # the first model's name is shown
    cells = [
        (path.name, cell)
        for path in sorted(tmp_path.glob("runs/**/*.csv"))
        for row in csv.reader(path.read_text(encoding="utf-8").splitlines())
        for cell in row
    ]
    assert any("cmd|" in cell for _, cell in cells)
    assert [(name, cell) for name, cell in cells if FORMULA.match(cell) and not is_number(cell)] == []


def is_number(cell: str) -> bool:
    """Whether a cell is a number, or the dash that stands for none."""
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True
