"""Which folders `runs=` means: a run, a folder of runs, a runs folder, a sweep, or a pattern."""

import glob
import json
from dataclasses import dataclass, field
from pathlib import Path

from brf_exp.errors import MissingInputError
from brf_exp.stages.ledger import FROZEN
from brf_exp.storage.runs import MANIFEST, RESULTS

# Under a runs folder: whole runs, and the tests where they were run on their own.
STAGES = ("run", "coherence", "discriminate")
SWEEP_RECORD = "status.json"
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
        """Add a run folder, or everything that a folder of folders holds."""
        folder = folder.absolute()
        records = sorted(folder.glob(f"*/{SWEEP_RECORD}"))
        if any((folder / name).is_file() for name in _MARKS):
            self.folders[folder] = None
        elif records:
            self._add_sweep(records)
        elif any(_is_folder_of_runs(folder / stage) for stage in STAGES):
            for stage in STAGES:
                self._add_all(folder / stage)
        else:
            self._add_all(folder)

    def _add_all(self, parent: Path) -> None:
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            if path.is_dir() and not path.name.startswith("."):
                self.folders[path] = None

    def _add_sweep(self, records: list[Path]) -> None:
        for path in records:
            made, reason = _job(path)
            if made is None:
                self.left_out.append(LeftOut(path.parent, reason))
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
    if Path(wanted).exists():
        return [Path(wanted)]
    return [Path(match) for match in sorted(glob.glob(wanted)) if Path(match).is_dir()]  # noqa: PTH207 - may be absolute


def _is_folder_of_runs(folder: Path) -> bool:
    return folder.is_dir() and not any((folder / name).is_file() for name in _MARKS)


def _job(path: Path) -> tuple[Path | None, str]:
    """The folder that a job of a sweep made, or None and what became of the job."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        status, made = str(record["status"]), record.get("made")
        said = [str(record.get("message") or ""), ", ".join(map(str, record.get("overrides") or []))]
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        return None, f"its record of a sweep cannot be read: {error}"
    if status == "DONE" and made:
        return Path(str(made)), ""
    message, overrides = (" ".join(text.split()) for text in said)
    return None, f"job of a sweep [{overrides}]: {status.lower()}{': ' if message else ''}{message}"
