"""The columns of a gallery's table, and what they store of what users tell."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

Value = str | int | float | bool | datetime | None

# of every gallery
OWN = ("image", "sha256", "embedding", "clues", "thumbnail", "check_sums", "camera", "time", "added")
# types of the others
SQL = {bool: "boolean", int: "bigint", float: "double", str: "string", datetime: "timestamp"}
_COLUMN = r"[a-z][a-z0-9_]*"


def kept_value(column: str, value: Any) -> Value:
    """A value as a column stores it: numpy's numbers and pandas' times as Python's, a time with a zone in UTC, and NaN
    as None.

    Raises:
        ValueError: no column takes it.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]")
    if isinstance(value, np.generic):
        value = value.item()
    kind = next((kind for kind in SQL if isinstance(value, kind)), None)
    if value is None or (kind in (float, datetime) and value != value):
        return None
    if kind is None:
        raise ValueError(
            f"Expected text, a number, a time or a boolean in the column {column} (got {value!r}, "
            f"{type(value).__name__}); convert it to one of them"
        )
    if isinstance(value, datetime):
        return _utc(value)
    if kind is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"Expected a whole number of 64 bits in the column {column} (got {value}); give it as text")
    return kind(value)


def _utc(time: datetime) -> datetime:
    time = time if time.tzinfo is None else time.astimezone(UTC)
    return datetime.combine(time.date(), time.time())  # drops pandas' nanoseconds


def column_types(metadata: Sequence[Mapping[str, Any]]) -> dict[str, type]:
    """The columns that metadata needs; the first value of each sets its type.

    Raises:
        ValueError: a column name is not allowed, or no column takes a value.
    """
    types: dict[str, type] = {}
    for told in metadata:
        for name, value in told.items():
            if (kept := kept_value(name, value)) is not None:
                types.setdefault(name, type(kept))
    for name in types:
        if not isinstance(name, str) or not re.fullmatch(_COLUMN, name) or name in OWN:
            raise ValueError(
                f"Expected a metadata column as lower-case letters, digits and _, and none of {', '.join(OWN)} "
                f"(got {name!r})"
            )
    return types
