"""How many values the columns of a Parquet file hold, from its footer alone.

Arrow's own accessor for this ends the process where a footer is damaged; reading rows through Arrow does not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

# Types of the Thrift compact protocol; fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData by their ids.
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
ROW_GROUPS, COLUMNS, META_DATA, PATH, NUM_VALUES = 4, 1, 3, 3, 5
MAGIC: Final = b"PAR1"
LARGEST_FOOTER_BYTES: Final = 64 * 1024 * 1024
DEEPEST: Final = 16


def column_values(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level column and declared number of values of every column chunk; ValueError for a damaged footer."""
    try:
        footer = _Footer(_footer_bytes(path)).struct(0)
        for group in footer[ROW_GROUPS]:
            for chunk in group[COLUMNS]:
                yield chunk[META_DATA][PATH][0].decode(), chunk[META_DATA][NUM_VALUES]
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError("damaged footer") from error


def _footer_bytes(path: Path) -> bytes:
    """The footer: before the last 8 bytes, which are its length and the magic word."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length > min(LARGEST_FOOTER_BYTES, end - 8):
            raise ValueError("no footer")
        file.seek(end - 8 - length)
        return file.read(length)


class _Footer:
    """A reader of the Thrift compact protocol: structs as {field id: value}, lists as lists."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        """The fields of a struct."""
        if depth > DEEPEST:
            raise ValueError("too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._zigzag()
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        """A value of a kind."""
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == DOUBLE:
            return self._take(8)
        if kind == BINARY:
            return self._take(self._varint())
        if kind in (LIST, SET):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(min(size, len(self._data)))]
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ValueError("unknown type")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("endless number")

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
