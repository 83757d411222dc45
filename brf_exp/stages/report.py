"""Stage `report`: figures, tables and one page of a run, from its stored results alone."""

from pathlib import Path

from brf_exp.config import ReportStageConfig
from brf_exp.report import load_run, newest_run
from brf_exp.report.gallery import FIGURES
from brf_exp.report.load import Run
from brf_exp.report.write import PAGE, report_key, write_report
from brf_exp.stages import progress
from brf_exp.storage.captures import sha256_of
from brf_exp.storage.runs import MANIFEST, building, locked, manifest, read_json, write_json

FOLDER = "report"


def run(config: ReportStageConfig) -> Path:
    """Draw the report of a run (the newest one by default) anew; the path of its page."""
    folder = newest_run(Path(config.runs_dir)) if config.run is None else Path(config.run).absolute()
    return redraw(folder, progress=config.progress)


def report_of(run_folder: Path, *, progress: bool) -> Path:
    """The page of a run's report, drawn unless it is there whole and nothing it depends on has changed."""
    return _report(run_folder, again=False, show=progress)


def redraw(run_folder: Path, *, progress: bool = False) -> Path:
    """Draw a run's report whether or not it is there already; the path of its page."""
    return _report(run_folder, again=True, show=progress)


def _report(run_folder: Path, *, again: bool, show: bool) -> Path:
    made = load_run(run_folder)
    final = made.folder / FOLDER
    with locked(final):
        key, determines = report_key(made)
        if again or not _is_whole(final, key):
            _draw(made, final, key, determines, show=show)
    return final / PAGE


def _draw(made: Run, final: Path, key: str, determines: dict[str, object], *, show: bool) -> None:
    with building(final) as partial, progress.steps("report", len(FIGURES) + 1, enabled=show) as step:
        names = write_report(made, partial, on_step=step)
        files = {name: sha256_of(partial / name) for name in names}
        described = manifest(stage="report", key=key, determines=determines, files=files)
        write_json(partial / MANIFEST, described)


def _is_whole(folder: Path, key: str) -> bool:
    """Was this report made from the same things, and is every file of it as it was written?"""
    if not (folder / MANIFEST).is_file():
        return False
    described = read_json(folder / MANIFEST)
    files = described.get("files", {})
    whole = all((folder / name).is_file() and sha256_of(folder / name) == sha for name, sha in files.items())
    return bool(described["key"] == key and files and whole)
