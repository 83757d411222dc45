"""How every stage ends: a whole folder of results, tables and manifest, or none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from brf_exp.config import StageConfig
from brf_exp.errors import StatisticalError
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.storage.runs import (
    CONFIG,
    MANIFEST,
    RESULTS,
    building,
    content_key,
    locked,
    manifest,
    read_json,
    write_config,
    write_json,
)
from brf_exp.storage.tables import write_table

Tables = dict[str, dict[str, Any]]


def is_done(folder: Path, key: str) -> bool:
    """Does a folder hold whole results made under this key?"""
    path = folder / MANIFEST
    return path.is_file() and (folder / RESULTS).is_file() and bool(read_json(path)["key"] == key)


def once(
    final: Path,
    *,
    stage: str,
    subject: str,
    determines: dict[str, Any],
    config: StageConfig | None = None,
    make: Callable[[], tuple[dict[str, Any], Tables]],
) -> Path:
    """The folder of a stage's results and tables: found made under the same key, or made now, whole or not at all.

    `determines` is everything the results depend on; `subject` is what errors call it. A statistic that the data do
    not define becomes a StatisticalError; any other error is a bug and passes.
    """
    key = content_key(determines)
    with locked(final):
        if is_done(final, key):
            return final
        try:
            results, tables = make()
        except UndefinedStatisticError as error:
            raise StatisticalError(f"`{stage}` cannot be computed for {subject}: {error}.") from error
        with building(final) as partial:
            write_json(partial / RESULTS, results)
            if config is not None:
                write_config(partial / CONFIG, config)
            for name, columns in tables.items():
                write_table(partial / f"{name}.parquet", columns)
            write_json(partial / MANIFEST, manifest(stage=stage, key=key, determines=determines))
    return final
