"""Stage `ingest`: check a collaborator's submission and import it as one capture per model."""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brf_exp.config import CaptureConfig, IngestStageConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.paths import conf_dir
from brf_exp.storage import captures, runs
from brf_exp.submission.aligned import SPANS, align_rows, warn_of_share, write_aligned
from brf_exp.submission.archive import opened
from brf_exp.submission.description import FILE_NAME as DESCRIPTION
from brf_exp.submission.description import Description, read_description
from brf_exp.submission.fault import Place, listed, said
from brf_exp.submission.importing import Imported, Table, open_tables, read_tables
from brf_exp.submission.problems import Problems
from brf_exp.submission.record import (
    PAIR,
    PAIR_SCHEMA,
    Alignment,
    aligned_manifest,
    capture_manifest,
    pair_record,
    provenance,
)
from brf_exp.submission.registry import WARNING
from brf_exp.submission.reject_report import rejection, short_lines, write_report
from brf_exp.submission.same_rows import check_same_rows
from brf_exp.submission.tables import BLOCK_BYTES, Reading, open_unpacked
from brf_exp.submission.texts import FILE_NAME as TEXTS
from brf_exp.submission.texts import check_texts, read_text_lengths

LEAST_MEMORY_MB = 256
TOKENS = "tokens.json"


class _RejectedError(Exception):
    """Ends an import whose problems have been collected."""


@dataclass(frozen=True)
class _Opened:
    """A submission whose description and headers have been read; `tables` are those that can be read further."""

    folder: Path
    description: Description
    tables: list[Table]
    reading: Reading
    problems: Problems


def run(config: IngestStageConfig) -> Path:
    """Import a submission; returns `<runs_dir>/submissions/<name>`.

    The same content under the same name returns the folder that is there. A submission with errors is looked at whole,
    all of its problems are reported, and nothing is left behind.

    Raises
    ------
    ConfigError
        Where no submission is given, `runs_dir` cannot be written to, or the disk is full.
    InputError
        Where the submission cannot be used, or the name is taken and `replace` is not set.
    """
    _check_settings(config)
    problems = Problems()
    final = None
    with _no_full_disk(), problems.catching(), opened(Path(config.submission or "").expanduser()) as folder:
        final = _ingest(config, folder, problems)
    if config.report is not None:
        _write_report(Path(config.report).expanduser(), problems, config)
    if problems.n_errors or final is None:
        if problems.n_errors > 1:
            print("\n".join(short_lines(problems)))
        raise InputError(rejection(problems, report=config.report))
    return final


def _check_settings(config: IngestStageConfig) -> None:
    if not config.submission:
        raise ConfigError("`submission` must be a folder, .zip or .tar.gz, got nothing. Say `submission=PATH`.")
    if config.memory_mb < LEAST_MEMORY_MB:
        raise ConfigError(f"`memory_mb` must be at least {LEAST_MEMORY_MB}, got {config.memory_mb!r}. Allow more.")
    if config.k < 0 or config.k == 1:
        raise ConfigError(f"`k` must be at least 2, or 0 for all, got {config.k!r}. A gap needs two values.")


def _write_report(path: Path, problems: Problems, config: IngestStageConfig) -> None:
    try:
        write_report(path, problems, submission=str(config.submission))
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        raise ConfigError(f"`report` must be a file that can be written, got {config.report!r}: {reason}.") from error


def _ingest(config: IngestStageConfig, folder: Path, problems: Problems) -> Path | None:
    """Import the submission in a folder; None where there are errors."""
    _refuse_links(folder)
    reserved = frozenset(path.stem for path in (conf_dir() / "pair").glob("*.yaml"))
    description = read_description(folder, problems, reserved=reserved)
    reading = Reading(k=config.k)
    tables = open_tables(folder, description.members, problems, reading)
    submission = _Opened(folder, description, tables, reading, problems)
    if problems.n_errors:
        _read(submission, None, config)
        return None
    final = Path(config.runs_dir).resolve() / "submissions" / description.name
    with ThreadPoolExecutor(1) as pool:  # the bytes are hashed while the rows are read, where nothing hangs on it
        hashing = pool.submit(_content_sha256, submission, config)
        if final.exists() and _is_there(final, hashing.result(), replace=config.replace):
            return final
        _require_room(final, config.runs_dir, submission.tables)
        with contextlib.suppress(_RejectedError):
            with _nothing_left_behind(final), runs.locked(final), runs.building(final) as building:
                lines = _import(building, submission, hashing, config)
            print("\n".join(lines))
            return final
    return None


