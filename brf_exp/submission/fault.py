"""One line for everything that can be wrong with a submission: what, where, what was found, what to do."""

from dataclasses import dataclass, replace

from brf_exp.errors import InputError

LONGEST_VALUE = 80


@dataclass(frozen=True)
class Place:
    """A file of a submission, and where known its 1-based data row and its column."""

    file: str
    row: int | None = None
    column: str | None = None

    def at(self, *, row: int | None = None, column: str | None = None) -> "Place":
        """The same file, narrowed to a row, a column or both."""
        return replace(self, row=self.row if row is None else row, column=self.column if column is None else column)

    def __str__(self) -> str:
        """The file, then row and column where known."""
        row = "" if self.row is None else f" row {self.row}"
        column = "" if self.column is None else f" column {self.column}"
        return f"{self.file}{row}{column}"


def shown(value: object) -> str:
    """A value as a message shows it: its repr on one line, cut where long; None is `nothing`."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names behind commas, the first twelve of many."""
    names = [name or "(unnamed)" for name in names]
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])} and {len(names) - 12} more"


def fault(where: Place | str, requirement: str, got: object, remedy: str) -> InputError:
    """The error for a value that must be something else; strings are quoted by `shown`."""
    return said(where, f"must be {requirement}, got {shown(got)}. {remedy}")


def said(where: Place | str, sentence: str) -> InputError:
    """The error for a place with a sentence of its own; anything unprintable becomes a question mark."""
    text = f"`{where}` {sentence}"
    return InputError("".join(character if character.isprintable() else "?" for character in text))
