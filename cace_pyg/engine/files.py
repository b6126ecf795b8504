"""Files that are written whole or not at all."""

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
    """A binary file beside ``path`` that takes its place when the block ends well; else ``path`` stays as it was."""
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
    """Write each figure in each format; the folder is made where it is missing, files of before are replaced.

    Args:
        folder: where to.
        figures: by file name, without its ending.
        formats: ``png``, ``svg`` or both.

    Returns:
        The files.
    """
    contents = {f"{name}.{one}": _rendered(figure, one) for name, figure in figures.items() for one in formats}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with atomic_file(folder / name) as file:
            file.write(content)
    return [folder / name for name in contents]


def _rendered(figure: "Figure", image_format: str) -> bytes:
    rendered = io.BytesIO()
    metadata = {"Date": None} if image_format == "svg" else None  # the same pair gives the same file
    figure.savefig(rendered, format=image_format, dpi=_DOTS_PER_INCH, facecolor="white", metadata=metadata)
    return rendered.getvalue()


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """A table whose columns are those of any row, in order of first use; whole or not at all."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file beside ``path``, then rename it."""
    with atomic_file(path) as file:
        file.write(text.encode())
