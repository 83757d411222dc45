"""How every stage ends: a whole folder of results, tables and manifest, or none."""

from pathlib import Path
from typing import Any

from brf_exp.storage.runs import MANIFEST, RESULTS, building, manifest, read_json, write_json
from brf_exp.storage.tables import write_table

Tables = dict[str, dict[str, Any]]


def is_done(folder: Path, key: str) -> bool:
    """Does a folder hold whole results made under this key?"""
    path = folder / MANIFEST
    return path.is_file() and (folder / RESULTS).is_file() and bool(read_json(path)["key"] == key)


def finish(
    final: Path,
    *,
    stage: str,
    key: str,
    determines: dict[str, Any],
    results: dict[str, Any],
    tables: Tables | None = None,
    **more: Any,
) -> None:
    """Write results.json, the tables and manifest.json into a folder that appears when it is whole."""
    with building(final) as partial:
        write_json(partial / RESULTS, results)
        for name, columns in (tables or {}).items():
            write_table(partial / f"{name}.parquet", columns)
        write_json(partial / MANIFEST, manifest(stage=stage, key=key, determines=determines, **more))
