"""Figures as files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cace_pyg.engine.atomic_file import atomic_file

_DOTS_PER_INCH = 150


def write_figures(folder: Path, figures: Mapping[str, Figure], formats: Sequence[str]) -> list[Path]:
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


def _rendered(figure: Figure, image_format: str) -> bytes:
    rendered = io.BytesIO()
    metadata = {"Date": None} if image_format == "svg" else None  # the same pair gives the same file
    figure.savefig(rendered, format=image_format, dpi=_DOTS_PER_INCH, facecolor="white", metadata=metadata)
    return rendered.getvalue()