def _require_room(final: Path, runs_dir: str, tables: list[Table]) -> None:
    """The folders that are there already can be written to, and the disk has room for as much as was submitted."""
    there = next(parent for parent in final.parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"`runs_dir` must be a folder that can be written to, got {runs_dir!r}. Choose another.")
    # Parquet packs a CSV to about a third; what is packed already stays as large as it is.
    sizes = [(path.suffix, path.stat().st_size) for table in tables for path, _ in table.source.files]
    needed = sum(size // 4 if suffix in (".csv", ".tsv", ".jsonl", ".json") else size // 2 for suffix, size in sizes)
    free = shutil.disk_usage(there).free
    if free < needed:
        message = f"`runs_dir` must have about {needed} bytes free for this submission, got {free}."
        raise ConfigError(f"{message} Free some, or choose another.")


@contextlib.contextmanager
def _no_full_disk() -> Iterator[None]:
    """One line where the disk runs full after all."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f"`runs_dir` and {tempfile.gettempdir()}"
        raise ConfigError(f"{where} must have room for this submission, got a full disk. Free some.") from error


def _refuse_links(folder: Path) -> None:
    """The files with fixed names are the submission's own, not links to others."""
    for name in (DESCRIPTION, TEXTS):
        try:
            inside = (folder / name).resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside:
            sentence = "must be a file inside the submission. Put the file itself there."
            raise said(name, sentence, check="description-path")


def _content_sha256(submission: _Opened, config: IngestStageConfig) -> str:
    """Hash of everything submitted: what is declared, and the unpacked bytes of the tables and texts."""
    files = {table.member.key: [_unpacked_sha256(*file) for file in table.source.files] for table in submission.tables}
    texts = submission.folder / TEXTS
    hashed_texts = _unpacked_sha256(texts, Place(TEXTS)) if texts.is_file() else None
    content = {
        "schema": PAIR_SCHEMA,
        "declared": submission.description.declared(),
        "files": files,
        "texts": hashed_texts,
    }
    return runs.content_key(content | ({} if config.k == IngestStageConfig.k else {"k": config.k}))


def _unpacked_sha256(path: Path, place: Place) -> str:
    """SHA-256 of a file's bytes, unpacked where it is packed as a whole."""
    digest = hashlib.sha256()
    with open_unpacked(path, place) as stream:
        while chunk := stream.read(BLOCK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_there(final: Path, content: str, *, replace: bool) -> bool:
    """Whether this content was imported before; InputError where other content has the name."""
    pair = final / PAIR
    try:
        same = pair.is_file() and runs.read_json(pair).get("content_sha256") == content
    except (ValueError, AttributeError):
        same = False
    if not same and not replace:
        raise said(
            "name",
            f"must be one that no other submission has in {final.parent}, got {final.name!r}. "
            "Say `replace=true` to replace the earlier one.",
            check="description-value",
        )
    return same


@contextlib.contextmanager
def _nothing_left_behind(final: Path) -> Iterator[None]:
    """On failure, remove the lock and the folders above `final` that were made for it."""
    made = [parent for parent in final.parents if not parent.exists()]
    was_there = final.exists()
    try:
        yield
    except BaseException:
        if not was_there:
            runs.lock_path(final).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise


def _read(submission: _Opened, building: Path | None, config: IngestStageConfig) -> list[Imported]:
    """Check every table and what holds between them, and write them where there is a folder to write to."""
    problems, folder = submission.problems, submission.folder
    imported = read_tables(
        submission.tables,
        problems,
        building=building,
        memory_mb=config.memory_mb,
        rows_per_part=CaptureConfig().rows_per_part,
    )
    for table in submission.tables:
        if table.layout.ignored:
            sentence = f"must have columns of the format, got others: {listed(table.layout.ignored)}. They are ignored."
            problems.add(said(table.source.place, sentence, check="columns-ignored"))
    check_same_rows(imported, problems)
    if (folder / TEXTS).is_file():
        lengths = read_text_lengths(folder / TEXTS, problems)
        for one in imported:
            if one.is_whole:
                check_texts(lengths, one, problems)
    return imported


def _import(building: Path, submission: _Opened, hashing: Future[str], config: IngestStageConfig) -> list[str]:
    """Fill the folder of a submission; returns what to tell about it, in lines."""
    problems, description = submission.problems, submission.description
    imported = _read(submission, building, config)
    alignment, made_by = None, provenance()
    if not problems.n_errors and not description.shared_ids:
        alignment = _align(building, description, imported, problems, made_by)
    if problems.n_errors:
        raise _RejectedError
    for one in imported:
        assert one.folder is not None
        runs.write_json(one.folder / captures.MANIFEST, capture_manifest(description, one, made_by))
    if (submission.folder / TEXTS).is_file():
        shutil.copyfile(submission.folder / TEXTS, building / TEXTS)
    if submission.reading.tokens.texts:
        texts = [text.decode("utf-8", "backslashreplace") for text in submission.reading.tokens.texts]
        runs.write_json(building / TOKENS, texts)
    content = hashing.result()
    record = pair_record(description, imported, content, alignment=alignment, problems=problems)
    runs.write_json(building / PAIR, record)
    determines = {"declared": description.declared(), "content_sha256": content}
    runs.write_json(building / runs.MANIFEST, runs.manifest(stage="ingest", key=content, determines=determines))
    _show_warnings(problems)
    return _summary(description, imported, record["stages"]["says"])


def _align(
    building: Path, description: Description, imported: list[Imported], problems: Problems, made_by: dict[str, Any]
) -> Alignment | None:
    """Captures of the rows that models with different tokenizers share by characters, where spans tell."""
    if not all(set(SPANS) <= set(one.table.columns) for one in imported):
        return None
    rows = align_rows(imported, problems)
    warn_of_share(imported, rows, problems)
    if problems.n_errors or not rows.n_rows:
        return None
    made = write_aligned(building, imported, rows, rows_per_part=CaptureConfig().rows_per_part)
    for one, aligned in zip(imported, made, strict=True):
        folder = building / f"aligned-{aligned.key}"
        runs.write_json(folder / captures.MANIFEST, aligned_manifest(description, one, aligned, made_by))
    return Alignment(rows, made)


def _show_warnings(problems: Problems) -> None:
    for problem in problems.listed:
        if problem.severity == WARNING:
            print(f"brf-exp: warning: {problem.line}", file=sys.stderr)


def _summary(description: Description, imported: list[Imported], says: dict[str, str]) -> list[str]:
    """What was imported and what each test can do with it, in lines."""
    counts = ", ".join(
        f"{one.table.member.key} {one.places.n_rows} rows in {len(one.documents)} documents" for one in imported
    )
    return [f"{description.name}: {counts}.", *(f"  {stage}: {line}" for stage, line in says.items())]
