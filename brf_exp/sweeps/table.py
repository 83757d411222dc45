"""How a sweep went, as a table for people, for programs and for spreadsheets."""

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path

from brf_exp.storage.spreadsheets import csv_cell
from brf_exp.sweeps.jobs import Job, Record, Status, replace_text, stored_path

JSON, CSV = "sweep.json", "sweep.csv"
_COLUMNS = ("job", "overrides", "status", "seconds", "message")
_STYLES = {"DONE": "green", "FAILED": "red", "KILLED": "red", "INTERRUPTED": "yellow"}
_MESSAGE_WIDTH = 90


def show(jobs: list[Job], records: dict[str, Record]) -> None:
    """The table on stderr: with colours on a terminal, plain elsewhere."""
    rows = [_row(job, records.get(job.key)) for job in jobs]
    if sys.stderr.isatty():
        _show_on_terminal(rows)
        return
    widths = [max(len(row[i]) for row in [_COLUMNS, *rows]) for i in range(len(_COLUMNS))]
    for row in [_COLUMNS, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=sys.stderr)
    sys.stderr.flush()


def save(folder: Path, jobs: list[Job], records: dict[str, Record], *, stage: str, launcher: str, code: int) -> None:
    """sweep.json and sweep.csv of the sweep's folder."""
    listed = [_entry(job, records.get(job.key)) for job in jobs]
    summary = {"schema": 1, "stage": stage, "launcher": launcher, "exit_code": code, "jobs": listed}
    replace_text(folder / JSON, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    names = ["job", "key", "overrides", "status", "exit_code", "seconds", "message", "made"]
    cells = io.StringIO()
    writer = csv.writer(cells)
    writer.writerow(names)
    for entry in listed:
        writer.writerow([_cell(entry.get(name)) for name in names])
    replace_text(folder / CSV, cells.getvalue())


def _entry(job: Job, record: Record | None) -> dict[str, object]:
    known = dataclasses.asdict(record or job.record(Status.QUEUED, message="not started"))
    known.pop("schema")
    known["made"] = stored_path(job.folder, known["made"])
    return {"job": job.number, "label": job.label, **known, "status": str(record.status) if record else "NOT STARTED"}


def _row(job: Job, record: Record | None) -> tuple[str, ...]:
    if record is None:
        return str(job.number), job.label, "not started", "", ""
    seconds = "" if record.seconds is None else f"{record.seconds:.1f}"
    message = " ".join(record.message.split())
    if record.status is Status.DONE:
        message = "/".join(Path(record.made or "").parts[-2:])
    elif len(message) > _MESSAGE_WIDTH:
        message = message[: _MESSAGE_WIDTH - 3] + "..."
    return str(job.number), job.label, record.status.lower(), seconds, message


def _show_on_terminal(rows: list[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS, header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        cells = [Text(cell, overflow="fold") for cell in row]
        cells[2].stylize(_STYLES.get(row[2].upper(), ""))
        table.add_row(*cells)
    Console(stderr=True).print(table)


def _cell(value: object) -> object:
    return csv_cell(" ".join(value) if isinstance(value, list) else value)
