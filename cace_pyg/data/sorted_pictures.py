"""The pictures of a folder."""

from pathlib import Path

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_MAPS = "parts"


def sorted_pictures(root: Path) -> list[Path]:
    """The pictures in ``root`` and its folders, without hidden files and folders called ``parts`` (label maps).

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; expected a data set or a folder of crops")
    found = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in _ENDINGS and path.is_file()]
    found = [path for path in found if path.name[0] != "." and _MAPS not in path.relative_to(root).parts]
    if not found:
        raise FileNotFoundError(f"there are no pictures in {root} ({', '.join(sorted(_ENDINGS))})")
    return found
