"""Writes files completely or not at all."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary binary file that replaces ``path`` if the block ends without an error; else ``path`` is unchanged."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


_DOTS_PER_INCH = 150


def write_figures(folder: Path, figures: Mapping[str, "Figure"], formats: Sequence[str]) -> list[Path]:
    """Write each figure in each format; the folder is made if it is missing, and earlier files are replaced.

    Args:
        folder: where to write.
        figures: by file name, without the extension.
        formats: ``png``, ``svg`` or both.

    Returns:
        The files.
    """
    contents = {
        f"{name}.{image_format}": _rendered(figure, image_format)
        for name, figure in figures.items()
        for image_format in formats
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with atomic_file(folder / name) as file:
            file.write(content)
    return [folder / name for name in contents]


def _rendered(figure: "Figure", image_format: str) -> bytes:
    rendered = io.BytesIO()
    metadata = {"Date": None} if image_format == "svg" else None  # so that the same figure gives the same file
    figure.savefig(rendered, format=image_format, dpi=_DOTS_PER_INCH, facecolor="white", metadata=metadata)
    return rendered.getvalue()


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table with the columns of all rows, in order of first use; completely or not at all."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file next to ``path``, then rename it."""
    with atomic_file(path) as file:
        file.write(text.encode())
