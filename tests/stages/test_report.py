import json
import os
import re

import pytest

from brf_exp.config import ReportStageConfig
from brf_exp.errors import MissingInputError
from brf_exp.report.gallery import FIGURES
from brf_exp.stages.report import redraw, report_of, run
from brf_exp.storage.runs import read_json


@pytest.fixture
def one_figure(monkeypatch):
    """Reports with one figure in one format, where the drawing is not what is tested."""
    monkeypatch.setattr("brf_exp.report.write.FIGURES", {"map_intervals": FIGURES["map_intervals"]})
    monkeypatch.setattr("brf_exp.report.write.FORMATS", ("svg",))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_report_holds_page_figures_and_tables_and_is_the_same_bytes_again(make_run):
    folder = make_run()
    page = report_of(folder, progress=False)
    assert page == folder / "report" / "report.html"
    first = contents(page.parent)
    not_measured = {"pair_forest", "kuramoto_order", "auc_comparison", "reliability_diagram"}
    drawn = set(FIGURES) - not_measured
    assert {f"figures/{name}.{kind}" for name in drawn for kind in ("svg", "png", "pdf")} <= set(first)
    assert {"tables/claims.csv", "tables/claims.tex", "tables/contrasts.csv", "manifest.json"} <= set(first)
    assert set(read_json(page.parent / "manifest.json")["files"]) == set(first) - {"manifest.json"}
    assert not list(folder.glob("*.partial"))
    again = contents(redraw(folder).parent)
    assert [name for name in first if name != "manifest.json" and first[name] != again[name]] == []
    assert first.keys() == again.keys()


def test_a_whole_report_is_not_drawn_again(make_run, one_figure):
    folder = make_run()
    page = report_of(folder, progress=False)
    os.utime(page, ns=(1, 1))
    manifest = read_json(folder / "manifest.json")
    manifest["environment"]["finished"] = "later"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    report_of(folder, progress=False)
    assert page.stat().st_mtime_ns == 1
    redraw(folder)
    assert page.stat().st_mtime_ns != 1


@pytest.mark.parametrize("what", ["result", "damage"])
def test_a_report_is_drawn_again_when_something_changed(make_run, one_figure, what):
    folder = make_run()
    page = report_of(folder, progress=False)
    old = page.read_text(encoding="utf-8")
    path = folder / "claims" / "results.json" if what == "result" else page
    path.write_text(path.read_text(encoding="utf-8").replace("no gain over linear", "something else"), encoding="utf-8")
    new = report_of(folder, progress=False).read_text(encoding="utf-8")
    assert (new == old) == (what == "damage")


def test_a_report_that_fails_leaves_the_old_one(make_run, one_figure, monkeypatch):
    folder = make_run()
    before = contents(report_of(folder, progress=False).parent)

    def fail(*args, **options):
        raise RuntimeError("no")

    monkeypatch.setattr("brf_exp.report.write.page", fail)
    with pytest.raises(RuntimeError, match="no"):
        redraw(folder)
    assert contents(folder / "report") == before
    assert not list(folder.glob("*.partial"))


def test_the_newest_run_is_taken(make_run, one_figure):
    old, new = make_run("old"), make_run("new", stages=("coherence",), captures=False, proxy=False)
    os.utime(old / "results.json", ns=(1, 1))
    page = run(ReportStageConfig(runs_dir=str(new.parent.parent), progress=False))
    assert page == new / "report" / "report.html"


def test_no_run_is_one_line_that_names_the_command(tmp_path):
    message = f"`{tmp_path / 'run'}` must hold a finished run, got none. Make a run with `brf-exp run`."
    with pytest.raises(MissingInputError, match=f"^{re.escape(message)}$"):
        run(ReportStageConfig(runs_dir=str(tmp_path), progress=False))


def test_a_folder_that_is_no_run_is_left_untouched(tmp_path):
    with pytest.raises(MissingInputError, match="must be a run folder with results of a test"):
        run(ReportStageConfig(run=str(tmp_path), progress=False))
    assert list(tmp_path.iterdir()) == []
