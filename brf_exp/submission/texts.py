"""texts.jsonl of a submission: the documents' texts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from brf_exp.submission.fault import fault, listed, said
from brf_exp.submission.importing import Imported
from brf_exp.submission.rows import first

FILE_NAME: Final = "texts.jsonl"
KEYS: Final = ("doc_id", "text")


def read_text_lengths(path: Path) -> dict[str, int]:
    """Code points of every document's text by doc_id; InputError names the line that cannot be used."""
    lengths: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                entry = _entry(line, number)
                if entry["doc_id"] in lengths:
                    raise fault(_line(number), "a document that is not there already", entry["doc_id"], "Remove one.")
                lengths[entry["doc_id"]] = len(entry["text"])
    return lengths


def check_texts(lengths: Mapping[str, int], capture: Imported) -> None:
    """Every document of a capture has its text, and every span of characters lies within it."""
    file = capture.table.source.place
    missing = [name for name in capture.documents if name not in lengths]
    if missing:
        raise said(FILE_NAME, f"must hold every document of {file}, got none for {listed(missing)}. Add its text.")
    if "char_end" not in capture.table.columns:
        return
    rows = capture.read(["doc_id", "char_end"])
    documents = rows.column("doc_id").combine_chunks().dictionary_encode()
    longest = np.array([lengths[name] for name in documents.dictionary.to_pylist()])[documents.indices.to_numpy()]
    ends = rows.column("char_end").to_numpy()
    bad = first(ends > longest)
    if bad is not None:
        where = f"{file} row {bad + 1} column char_end"
        remedy = "Count code points of the text in texts.jsonl."
        raise fault(where, f"at most {longest[bad]}, the length of its text", int(ends[bad]), remedy)


def _line(number: int) -> str:
    """The place of a line."""
    return f"{FILE_NAME} line {number}"


def _entry(line: bytes, number: int) -> dict[str, str]:
    """One line as {"doc_id", "text"}."""
    try:
        entry: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise said(_line(number), "must be UTF-8 text. Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise said(_line(number), 'must be JSON such as {"doc_id": "d1", "text": "..."}. Mend it.') from error
    if not isinstance(entry, dict) or sorted(entry) != sorted(KEYS):
        got = listed(sorted(map(str, entry))) if isinstance(entry, dict) else type(entry).__name__
        raise said(_line(number), f"must have the keys {' and '.join(KEYS)}, got {got or 'none'}. Keep only these.")
    for key in KEYS:
        if not isinstance(entry[key], str):
            raise fault(f"{_line(number)} {key}", "a string", entry[key], "Write it in quotes.")
    return entry
