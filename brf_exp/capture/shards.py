"""Which parts of a capture one of several processes or machines computes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

REQUIREMENT = "n/m with 1 <= n <= m, such as 3/16"


@dataclass(frozen=True)
class Shard:
    """The `number`-th (from 1) of `count` contiguous ranges of parts."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """A shard as typed, `3/16`; ValueError for anything else."""
        found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError(f"a shard must be {REQUIREMENT}, got {text!r}")
        return cls(int(found[1]), int(found[2]))


def is_shard(text: str) -> bool:
    """Whether a text names a shard."""
    try:
        Shard.parse(text)
    except ValueError:
        return False
    return True


def shard_of_parts(rows: Sequence[int], count: int) -> list[int]:
    """The shard (from 1) of each part with these rows, in ascending order.

    A part belongs where its middle row falls when all rows are cut into `count` equal stretches, so that no shard is
    off by more than about one part; there may be shards without any.
    """
    total = sum(rows)
    shards, before = [], 0
    for n_rows in rows:
        shards.append(1 + (2 * before + n_rows) * count // (2 * total))
        before += n_rows
    return shards


def parts_of(rows: Sequence[int], shard: Shard | None) -> range:
    """Indices of a shard's parts; of all parts without one."""
    if shard is None:
        return range(len(rows))
    owners = shard_of_parts(rows, shard.count)
    first = sum(owner < shard.number for owner in owners)
    return range(first, first + owners.count(shard.number))
