"""Check sums of a gallery's rows: Lance keeps none, and would not notice data that changed on disk."""

import json
import struct
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

_SUMS = struct.Struct("<III")  # CRC-32 of a row's facts, its clues and its thumbnail, each with its name before
SIZE = _SUMS.size  # bytes
_PARTS = ("facts", "clues", "thumbnail")
_NOT_TOLD = ("sha256", "embedding", "clues", "thumbnail", "check_sums", "added", "_distance", "_rowid")


def with_check_sums(table: Any) -> Any:
    """The Arrow table of rows with a column of their check sums."""
    import pyarrow as pa

    sums = []
    for row in rows_with_embedding(table):
        parts = (facts(row), row["clues"], row["thumbnail"])
        sums.append(_SUMS.pack(*(_sum(row["image"], part) for part in parts)))
    place = table.schema.get_field_index("check_sums")
    return table.set_column(place, table.schema.field(place), pa.array(sums, pa.binary(SIZE)))


def with_new_facts(row: Mapping[str, Any], changed: Mapping[str, Any]) -> bytes:
    """The check sums of a row after some of its columns change; its clues and its thumbnail stay.

    Args:
        row: its ``embedding`` as bytes, and all its other columns as they were.
        changed: the columns that change, with their new values.
    """
    _, clues, thumbnail = _SUMS.unpack(row["check_sums"])
    return _SUMS.pack(_sum(row["image"], facts({**row, **changed})), clues, thumbnail)


def is_whole(row: Mapping[str, Any], part: str, content: bytes) -> bool:
    """Whether ``facts``, ``clues`` or ``thumbnail`` of a row are as :func:`with_check_sums` saw them."""
    return _sum(row["image"], content) == _SUMS.unpack(row["check_sums"])[_PARTS.index(part)]


def facts(row: Mapping[str, Any]) -> bytes:
    """The columns that a row is found by and that an answer shows, as bytes; columns added later change nothing.

    Args:
        row: its ``embedding`` as bytes.
    """
    told = {name: value for name, value in row.items() if value is not None and name not in _NOT_TOLD}
    return json.dumps(told, sort_keys=True, default=datetime.isoformat).encode() + row["embedding"]


def rows_with_embedding(found: Any) -> list[dict[str, Any]]:
    """Rows of an Arrow table or batch, with each embedding as bytes."""
    rows = found.drop_columns(["embedding"]).to_pylist()
    return [row | {"embedding": vector.tobytes()} for row, vector in zip(rows, embeddings(found), strict=True)]


def embeddings(found: Any) -> np.ndarray:
    """The embeddings of an Arrow table or batch, float16 ``(row, channel)``."""
    column = found["embedding"]
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(found), -1)


def _sum(image: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(image.encode()))
