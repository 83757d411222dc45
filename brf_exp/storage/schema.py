"""The capture format: one row per token position. The column table of the documentation is made from here."""

from dataclasses import dataclass

import pyarrow as pa

CAPTURE_SCHEMA = 1
MIN_K = 2


@dataclass(frozen=True)
class Column:
    """One column of a capture: its Arrow type, its meaning, and which stages need it."""

    name: str
    type: pa.DataType
    meaning: str
    needed_for: str


FIXED_COLUMNS = (
    Column("doc_id", pa.string(), "document", "everything but a minimal CSV (then: one document)"),
    Column("position", pa.int32(), "0-based index of the predicted token in its document", "all"),
    Column("token_id", pa.int32(), "the realised token at that position", "discrimination"),
    Column("char_start", pa.int32(), "first code point of that token in the text", "different tokenizers"),
    Column("char_end", pa.int32(), "code point behind that token", "different tokenizers"),
    Column("logsumexp", pa.float64(), "ln sum exp z over the vocabulary, nats", "discrimination"),
    Column("target_logit", pa.float32(), "z of token_id", "discrimination"),
    Column("target_rank", pa.int32(), "1 = top", "optional"),
    Column("entropy", pa.float32(), "of the full distribution, nats", "optional"),
)
COLUMNS = {column.name: column for column in FIXED_COLUMNS}
DISCRIMINATION_COLUMNS = ("token_id", "logsumexp", "target_logit")


def id_columns(k: int) -> list[str]:
    """Names of the token-id columns, best first."""
    return [f"id_{rank}" for rank in range(1, k + 1)]


def logit_columns(k: int) -> list[str]:
    """Names of the logit columns, descending."""
    return [f"logit_{rank}" for rank in range(1, k + 1)]


def temperature_column(temperature: float) -> str:
    """Name of the column with the logsumexp at a temperature, e.g. logsumexp_t0.7."""
    return f"logsumexp_t{temperature:.6f}".rstrip("0").rstrip(".")


def k_of(names: list[str]) -> int:
    """How many logit columns stand in a row: logit_1, logit_2, ... without a gap."""
    present = set(names)
    k = 0
    while f"logit_{k + 1}" in present:
        k += 1
    return k


def arrow_schema(names: list[str]) -> pa.Schema:
    """Arrow schema of a capture with these columns, in the contract's order; unknown names raise KeyError."""
    k = k_of(names)
    present = set(names)
    fields = [pa.field(c.name, c.type, nullable=False) for c in FIXED_COLUMNS if c.name in present]
    fields += [pa.field(n, pa.float64(), nullable=False) for n in sorted(present) if n.startswith("logsumexp_t")]
    if "id_1" in present:
        fields += [pa.field(name, pa.int32(), nullable=False) for name in id_columns(k)]
    fields += [pa.field(name, pa.float32(), nullable=False) for name in logit_columns(k)]
    unknown = present - {f.name for f in fields}
    if unknown:
        raise KeyError(f"not capture columns: {sorted(unknown)}")
    return pa.schema(fields)
