"""Stage `collect`: one table and one page over many runs, with multiplicity handled across pairs."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import brf_exp
from brf_exp.config import CollectStageConfig
from brf_exp.errors import MissingInputError
from brf_exp.report.collect_load import Collection
from brf_exp.report.collect_write import write_collection
from brf_exp.report.write import PAGE
from brf_exp.stages import progress
from brf_exp.stages.collect_cells import COLUMNS
from brf_exp.stages.collect_claims import (
    CLAIM_COLUMNS,
    CORRECTIONS,
    Family,
    claim_families,
    claim_ids,
    claim_rows,
    claim_summaries,
    number_families,
)
from brf_exp.stages.collect_find import Found, LeftOut, find
from brf_exp.stages.collect_read import NotCollectedError, RunRecord, read_run
from brf_exp.stages.collect_subjects import subjects_of
from brf_exp.stages.ledger import load_ledger
from brf_exp.storage.captures import sha256_of
from brf_exp.storage.records import write_records
from brf_exp.storage.runs import (
    CONFIG,
    MANIFEST,
    RESULTS,
    building,
    content_key,
    locked,
    manifest,
    read_json,
    stage_folder,
    write_config,
    write_json,
)

# Goes up whenever the same runs make another collection.
COLLECT_SCHEMA = 2
FOLDER = "collect"
# Columns of the table by the family that corrects them: which runs count, and the start of their names.
CORRECTED = {
    "phase coherence": ("coherence_counted", "coherence"),
    "discrimination": ("difference_counted", "difference"),
}
TABLE_COLUMNS: dict[str, type] = COLUMNS | {
    name: kind
    for counted, start in CORRECTED.values()
    for name, kind in {counted: bool, **{f"{start}_pvalue_{c}": float for c in CORRECTIONS}}.items()
}


@dataclass(frozen=True)
class Gathered:
    """Runs in the order of the table, and what is left out, with folders relative to the collection's."""

    runs: list[RunRecord]
    left_out: list[dict[str, str]]
    pages: dict[str, str]


def run(config: CollectStageConfig) -> Path:
    """Collect the runs that `runs` means; the folder of tables and page. Nothing is done where nothing changed."""
    runs_dir = Path(config.runs_dir)
    with progress.steps("collect", 3, enabled=config.progress) as step:
        step("find runs")
        found = find(config.runs, runs_dir)
        step(f"read {len(found.folders)} folders")
        gathered = _gather(found, runs_dir / FOLDER / "-", config)
        key, determines = _identity(gathered, config)
        final = stage_folder(runs_dir, FOLDER, config.name, key)
        step("write")
        with locked(final):
            if not _is_whole(final, key):
                _write(final, gathered, config, key, determines)
    _say(read_json(final / RESULTS), final)
    return final


def _gather(found: Found, place: Path, config: CollectStageConfig) -> Gathered:
    """Read every folder; what cannot be read, or was read already, is left out with its reason."""
    shipped = {claim.test: claim for claim in load_ledger(None)}
    runs, left_out = [], list(found.left_out)
    for folder in found.folders:
        try:
            runs.append(read_run(folder, shipped, map_name=config.map))
        except NotCollectedError as error:
            left_out.append(LeftOut(folder, " ".join(str(error).split())))
        except OSError as error:
            left_out.append(LeftOut(folder, f"cannot be read: {error.strerror}"))
    once, repeated = _once(runs)
    left_out += repeated
    if not once:
        raise MissingInputError(
            f"`runs` must match at least one finished run, got none in {_count(len(left_out), 'folder')}. "
            f"The first, {left_out[0].folder}: {left_out[0].reason}."
        )
    subjects = subjects_of([record.links for record in once])
    once = [replace(record, subject=subject) for record, subject in zip(once, subjects, strict=True)]
    once.sort(key=lambda run: (run.cells["pair"], run.cells["corpus"], run.cells["condition"], run.order))
    named = [_named(run, place) for run in once]
    pages = {run.cells["folder"]: "report/report.html" for run in named if _has_page(run.folder)}
    listed = [{"folder": _relative(one.folder, place), "reason": one.reason} for one in left_out]
    return Gathered(named, sorted(listed, key=lambda one: (one["folder"], one["reason"])), pages)


def _has_page(folder: Path) -> bool:
    try:
        return (folder / "report" / PAGE).is_file()
    except OSError:
        return False


def _once(runs: list[RunRecord]) -> tuple[list[RunRecord], list[LeftOut]]:
    """Each content once: whole runs before tests on their own, which may be part of one."""
    seen: dict[str, Path] = {}
    kept, repeated = [], []
    for record in sorted(runs, key=lambda run: -len(run.covers)):
        own = record.covers[0]
        if own in seen:
            repeated.append(LeftOut(record.folder, f"the same content as {seen[own].name}"))
            continue
        kept.append(record)
        for key in record.covers:
            seen.setdefault(key, record.folder)
    return kept, repeated


