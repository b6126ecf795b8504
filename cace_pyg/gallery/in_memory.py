"""What a gallery keeps in memory between two calls."""

from pathlib import Path
from typing import Any, NamedTuple

from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.entries import Entries
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.gallery.kept_neighbours import KeptNeighbours, Pictures
from cace_pyg.gallery.neighbour_lists import NeighbourLists


class PictureLists(NamedTuple):
    """Rows of a version of the table, sorted by name, and their kept neighbours."""

    rows: list[dict[str, Any]]
    lists: NeighbourLists


class InMemory:
    """The entries and the neighbours of the version that was asked for last; read again once something was written.

    Args:
        folder: the gallery's.
        embedder: whose fusion weight the neighbours are for.
    """

    def __init__(self, folder: Path, embedder: Embedder):
        self._folder = folder
        self._embedder = embedder
        self._lists: tuple[Any, PictureLists] | None = None  # with the versions they belong to
        self._entries: tuple[int, Entries] | None = None  # with the version they belong to

    def entries(self, table: GalleryTable) -> Entries | None:
        """All entries of a snapshot; None if it is empty.

        Raises:
            ValueError: see :meth:`Entries.of`.
        """
        if self._entries is None or self._entries[0] != table.version:
            rows, embedding = table.embeddings()
            if not rows:
                return None
            self._entries = table.version, Entries.of(rows, embedding)
        return self._entries[1]

    def neighbours(self, table: GalleryTable) -> PictureLists:
        """The kept neighbours of a snapshot's pictures.

        Raises:
            FileNotFoundError, RuntimeError: see :class:`KeptNeighbours` and :meth:`KeptNeighbours.read`.
        """
        kept, weight = KeptNeighbours(self._folder), self._embedder.fusion_weight
        versions = (table.version, kept.version, weight)
        if self._lists is None or self._lists[0] != versions:
            rows, pictures = all_pictures(table)
            self._lists = versions, PictureLists(rows, kept.read(pictures, weight))
        return self._lists[1]


def all_pictures(table: GalleryTable) -> tuple[list[dict[str, Any]], Pictures]:
    """Rows of a snapshot, sorted by name, and what the kept neighbours know them by."""
    rows, embedding = table.embeddings()
    return rows, Pictures.of([row["image"] for row in rows], [row["sha256"] for row in rows], embedding)
