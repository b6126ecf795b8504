"""Facts about pictures from file names and tables: camera, time, and any other column."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cace_pyg.data.table import label, read_table
from cace_pyg.gallery.columns import Value
from cace_pyg.gallery.new_picture import image_name

_TYPED = (bool, int, float, datetime)  # not text


@dataclass(frozen=True)
class PictureFacts:
    """Camera, time and other columns of each picture of a folder, as :meth:`Gallery.add` takes them."""

    camera: Sequence[str | None]
    taken: Sequence[datetime | None]
    metadata: Sequence[Mapping[str, Value]]


def facts_from_names(pictures: Sequence[Path], folder: Path, pattern: str) -> PictureFacts:
    """Facts from file names.

    Args:
        pictures: files below ``folder``.
        folder: the pattern is matched with paths relative to it, with ``/`` between folders.
        pattern: a regular expression with named groups, such as ``c(?P<camera>\\d+)_(?P<floor>\\w+)``; it may match
            anywhere in the path.

    Raises:
        ValueError: the pattern is not a regular expression, has no named group, or matches no name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if not compiled.groupindex:
        raise ValueError(f"Expected a pattern with named groups, such as 'c(?P<camera>\\d+)' (got {pattern!r})")
    found = [compiled.search(picture.relative_to(folder).as_posix()) for picture in pictures]
    if not any(found):
        raise ValueError(
            f"Expected {pattern!r} to match file names (it matches none of {len(pictures)}, such as {pictures[0]})"
        )
    return _facts([match.groupdict() if match else {} for match in found])


def pictures_of_table(table: Path) -> list[Path]:
    """The pictures in the column ``path`` of a CSV or Parquet file, relative to its folder or absolute.

    Raises:
        FileNotFoundError, ImportError, ValueError: see :func:`read_table`.
        ValueError: it has no column ``path``, or a row has no path.
    """
    return [table.parent / row["path"] for row in _rows(table)]


def facts_from_table(pictures: Sequence[Path], folder: Path, table: Path) -> PictureFacts:
    """Facts from a CSV or Parquet file with a column ``path``, relative to the folder or absolute.

    Pictures that are not in the table get no facts.

    Raises:
        FileNotFoundError, ImportError, ValueError: see :func:`read_table`.
        ValueError: it has no column ``path``, a row has no path, or it names pictures that are not in the folder.
    """
    told = {image_name(folder / row.pop("path")): _with_label(row) for row in _rows(table)}
    strange = sorted(set(told) - {image_name(picture) for picture in pictures})
    if strange:
        raise ValueError(f"{table} names {len(strange)} pictures that are not in {folder}, such as {strange[0]}")
    return _facts([told.get(image_name(picture), {}) for picture in pictures])


def _with_label(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"camera": label(row["camera"])} if "camera" in row else row


def _rows(table: Path) -> list[dict[str, Any]]:
    rows = read_table(table)
    if not rows or "path" not in rows[0]:
        raise ValueError(
            f"Expected a table with a header and a column path in {table} (got {list(rows[0]) if rows else 'no row'})"
        )
    for number, row in enumerate(rows, start=1):
        if row["path"] in ("", None):
            raise ValueError(f"Expected a path in row {number} of {table} (got an empty cell)")
        if not isinstance(row["path"], str):
            kind = type(row["path"]).__name__
            raise ValueError(f"Expected a path as text in row {number} of {table} (got {row['path']!r}, {kind})")
    return rows


def _facts(told: Sequence[Mapping[str, Value]]) -> PictureFacts:
    columns = list(dict.fromkeys(name for row in told for name in row))
    typed = {name: _with_room(_typed(name, [_known(row.get(name)) for row in told])) for name in columns}
    count = len(told)
    others = [name for name in columns if name not in ("camera", "time")]
    return PictureFacts(
        typed.get("camera", [None] * count),
        typed.get("time", [None] * count),
        [{name: typed[name][i] for name in others if typed[name][i] is not None} for i in range(count)],
    )


def _with_room(values: list[Any]) -> list[Any]:
    """All values as text if a whole number does not fit into 64 bits, such as a long badge number."""
    long = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
    return [None if value is None else str(value) for value in values] if long else values


def _known(value: Value) -> Value:
    """None for an empty group of a name; tables contain None already."""
    return None if value == "" else value


def _typed(name: str, values: Sequence[Value]) -> list[Any]:
    """Text as numbers if all of it is written as numbers, else as text; a camera is always text, a time a time."""
    if all(value is None or isinstance(value, datetime if name == "time" else _TYPED) for value in values):
        return list(values)
    words = [None if value is None else str(value) for value in values]
    if name == "time":
        return _times(words)
    for kind in (int, float):
        if name != "camera" and all(word is None or _says(word, kind) for word in words):
            return [None if word is None else kind(word) for word in words]
    return words


def _times(words: Sequence[str | None]) -> list[datetime | None]:
    try:
        return [None if word is None else datetime.fromisoformat(word) for word in words]
    except ValueError:
        told = next(word for word in words if word is not None)
        raise ValueError(f"Expected times as 2026-01-31T12:00:00 (got {told!r})") from None


def _says(word: str, kind: type[int] | type[float]) -> bool:
    """Whether the word is exactly how a 64-bit number is written: 021, 5_11 and 1.10 are not."""
    try:
        number = kind(word)
    except ValueError:
        return False
    whole = isinstance(number, int) or number.is_integer()
    return abs(number) < 2**63 and (str(number) == word or (whole and str(int(number)) == word))
