"""Finds the pictures in a folder."""

import os
import warnings
from collections.abc import Sequence
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
    """Some files that look like pictures are not used."""


def sorted_pictures(root: Path) -> list[Path]:
    """:func:`pictures_below`, with an error if there are none.

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
    """The pictures in a folder and its subfolders, sorted, without label maps (``parts/<folder>/<stem>.png``).

    Links to files and folders are followed; hidden files and folders (``.ipynb_checkpoints``) are ignored. A
    :class:`LeftOutWarning` reports files that look like pictures but are not used.

    Args:
        folder: an existing folder.
        endings: file extensions that are used, in lower case.

    Raises:
        OSError: a folder cannot be read.
    """
    looks_like_one = {*endings, *OTHER_PICTURES}
    reasons = [
        (path, _why_not(path, there, endings))
        for path, there in _files(folder, frozenset())
        if not there or _ending(path) in looks_like_one
    ]
    maps = {path for path, reason in reasons if reason is None and _is_label_map(path)}
    if maps:
        wanted = {part_map_path(path) for path, _ in reasons}
        alone = {path for path in maps if Path(os.path.abspath(path)) not in wanted}
        reasons = [
            (path, "label maps without their picture" if path in alone else reason)
            for path, reason in reasons
            if path not in maps or path in alone
        ]
    _tell(folder, reasons)
    return [path for path, reason in reasons if reason is None]


def _files(folder: Path, above: frozenset[tuple[int, int]]) -> list[tuple[Path, bool]]:
    """Files (True) and broken links (False), sorted; a folder that links put inside itself is not descended into."""
    status = folder.stat()
    here = status.st_dev, status.st_ino
    if here in above:
        return []
    files: list[tuple[Path, bool]] = []
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in sorted(shown, key=lambda entry: entry.name):  # names, for to compare 100,000 paths takes seconds
        if entry.is_dir():
            files += _files(Path(entry.path), above | {here})
        elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            files.append((Path(entry.path), entry.is_file()))
    return files


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _why_not(path: Path, there: bool, endings: Sequence[str]) -> str | None:
    """Why a file with a picture's name is not used; None if it is."""
    if not there:
        return "broken links"
    return None if _ending(path) in endings else "of formats that are not read"


def _is_label_map(path: Path) -> bool:
    """Whether a file has the path of a picture's label map: ``parts/<folder>/<stem>.png`` next to a folder."""
    folder = path.parent
    return _ending(path) == ".png" and folder.parent.name == "parts" and (folder.parent.parent / folder.name).is_dir()


def _tell(folder: Path, reasons: Sequence[tuple[Path, str | None]]) -> None:
    told = []
    for reason in sorted({stated for _, stated in reasons if stated}):
        paths = [path for path, given in reasons if given == reason]
        told.append(f"{len(paths)} {reason}, such as {paths[0]}")
    if told:
        warnings.warn(f"files left out of {folder}: {'; '.join(told)}", LeftOutWarning, stacklevel=3)
