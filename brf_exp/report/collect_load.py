"""What a collection of runs has to show."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Collection:
    """Many runs together.

    `results`: the content of results.json; `rows`: one per run; `claim_rows`: one per run and claim; `pages`: a run's
    own report by its folder, for those that have one. Folders are relative to the collection's.
    """

    results: dict[str, Any]
    rows: list[Row]
    claim_rows: list[Row]
    pages: dict[str, str]

    def counted(self, claim_id: str) -> dict[str, Row]:
        """The counted rows of one claim, by the folder of the run."""
        return {row["folder"]: row for row in self.claim_rows if row["claim"] == claim_id and row["counted"]}


def subject_name(row: Row) -> str:
    """What a run tests, for headings of rows: the pair, its corpus, and the condition where there is one."""
    condition = "" if row["condition"] == "none" else f", {row['condition']}"
    return f"{row['pair']}, {row['corpus']}{condition}"
