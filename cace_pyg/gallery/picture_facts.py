"""What file names and tables tell of pictures: camera, time, and any other column."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cace_pyg.gallery.entry import Value


@dataclass(frozen=True)
class PictureFacts:
    """Of each picture of a folder: camera, time of taking, and other columns; as :meth:`Gallery.add` takes them."""

    camera: list[str | None]
    taken: list[datetime | None]
    metadata: list[dict[str, Value]]


def facts_from_names(pictures: Sequence[Path], folder: Path, pattern: str) -> PictureFacts:
    """Facts that stand in file names.

    Args:
        pictures: files below ``folder``.
        folder: names are looked at relative to it, with ``/`` between folders.
        pattern: a regular expression with named groups, such as ``c(?P<camera>\\d+)_(?P<floor>\\w+)``; searched for
            anywhere in the name.

    Raises:
        ValueError: it is no regular expression, has no named group, or fits no name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if not compiled.groupindex:
        raise ValueError(f"Expected a pattern with named groups, such as 'c(?P<camera>\\d+)' (got {pattern!r})")
    found = [compiled.search(picture.relative_to(folder).as_posix()) for picture in pictures]
    if not any(found):
        raise ValueError(
            f"Expected {pattern!r} to fit file names (it fits none of {len(pictures)}, such as {pictures[0]})"
        )
    return _facts([one.groupdict() if one else {} for one in found])


def facts_from_table(pictures: Sequence[Path], folder: Path, table: Path) -> PictureFacts:
    """Facts that stand in a CSV file with a column ``path``, relative to the folder or absolute.

    Pictures that the table does not name get none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no column ``path``, or names pictures that are not in the folder.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "path" not in rows[0]:
        raise ValueError(
            f"Expected a table with a header and a column path in {table} (got {list(rows[0]) if rows else 'no row'})"
        )
    told = {(folder / row.pop("path")).absolute(): row for row in rows}
    strange = sorted(set(told) - {picture.absolute() for picture in pictures})
    if strange:
        raise ValueError(f"{table} names {len(strange)} pictures that are not in {folder}, such as {strange[0]}")
    return _facts([told.get(picture.absolute(), {}) for picture in pictures])


def _facts(texts: Sequence[Mapping[str, str | None]]) -> PictureFacts:
    columns = list(dict.fromkeys(name for text in texts for name in text))
    typed = {name: _typed(name, [text.get(name) or None for text in texts]) for name in columns}
    count = len(texts)
    others = [name for name in columns if name not in ("camera", "time")]
    return PictureFacts(
        typed.get("camera", [None] * count),
        typed.get("time", [None] * count),
        [{name: typed[name][i] for name in others if typed[name][i] is not None} for i in range(count)],
    )


def _typed(name: str, texts: Sequence[str | None]) -> list[Value]:
    """Whole numbers, else numbers, else words; a camera is always a word and a time always a time."""
    if name == "camera":
        return list(texts)
    kinds: tuple[Callable, ...] = (datetime.fromisoformat,) if name == "time" else (int, float, str)
    for kind in kinds:
        try:
            return [None if text is None else kind(text) for text in texts]
        except ValueError:
            continue
    raise ValueError(f"Expected times as 2026-01-31T12:00:00 (got {next(text for text in texts if text)!r})")
