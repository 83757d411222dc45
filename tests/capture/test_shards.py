"""Shares of parts: contiguous, all of them once, balanced by rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brf_exp.capture.shards import Shard, is_shard, parts_of, shard_of_parts


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 60))
def test_every_part_once_in_order_and_balanced(rows: list[int], count: int) -> None:
    ranges = [parts_of(rows, Shard(number, count)) for number in range(1, count + 1)]
    assert [index for members in ranges for index in members] == list(range(len(rows)))
    for number, members in enumerate(ranges, start=1):
        assert {shard_of_parts(rows, count)[index] for index in members} <= {number}
        share = sum(rows[index] for index in members)
        assert abs(share - sum(rows) / count) <= max(rows)
    assert parts_of(rows, None) == range(len(rows))


@pytest.mark.parametrize("text", ["1/1", "3/16", "16/16", "999999999/999999999"])
def test_shards(text: str) -> None:
    assert is_shard(text)
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize("text", ["0/4", "5/4", "a/b", "1/", "/4", "1/2/3", "01/4", "-1/4", "1/4 ", "1.0/4", "١/٤", ""])
def test_no_shards(text: str) -> None:
    assert not is_shard(text)
    with pytest.raises(ValueError, match="a shard must be n/m with 1 <= n <= m"):
        Shard.parse(text)
