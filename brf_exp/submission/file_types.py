"""Which files a table may come in, by the ends of their names."""

from typing import Final

PACKED: Final = ("", ".gz", ".zst")
FAMILIES: Final = {
    "csv": tuple(stem + end for stem in (".csv", ".tsv") for end in PACKED),
    "jsonl": tuple(stem + end for stem in (".jsonl", ".json") for end in PACKED),
    "parquet": (".parquet",),
    "tensors": (".npz", ".safetensors"),
}
EXPECTED: Final = "a .csv, .tsv, .jsonl (also .gz, .zst), .parquet, .npz or .safetensors file"


def family_of(name: str) -> str | None:
    """`csv`, `jsonl`, `parquet` or `tensors`; None for a name that no table has.

    >>> family_of("a.csv.gz"), family_of("b.safetensors"), family_of("c.pkl")
    ('csv', 'tensors', None)
    """
    return next((family for family, suffixes in FAMILIES.items() if name.lower().endswith(suffixes)), None)
