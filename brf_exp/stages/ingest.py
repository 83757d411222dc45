"""Stage `ingest`: check a collaborator's submission and import it as one capture per model."""

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from brf_exp.config import CaptureConfig, IngestStageConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.paths import conf_dir
from brf_exp.storage import captures, runs
from brf_exp.submission.archive import opened
from brf_exp.submission.description import FILE_NAME as DESCRIPTION
from brf_exp.submission.description import Description, read_description
from brf_exp.submission.fault import Place, listed, said
from brf_exp.submission.importing import Table, check_alignment, open_table, write_capture
from brf_exp.submission.record import PAIR, PAIR_SCHEMA, capture_manifest, pair_record
from brf_exp.submission.tables import BLOCK_BYTES, open_unpacked
from brf_exp.submission.texts import FILE_NAME as TEXTS
from brf_exp.submission.texts import check_texts, read_text_lengths


def run(config: IngestStageConfig) -> Path:
    """Import a submission; returns `<runs_dir>/submissions/<name>`.

    The same content under the same name returns the folder that is there. Nothing is left behind on failure.

    Raises
    ------
    ConfigError
        Where no submission is given, or `runs_dir` cannot be written to.
    InputError
        Where the submission cannot be used, or the name is taken and `replace` is not set.
    """
    if not config.submission:
        raise ConfigError("`submission` must be a folder, .zip or .tar.gz, got nothing. Say `submission=PATH`.")
    with opened(Path(config.submission).expanduser()) as folder:
        reserved = frozenset(path.stem for path in (conf_dir() / "pair").glob("*.yaml"))
        _refuse_links(folder)
        description = read_description(folder, reserved=reserved)
        tables = [open_table(folder, member) for member in description.members]
        content = _content_sha256(description, tables, folder / TEXTS)
        final = Path(config.runs_dir).resolve() / "submissions" / description.name
        if _is_there(final, content, replace=config.replace):
            return final
        _require_writable(final, config.runs_dir)
        _warn_of_ignored(tables)
        with _nothing_left_behind(final), runs.locked(final), runs.building(final) as building:
            _import(building, folder, description, tables, content)
        return final


def _require_writable(final: Path, runs_dir: str) -> None:
    """The folders that are there already can be written to."""
    there = next(parent for parent in final.parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"`runs_dir` must be a folder that can be written to, got {runs_dir!r}. Choose another.")


def _refuse_links(folder: Path) -> None:
    """The files with fixed names are the submission's own, not links to others."""
    for name in (DESCRIPTION, TEXTS):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise said(name, "must be a file inside the submission. Put the file itself there.")


def _content_sha256(description: Description, tables: list[Table], texts: Path) -> str:
    """Hash of everything submitted: what is declared, and the unpacked bytes of the tables and texts."""
    files = {table.member.key: [_unpacked_sha256(*file) for file in table.source.files] for table in tables}
    hashed_texts = _unpacked_sha256(texts, Place(TEXTS)) if texts.is_file() else None
    return runs.content_key(
        {"schema": PAIR_SCHEMA, "declared": description.declared(), "files": files, "texts": hashed_texts}
    )


def _unpacked_sha256(path: Path, place: Place) -> str:
    """SHA-256 of a file's bytes, gunzipped where it is a .gz."""
    digest = hashlib.sha256()
    with open_unpacked(path, place) as stream:
        while chunk := stream.read(BLOCK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_there(final: Path, content: str, *, replace: bool) -> bool:
    """Whether this content was imported before; InputError where other content has the name."""
    if not final.exists():
        return False
    pair = final / PAIR
    try:
        same = pair.is_file() and runs.read_json(pair).get("content_sha256") == content
    except (ValueError, AttributeError):
        same = False
    if not same and not replace:
        raise InputError(
            f"`name` must be one that no other submission has in {final.parent}, got {final.name!r}. "
            "Say `replace=true` to replace the earlier one."
        )
    return same


def _warn_of_ignored(tables: list[Table]) -> None:
    """One line on stderr that names the columns nobody reads."""
    ignored = [f"{listed(table.layout.ignored)} in {table.source.place}" for table in tables if table.layout.ignored]
    if ignored:
        print(f"brf-exp: ignored columns that are not read: {'; '.join(ignored)}.", file=sys.stderr)


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


def _import(building: Path, folder: Path, description: Description, tables: list[Table], content: str) -> None:
    """Fill the folder of a submission."""
    rows_per_part = CaptureConfig().rows_per_part
    imported = [write_capture(building / t.member.key, t, rows_per_part=rows_per_part) for t in tables]
    check_alignment(imported)
    if (folder / TEXTS).is_file():
        lengths = read_text_lengths(folder / TEXTS)
        for one in imported:
            check_texts(lengths, one)
        shutil.copyfile(folder / TEXTS, building / TEXTS)
    for one in imported:
        runs.write_json(one.folder / captures.MANIFEST, capture_manifest(description, one))
    runs.write_json(building / PAIR, pair_record(description, imported, content))
    determines = {"declared": description.declared(), "content_sha256": content}
    runs.write_json(building / runs.MANIFEST, runs.manifest(stage="ingest", key=content, determines=determines))
