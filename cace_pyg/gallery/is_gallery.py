"""Whether there is a gallery."""

from pathlib import Path

from cace_pyg.gallery.gallery_table import GalleryTable


def is_gallery(path: Path) -> bool:
    """Whether a gallery was made at ``path``."""
    try:
        GalleryTable(path)
    except FileNotFoundError:
        return False
    return True
