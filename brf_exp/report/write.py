"""A whole report into one folder: page, figures, tables."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brf_exp.report.gallery import FIGURES
from brf_exp.report.load import Run, input_files
from brf_exp.report.page import page
from brf_exp.report.style import FORMATS, encode, inline_svg, settle
from brf_exp.report.tables import tables, to_csv, to_latex
from brf_exp.report.templating import TEMPLATES
from brf_exp.storage.captures import MANIFEST as CAPTURE_MANIFEST
from brf_exp.storage.captures import sha256_of
from brf_exp.storage.runs import MANIFEST, content_key, read_json

PAGE = "report.html"
REPORT_SCHEMA = 1
VOLATILE = ("environment",)


def report_key(run: Run) -> tuple[str, dict[str, Any]]:
    """Hash of everything that determines a report, and what that is: inputs, this package's sources, matplotlib."""
    import matplotlib as mpl

    determines = {
        "schema": REPORT_SCHEMA,
        "inputs": {name: _identity(path) for name, path in input_files(run).items()},
        "captures": sorted(run.captures),
        "sources": _sources(),
        "matplotlib": mpl.__version__,
    }
    return content_key(determines), determines


def write_report(run: Run, folder: Path, *, on_step: Callable[[str], None] = lambda name: None) -> list[str]:
    """Fill a folder with report.html, figures/ and tables/; returns the names of the files. Same run, same bytes."""
    (folder / "figures").mkdir(parents=True)
    (folder / "tables").mkdir()
    elements = {}
    for name, make in FIGURES.items():
        on_step(f"figure {name}")
        drawn = make(run)
        if drawn is None:
            continue
        settle(drawn.figure)
        encoded = {kind: encode(drawn.figure, kind, name=name) for kind in FORMATS}
        for kind, content in encoded.items():
            (folder / "figures" / f"{name}.{kind}").write_bytes(content)
        elements[name] = inline_svg(encoded["svg"], name=name, label=drawn.label)
    made = tables(run)
    for name, table in made.items():
        _write_text(folder / "tables" / f"{name}.csv", to_csv(table))
        if table.paper:
            _write_text(folder / "tables" / f"{name}.tex", to_latex(table))
    on_step("page")
    _write_text(folder / PAGE, page(run, figures=elements, tables=made))
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _write_text(path: Path, text: str) -> None:
    """UTF-8 with plain line ends; half of a character that a stranger's text may hold becomes a question mark."""
    path.write_bytes(text.encode("utf-8", "replace"))


def _identity(path: Path) -> str:
    """SHA-256 of a file; of a manifest, without what differs from one making to the next."""
    if path.name not in (MANIFEST, CAPTURE_MANIFEST):
        return sha256_of(path)
    return content_key({name: value for name, value in read_json(path).items() if name not in VOLATILE})


def _sources() -> str:
    """One hash over the code and templates that draw."""
    digest = hashlib.sha256()
    for path in sorted([*Path(__file__).parent.glob("*.py"), *TEMPLATES.iterdir()]):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
