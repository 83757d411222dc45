"""JSON objects of a file, one per line, or all of a .json file as one list or object."""

import json
from collections.abc import Iterator
from typing import Any, Final

from brf_exp.submission.batches import File
from brf_exp.submission.fault import Place, SubmissionError, fault, said
from brf_exp.submission.unpacked import open_unpacked

LONGEST_LINE_BYTES: Final = 64 * 1024 * 1024
Record = dict[str, Any]


def records(file: File) -> Iterator[tuple[Place, Record]]:
    """Every object of a file with the line (in a list: the entry) it stands in.

    Raises
    ------
    InputError
        Naming the line that is too long, not UTF-8, or no JSON object.
    """
    path, _ = file
    yield from _entries(file) if ".json" in map(str.lower, path.suffixes) else _lines(file)


def _lines(file: File) -> Iterator[tuple[Place, Record]]:
    """The objects of a file with one per line; blank lines are left out."""
    _, place = file
    with open_unpacked(file) as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE_BYTES):
            number += 1
            where = Place(f"{place.file} line {number}")
            if len(line) == LONGEST_LINE_BYTES:
                raise said(where, f"must be at most {LONGEST_LINE_BYTES} bytes. Write one response per line.")
            if line.strip():
                yield where, _record(_parsed(line, where), where)


def _entries(file: File) -> Iterator[tuple[Place, Record]]:
    """The objects of a .json file: a list of them, a single one, or one per line."""
    _, place = file
    with open_unpacked(file) as stream:
        text = stream.read(LONGEST_LINE_BYTES)
    try:
        whole = _parsed(text, place)
    except SubmissionError:
        yield from _lines(file)
        return
    for number, entry in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        where = Place(f"{place.file} entry {number}")
        yield where, _record(entry, where)


def _parsed(line: bytes, where: Place) -> Any:
    """The JSON value of a line."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
        if b"\\ud" in line.lower():  # an escape may stand for half of a character, which no text can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise said(where, "must be text that UTF-8 can hold, got half of an escaped pair. Dump it again.") from error
    except UnicodeDecodeError as error:
        raise said(where, "must be UTF-8 text, got other bytes. Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise said(where, "must be one JSON object, got something else. Write one response per line.") from error


def _record(value: Any, where: Place) -> Record:
    """The value, which has to be an object."""
    if not isinstance(value, dict):
        raise fault(where, "a JSON object", type(value).__name__, "Write one response per line.")
    return value


def number(value: Any, where: Place, name: str) -> float:
    """A JSON number as float; InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fault(where, f"a number at {name}", value, "Write it as the server gave it.")
    try:
        return float(value)
    except OverflowError as error:
        raise fault(where, f"a number at {name} that a float can hold", "a longer one", "Dump it again.") from error


def whole_number(value: Any, where: Place, name: str) -> int:
    """A JSON number without a fraction that int32 can hold; InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise fault(where, f"a whole number at {name}", value, "Write it as the server gave it.")
    return value


def list_at(record: Record, name: str, where: Place) -> list[Any]:
    """The list under a key; InputError where there is none."""
    value = record.get(name)
    if not isinstance(value, list):
        raise fault(where, f"an object with a list {name}", type(value).__name__, "Dump the whole response.")
    return value


def object_of(value: Any, where: Place, name: str) -> Record:
    """The value as an object; InputError where it is none."""
    if not isinstance(value, dict):
        raise fault(where, f"an object at {name}", type(value).__name__, "Dump the whole response.")
    return value


def text_of(value: Any, where: Place, name: str) -> str:
    """The value as a text; InputError where it is none."""
    if not isinstance(value, str):
        raise fault(where, f"a text at {name}", value, "Dump the whole response.")
    return value
