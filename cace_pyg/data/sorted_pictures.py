"""The pictures of a folder."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cace_pyg.data.part_map import part_map_path

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
OTHER_PICTURES = (
    ".heic",
    ".heif",
    ".jxl",
    ".jp2",
    ".ppm",
    ".pgm",
    ".tga",
    ".dng",
    ".nef",
    ".cr2",
    ".arw",
    ".psd",
    ".svg",
)


class LeftOutWarning(UserWarning):
    """Files that look like pictures are not used."""


def sorted_pictures(root: Path) -> list[Path]:
    """:func:`pictures_below` a folder that has some.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; expected a data set or a folder of crops")
    found = pictures_below(root)
    if not found:
        raise FileNotFoundError(f"there are no pictures in {root} ({', '.join(PICTURES)})")
    return found


def pictures_below(folder: Path, endings: Sequence[str] = PICTURES) -> list[Path]:
    """The pictures in a folder and in those below it, sorted, without label maps (``parts/<folder>/<stem>.png``).

    Links to files and folders are followed; hidden files and folders (``.ipynb_checkpoints``) are not looked at.
    What looks like a picture and is not used is told by a :class:`LeftOutWarning`.

    Args:
        folder: that is there.
        endings: of files that are used, in lower case.

    Raises:
        OSError: a folder cannot be read.
    """
    files = sorted(_files(folder, frozenset()))
    found = [path for path in files if path.suffix.lower() in endings or not path.is_file()]
    maps = {part_map_path(path) for path in found}
    reasons = {path: _why_not(path) for path in found if Path(os.path.abspath(path)) not in maps}
    others = [path for path in files if path.suffix.lower() in {*OTHER_PICTURES} - {*endings}]
    _tell(folder, reasons | dict.fromkeys(others, "of a form that is not read"))
    return [path for path, reason in reasons.items() if reason is None]


def _files(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Files and broken links; a folder inside itself, which links can make, ends there."""
    status = folder.stat()
    here = status.st_dev, status.st_ino
    if here in above:
        return
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in shown:
        if entry.is_dir():
            yield from _files(Path(entry.path), above | {here})
        elif entry.is_file() or entry.is_symlink():
            yield Path(entry.path)


def _why_not(path: Path) -> str | None:
    """Why a file with a picture's name is not used; none if it is."""
    if not path.is_file():
        return "that are links to nothing"
    folder = path.parent
    pictures = folder.parent.parent / folder.name
    if folder.parent.name == "parts" and path.suffix.lower() == ".png" and pictures.is_dir():
        return "that are label maps of a picture that is not there"
    return None


def _tell(folder: Path, reasons: Mapping[Path, str | None]) -> None:
    told = []
    for reason in sorted({one for one in reasons.values() if one}):
        paths = [path for path, one in reasons.items() if one == reason]
        told.append(f"{len(paths)} {reason}, such as {paths[0]}")
    if told:
        warnings.warn(f"files left out of {folder}: {'; '.join(told)}", LeftOutWarning, stacklevel=3)
