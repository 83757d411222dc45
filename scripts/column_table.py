"""Write the column table of docs/formats.md from the schema: `python scripts/column_table.py`."""

from pathlib import Path

from brf_exp.storage.schema import FIXED_COLUMNS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
START, END = "<!-- columns: made from brf_exp/storage/schema.py -->\n", "<!-- end -->"
RANKED = (
    ("`id_1`..`id_k`", "int32", "token ids, best first", "discrimination"),
    ("`logit_1`..`logit_k`", "float", "pre-softmax logits, descending, k >= 2", "all"),
)


def column_table() -> str:
    """The table in Markdown."""
    rows = [(f"`{c.name}`", str(c.type), c.meaning, c.needed_for) for c in FIXED_COLUMNS]
    lines = ["| column | type | meaning | needed for |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in [*rows, *RANKED]]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with its table replaced."""
    head, rest = page.split(START)
    return head + START + column_table() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
