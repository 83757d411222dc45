"""Which folders `runs=` means: a run, a folder of runs, a runs folder, a sweep, or a pattern."""

import glob
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from brf_exp.errors import MissingInputError
from brf_exp.stages.ledger import FROZEN
from brf_exp.storage.runs import MANIFEST, RESULTS

# Under a runs folder: whole runs, and the tests where they were run on their own.
STAGES = ("run", "coherence", "discriminate")
# Of a sweep: its jobs, and what became of each of them.
SWEEP, SWEEP_RECORD = "sweep.json", "status.json"
_MARKS = (RESULTS, MANIFEST, FROZEN)


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not in the collection, and why."""

    folder: Path
    reason: str


@dataclass
class Found:
    """Folders to read, each once and in order, and jobs of sweeps that left none."""

    folders: dict[Path, None] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, folder: Path) -> None:
        """Add a run folder, or everything that a folder of folders holds; one that cannot be read is left out."""
        folder = folder.absolute()
        try:
            self._add(folder)
        except OSError as error:
            self.left_out.append(_unreadable(folder, error))

    def _add(self, folder: Path) -> None:
        if any((folder / name).is_file() for name in _MARKS):
            self.folders[folder] = None
        elif (folder / SWEEP).is_file() or any(folder.glob(f"*/{SWEEP_RECORD}")):
            self._add_sweep(folder)
        elif any(_is_folder_of_runs(folder / stage) for stage in STAGES):
            for stage in STAGES:
                self._add_all(folder / stage)
        else:
            self._add_all(folder)

    def _add_all(self, parent: Path) -> None:
        try:
            for path in sorted(parent.iterdir()) if parent.is_dir() else []:
                if path.is_dir() and not path.name.startswith("."):
                    self.folders[path] = None
        except OSError as error:
            self.left_out.append(_unreadable(parent, error))

    def _add_sweep(self, sweep: Path) -> None:
        for job in _jobs(sweep):
            made, reason = _made(job)
            if made is None:
                self.left_out.append(LeftOut(job, reason))
            else:
                self.folders[made] = None


def find(wanted: str | None, runs_dir: Path) -> Found:
    """The folders meant by `runs`; without one, all runs and tests under the runs folder.

    Raises MissingInputError where the pattern matches nothing at all.
    """
    found = Found()
    if wanted is None:
        found.add(runs_dir)
    for folder in [] if wanted is None else _matches(wanted):
        found.add(folder)
    if not found.folders and not found.left_out:
        place = str(runs_dir) if wanted is None else wanted
        raise MissingInputError(
            f"`runs` must match at least one run folder, got none for {place!r}. "
            "Make runs with `brf-exp run`, and quote a pattern: runs='runs/run/*'."
        )
    return found


def _matches(wanted: str) -> list[Path]:
    """A folder of this very name, else every folder that the pattern matches; hidden ones only where it says so."""
    # Other than pathlib's these say no where access is denied, and patterns may be absolute.
    if os.path.exists(wanted):  # noqa: PTH110
        return [Path(wanted)]
    return [Path(match) for match in sorted(glob.glob(wanted)) if os.path.isdir(match)]  # noqa: PTH112, PTH207


def _is_folder_of_runs(folder: Path) -> bool:
    return folder.is_dir() and not any((folder / name).is_file() for name in _MARKS)


def _unreadable(folder: Path, error: OSError) -> LeftOut:
    return LeftOut(folder, f"cannot be read: {error.strerror}")


def _jobs(sweep: Path) -> list[Path]:
    """Folders of a sweep's jobs: those of its last command; all that are there where it has not ended yet.

    Jobs of an earlier version or of files that have changed since stay in the folder, and belong to no sweep any more.
    """
    everything = sorted(path.parent for path in sweep.glob(f"*/{SWEEP_RECORD}"))
    try:
        listed = json.loads((sweep / SWEEP).read_text(encoding="utf-8"))["jobs"]
        return sorted({sweep / str(job["key"]) for job in listed})
    except (OSError, ValueError, LookupError, TypeError):
        return everything


def _made(job: Path) -> tuple[Path | None, str]:
    """The folder that a job of a sweep made, or None and what became of the job."""
    try:
        record = json.loads((job / SWEEP_RECORD).read_text(encoding="utf-8"))
        status, made = str(record["status"]), record.get("made")
        said = [str(record.get("message") or ""), ", ".join(map(str, record.get("overrides") or []))]
    except FileNotFoundError:
        return None, "job of a sweep that was not started"
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        return None, f"its record of a sweep cannot be read: {error}"
    if status == "DONE" and made:
        # Relative to the runs folder (<runs_dir>/sweeps/<sweep>/<job>) where it lies in it, else absolute.
        return Path(os.path.abspath(job / "../../.." / str(made))), ""  # noqa: PTH100 - links stay as they were named
    message, overrides = (" ".join(text.split()) for text in said)
    return None, f"job of a sweep [{overrides}]: {status.lower()}{': ' if message else ''}{message}"