def _named(record: RunRecord, place: Path) -> RunRecord:
    return replace(record, cells=record.cells | {"folder": _relative(record.folder, place)})


def _relative(path: Path, start: Path) -> str:
    """A path as links from the collection's page need it, so that a runs folder can be moved."""
    relative = Path(os.path.relpath(path, start)).as_posix()
    return relative.encode("utf-8", "replace").decode("utf-8")


def _identity(gathered: Gathered, config: CollectStageConfig) -> tuple[str, dict[str, Any]]:
    """Hash of everything that the collection depends on, and what that is."""
    import matplotlib as mpl

    determines = {
        "schema": COLLECT_SCHEMA,
        "version": brf_exp.__version__,
        "matplotlib": mpl.__version__,
        "alpha": config.alpha,
        "map": config.map,
        "name": config.name,
        "runs": {run.cells["folder"]: run.content for run in gathered.runs},
        "pages": gathered.pages,
        "left_out": gathered.left_out,
    }
    return content_key(determines), determines


def _is_whole(folder: Path, key: str) -> bool:
    """Was this collection made from the same things, and is every file of it as it was written?"""
    try:
        described = read_json(folder / MANIFEST)
        files = described["files"]
        whole = all(sha256_of(folder / name) == sha for name, sha in files.items())
        return bool(described["key"] == key and whole and {RESULTS, PAGE} <= set(files))
    except (OSError, RecursionError, ValueError, LookupError, AttributeError, TypeError):
        return False  # not there, or damaged: made again


def _write(final: Path, gathered: Gathered, config: CollectStageConfig, key: str, determines: dict[str, Any]) -> None:
    collection, columns = _collection(gathered, config)
    with building(final) as partial:
        write_json(partial / RESULTS, collection.results)
        write_config(partial / CONFIG, replace(config, runs=None))
        write_records(partial / "table.parquet", collection.rows, columns)
        write_records(partial / "claims.parquet", collection.claim_rows, CLAIM_COLUMNS)
        write_collection(collection, partial, columns=list(columns), claim_columns=list(CLAIM_COLUMNS))
        names = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
        files = {name: sha256_of(partial / name) for name in names}
        write_json(partial / MANIFEST, manifest(stage="collect", key=key, determines=determines, files=files))


def _collection(gathered: Gathered, config: CollectStageConfig) -> tuple[Collection, dict[str, type]]:
    """Everything that is written, and the columns of the table with their types."""
    runs, alpha = gathered.runs, config.alpha
    numbers, verdicts = number_families(runs), claim_families(runs, alpha=alpha)
    rows_of_claims = claim_rows(runs, verdicts, alpha=alpha)
    results = {
        "schema": 1,
        "stage": "collect",
        "name": config.name,
        "alpha": alpha,
        "map": config.map,
        "n_runs": len(runs),
        "n_pairs": len({run.subject for run in runs}),
        "n_left_out": len(gathered.left_out),
        "n_ledgers": len({run.ledger for run in runs if run.ledger}),
        "claims": claim_summaries(runs, rows_of_claims, {claim for claim, _ in verdicts}),
        "families": [family.summary(alpha) for family in (*numbers, *verdicts.values())],
        "left_out": gathered.left_out,
    }
    columns = TABLE_COLUMNS | {_verdict_column(claim): str for claim in claim_ids(runs)}
    rows = [_row(place, record, numbers) for place, record in enumerate(runs)]
    return Collection(results, rows, rows_of_claims, gathered.pages), columns


def _row(place: int, record: RunRecord, families: list[Family]) -> dict[str, Any]:
    row = record.cells | {_verdict_column(claim.id): claim.verdict for claim in record.claims}
    for family in families:
        counted, start = CORRECTED[family.claim]
        row[counted] = place in family.runs
        if place in family.runs:
            row |= {f"{start}_{name}": value for name, value in family.of(place).items()}
    return row


def _verdict_column(claim_id: str) -> str:
    return f"verdict_{claim_id.replace('.', '_')}"


def _say(results: dict[str, Any], folder: Path) -> None:
    """What came out, for whoever sits at the terminal."""
    counts = (_count(results[f"n_{name}"], word) for name, word in (("runs", "run"), ("pairs", "pair")))
    left_out = results["n_left_out"]
    more = f"; {_count(left_out, 'folder')} left out, the page says why" if left_out else ""
    print(f"{' of '.join(counts)} (models, corpus, condition){more}")
    for claim in results["claims"]:
        print(f"{claim['id']}: {claim['sentence']}")
    print(f"Page: {folder / PAGE}")


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
