"""texts.jsonl of a submission: the documents' texts."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from brf_exp.submission.fault import SubmissionError, fault, listed, said, shown
from brf_exp.submission.importing import Imported
from brf_exp.submission.problems import Problems

FILE_NAME: Final = "texts.jsonl"
KEYS: Final = ("doc_id", "text")
LONGEST_LINE_BYTES: Final = 64 * 1024**2
LARGEST_BYTES: Final = 4 * 1024**3


def read_text_lengths(path: Path, problems: Problems) -> dict[str, int]:
    """Code points of every document's text by doc_id; a line that cannot be used is a problem."""
    lengths: dict[str, int] = {}
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        problems.add(_line_fault(FILE_NAME, f"must be at most {LARGEST_BYTES} bytes, got {size}. Submit fewer texts."))
        return lengths
    with path.open("rb") as file:
        for number, line in _lines(file):
            with problems.catching():
                entry = _entry(line, number)
                name = entry["doc_id"]
                if name in lengths:
                    requirement, remedy = "a document that is not there already", "Remove one."
                    raise fault(_line(number), requirement, name, remedy, check="texts-line")
                lengths[name] = len(entry["text"])
    return lengths


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; an overlong one comes cut off, and is the last."""
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if line.strip():
            yield number, line
        if len(line) > LONGEST_LINE_BYTES:
            return


def check_texts(lengths: Mapping[str, int], one: Imported, problems: Problems) -> None:
    """Every document of a capture has its text, and every span of characters lies within it."""
    file = one.table.source.place
    missing = [name for name in one.documents if name not in lengths]
    if missing:
        sentence = f"must hold every document of {file}, got none for {listed(missing)}. Add its text."
        problems.add(said(FILE_NAME, sentence, check="texts-documents"), n=len(missing))
    if "char_end" not in one.places.columns or not one.documents:
        return
    longest = np.array([lengths.get(name, 2**31) for name in one.documents])
    for first, stop in one.places.chunks():
        documents = np.searchsorted(one.places.offsets, np.arange(first, stop), side="right") - 1
        _check_ends(one, first, one.places.read("char_end", first, stop), longest[documents], problems)


def _check_ends(one: Imported, before: int, ends: np.ndarray, longest: np.ndarray, problems: Problems) -> None:
    """Ends of spans within their texts; `before` rows stand ahead of these."""

    def describe(index: int) -> SubmissionError:
        at = one.table.source.place.at(row=before + index + 1, column="char_end")
        requirement = f"at most {longest[index]}, the length of its text"
        remedy = "Count code points of the text in texts.jsonl."
        return fault(at, requirement, int(ends[index]), remedy, check="texts-span")

    problems.add_rows("texts-span", ends > longest, describe)


def _line(number: int) -> str:
    """The place of a line."""
    return f"{FILE_NAME} line {number}"


def _line_fault(where: str, sentence: str) -> SubmissionError:
    return said(where, sentence, check="texts-line")


def _entry(line: bytes, number: int) -> dict[str, str]:
    """One line as {"doc_id", "text"}."""
    where = _line(number)
    if len(line) > LONGEST_LINE_BYTES:
        raise _line_fault(where, f"must be at most {LONGEST_LINE_BYTES} bytes long. Split the document.")
    try:
        entry: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise _line_fault(where, "must be UTF-8 text. Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise _line_fault(where, 'must be JSON such as {"doc_id": "d1", "text": "..."}. Mend it.') from error
    if not isinstance(entry, dict) or sorted(entry) != sorted(KEYS):
        got = listed(sorted(entry)) if isinstance(entry, dict) else type(entry).__name__
        sentence = f"must have the keys {' and '.join(KEYS)}, got {got or 'none'}. Keep only these."
        raise _line_fault(where, sentence)
    for key in KEYS:
        if not isinstance(entry[key], str):
            sentence = f"must be a string, got {shown(entry[key])}. Write it in quotes."
            raise _line_fault(f"{where} {key}", sentence)
    return entry
