"""How a CSV is written: what separates values, what marks decimals; told from its header and first rows."""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from brf_exp.submission.batches import File
from brf_exp.submission.fault import Place, listed, said
from brf_exp.submission.unpacked import open_unpacked

SAMPLE_BYTES: Final = 256 * 1024
LONGEST_LINE_BYTES: Final = 8 * 1024 * 1024
MOST_COLUMNS: Final = 20_000
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
WHOLE: Final = re.compile(r"position|token_id|char_start|char_end|target_rank|id_[0-9]+")
DECIMAL: Final = re.compile(r"target_logit|target_logprob|entropy|logsumexp(_t.*)?|(logit|logprob)_[0-9]+")
THOUSANDS: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")
OTHER_ENCODINGS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True)
class Dialect:
    """Column names, the delimiter, the decimal mark, and how many bytes the header takes."""

    names: tuple[str, ...]
    delimiter: str
    decimal: str
    header_bytes: int

    @property
    def separated_by(self) -> str:
        """The delimiter in words."""
        return DELIMITERS[self.delimiter]


def dialect_of(file: File) -> Dialect:
    """Tell how a CSV is written; InputError where that cannot be told or read."""
    _, place = file
    with open_unpacked(file) as stream:
        header = stream.readline(LONGEST_LINE_BYTES)
        sample = stream.read(SAMPLE_BYTES)
    line = _header_line(header, place)
    delimiter = _delimiter(line, place)
    names = tuple(name.strip() for name in _split(line, delimiter))
    if not names:
        raise said(place, "must start with a header of column names, got something else. Dump it again.")
    if len(names) > MOST_COLUMNS:
        raise said(place, f"must have at most {MOST_COLUMNS} columns, got {len(names)}. Dump fewer values per row.")
    return Dialect(names, delimiter, _decimal(names, delimiter, sample, place), len(header))


def _header_line(header: bytes, place: Place) -> str:
    """The header as text."""
    other = next((name for mark, name in OTHER_ENCODINGS.items() if header.startswith(mark)), None)
    if other is None and b"\0" in header:
        other = "UTF-16 or binary data"
    if other:
        raise said(place, f"must be UTF-8 text, got {other}. Save it as UTF-8.")
    try:
        line = header.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise said(place, "must be UTF-8 text, got other bytes in its header. Save it as UTF-8.") from error
    if not line.strip():
        raise said(place, "must start with a header of column names, got an empty line or file. Dump it again.")
    if "\r" in line.rstrip("\r\n"):
        raise said(place, "must end its lines with a line feed, got carriage returns alone. Save it with LF or CRLF.")
    return line.rstrip("\r\n")


def _split(line: str, delimiter: str) -> list[str]:
    """The fields of one line; none where a field is too long for one."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _delimiter(line: str, place: Place) -> str:
    """What stands around `position` in the header; blanks only where nothing else does."""
    fitting = [mark for mark in DELIMITERS if "position" in (name.strip() for name in _split(line, mark))]
    marks = [mark for mark in fitting if mark in line and mark != " "]
    if len(marks) > 1:
        words = " or ".join(DELIMITERS[mark] for mark in marks)
        raise said(place, f"must have one delimiter, got a header that {words} could separate. Use commas alone.")
    return marks[0] if marks else (" " if " " in fitting and " " in line.strip() else ",")


def _cells(names: Sequence[str], delimiter: str, sample: bytes) -> Iterator[tuple[str, str]]:
    """Column and text of the decimal numbers in the sample's whole lines."""
    lines = sample.decode("utf-8", errors="replace").splitlines()[: None if len(sample) < SAMPLE_BYTES else -1]
    for row in csv.reader(lines, delimiter=delimiter):
        if len(row) == len(names):
            yield from ((name, cell.strip()) for name, cell in zip(names, row, strict=True) if DECIMAL.fullmatch(name))


def _decimal(names: Sequence[str], delimiter: str, sample: bytes, place: Place) -> str:
    """A comma where every fraction of the sample has one; a point otherwise, and cells that differ are faults."""
    if delimiter == "," and b'"' not in sample:
        return "."  # a comma would separate
    try:
        cells = [(name, cell) for name, cell in _cells(names, delimiter, sample) if "," in cell or "." in cell]
    except csv.Error:
        return "."
    if not cells or any("." in cell for _, cell in cells):
        return "."
    if all(THOUSANDS.fullmatch(cell) for _, cell in cells):
        columns = sorted({name for name, _ in cells})
        raise said(
            place.at(column=columns[0]),
            f"must tell decimals from thousands, got {cells[0][1]!r} and the like in {listed(columns)}. "
            "Write numbers with a decimal point.",
        )
    return ","
