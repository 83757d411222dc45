"""Values as cells of CSV files that people open in spreadsheets."""

from typing import Any

# The last four are what East Asian keyboards give for the first four; spreadsheets take them for the same.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_cell(value: Any) -> Any:
    """A value as it is written: numbers as they are, nothing as an empty cell, text so that no spreadsheet runs it.

    Text that begins like a formula gets an apostrophe in front, which spreadsheets take for "this is text". A lone
    carriage return would end the row without being quoted, and what follows would begin a cell: it becomes a line feed.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    text = f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return text.replace("\r\n", "\n").replace("\r", "\n")
