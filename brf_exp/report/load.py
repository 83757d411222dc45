"""A run folder in memory: every stage's results, and its per-position tables as data frames."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brf_exp.errors import InputError, MissingInputError
from brf_exp.storage.captures import MANIFEST as CAPTURE_MANIFEST
from brf_exp.storage.runs import MANIFEST, RESULTS
from brf_exp.storage.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("coherence", "discriminate", "audit", "claims")
TABLES = {
    "phases": Path("coherence", "positions.parquet"),
    "repairings": Path("coherence", "repairings.parquet"),
    "losses": Path("discriminate", "positions.parquet"),
    "coherence_curve": Path("discriminate", "coherence_curve.parquet"),
}
MAKE_A_RUN = "Make a run with `brf-exp run`."


@dataclass(frozen=True)
class Run:
    """What a run has stored. A stage that was not run is None; so are its tables.

    `tables`: columns as arrays, by the names of TABLES; the properties of the same names are data frames.
    `captures`: folders by role (a, b, proxy), of those that are still there.
    """

    folder: Path
    summary: dict[str, Any]
    coherence: dict[str, Any] | None
    discrimination: dict[str, Any] | None
    audit: dict[str, Any] | None
    claims: dict[str, Any] | None
    manifests: dict[str, dict[str, Any]]
    captures: dict[str, Path]
    tables: dict[str, dict[str, np.ndarray]]

    @property
    def measured(self) -> dict[str, Any]:
        """The results that say what was measured: of coherence, else of discrimination."""
        return self.coherence or self.discrimination or {}

    @property
    def phases(self) -> "pd.DataFrame | None":
        """One row per position: gaps in logits and phases in radians of both models."""
        return self._frame("phases")

    @property
    def repairings(self) -> "pd.DataFrame | None":
        """One row per re-pairing of documents: excess coherence, plain and beyond shared difficulty."""
        return self._frame("repairings")

    @property
    def losses(self) -> "pd.DataFrame | None":
        """One row per position: log losses in nats and what Born Rule Fusion is made of there."""
        return self._frame("losses")

    @property
    def coherence_curve(self) -> "pd.DataFrame | None":
        """Mean log loss in nats of one constant interference factor c, along c."""
        return self._frame("coherence_curve")

    def _frame(self, name: str) -> "pd.DataFrame | None":
        import pandas as pd  # here, so that a report is drawn without waiting for pandas

        return pd.DataFrame(self.tables[name]) if name in self.tables else None

    @property
    def verdicts(self) -> "pd.DataFrame":
        """One row per claim: id, verdict, reason, sentence."""
        import pandas as pd

        claims = self.claims["claims"] if self.claims else []
        names = ["id", "verdict", "reason", "sentence"]
        return pd.DataFrame([[claim[name] for name in names] for claim in claims], columns=names)


def load_run(folder: Path | str) -> Run:
    """The run in a folder, as printed by `brf-exp run`.

    Raises MissingInputError where there are no results of either test, InputError where a file is not what
    this version writes.
    """
    folder = Path(folder).absolute()
    results = {stage: _read(folder / stage / RESULTS) for stage in STAGES}
    if results["coherence"] is None and results["discriminate"] is None:
        raise MissingInputError(f"`run` must be a run folder with results of a test, got {str(folder)!r}. {MAKE_A_RUN}")
    summary = _read(folder / RESULTS) or {}
    manifests = {
        name: _read(folder / place / MANIFEST) for name, place in {"run": ".", **{s: s for s in STAGES}}.items()
    }
    return Run(
        folder=folder,
        summary=summary,
        coherence=results["coherence"],
        discrimination=results["discriminate"],
        audit=results["audit"],
        claims=results["claims"],
        manifests={name: found for name, found in manifests.items() if found is not None},
        captures=_captures(folder, summary),
        tables={name: read_table(folder / path) for name, path in TABLES.items() if (folder / path).is_file()},
    )


def newest_run(runs_dir: Path | str) -> Path:
    """The folder under runs_dir/run that was finished last; MissingInputError where there is none."""
    parent = Path(runs_dir).absolute() / "run"
    found = list(_whole_runs(parent))
    if not found:
        raise MissingInputError(f"`{parent}` must hold a finished run, got none. {MAKE_A_RUN}")
    return max(found, key=lambda path: ((path / RESULTS).stat().st_mtime_ns, path.name))


def input_files(run: Run) -> dict[str, Path]:
    """Every file a report depends on, by a name that does not depend on where the run lies."""
    files = {f"{stage}/{name}": run.folder / stage / name for stage in STAGES for name in (RESULTS, MANIFEST)}
    files |= {name: run.folder / name for name in (RESULTS, MANIFEST)}
    files |= {path.as_posix(): run.folder / path for path in TABLES.values()}
    for role, folder in run.captures.items():
        files[f"captures/{role}/{CAPTURE_MANIFEST}"] = folder / CAPTURE_MANIFEST
    return {name: path for name, path in sorted(files.items()) if path.is_file()}


def _whole_runs(parent: Path) -> Iterator[Path]:
    for path in sorted(parent.glob("*")):
        if path.suffix != ".partial" and (path / RESULTS).is_file():
            yield path


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"`{path}` must be JSON: {error}. Run its stage again.") from error
    if not isinstance(content, dict) or content.get("schema") != 1:
        got = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"`{path}` must have schema 1, got {got!r}. Run its stage again with this version.")
    return content


def _captures(folder: Path, summary: dict[str, Any]) -> dict[str, Path]:
    """A run may have been moved away from its captures: what is not there any more is left out."""
    named = {role: folder / str(place) for role, place in (summary.get("captures") or {}).items() if place}
    return {role: path.resolve() for role, path in sorted(named.items()) if (path / CAPTURE_MANIFEST).is_file()}
