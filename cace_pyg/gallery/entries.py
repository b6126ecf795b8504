"""The pictures of a gallery as entries: each track is one, and so is each picture without a track."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import torch
from torch import Tensor

from cace_pyg.gallery.check_sums import is_whole
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.retrieval.picture_sets import PictureSets, form_sets

TRACK, QUALITY = "track", "quality"  # columns
PERSON, CONFIDENCE = "person", "person_confidence"


@dataclass(frozen=True)
class Entries:
    """Entries of some pictures of one version of the table.

    Attributes:
        rows: the pictures.
        sets: those of one camera and track as one.
    """

    rows: Sequence[Mapping[str, Any]]
    sets: PictureSets

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], embedding: Tensor) -> "Entries":
        """Join pictures of one camera and one value of the column ``track``.

        Embeddings are weighed by the column ``quality`` (0 or more, such as a detector's score) where all pictures of a
        track have one. Without a camera pictures count as those of one that has no name.

        Args:
            rows: of each picture ``image``, ``camera``, ``time`` and ``metadata``.
            embedding: unit-length, ``(picture, channel)``.

        Raises:
            ValueError: a quality is no number, or below 0; or no picture of a track has clues that were kept.
        """
        quality = torch.tensor([_quality(row) for row in rows])
        kept = [keeps_clues(row) for row in rows]
        labels = [_label(row) for row in rows]
        seen = {label for label, has_clues in zip(labels, kept, strict=True) if has_clues}
        bare = [row["image"] for row, label in zip(rows, labels, strict=True) if label not in seen]
        if bare:
            raise ValueError(
                f"Expected clues of a picture of each track (got none of one with {bare[0]}, whose views were removed "
                "while those of the others were dropped); remove its pictures and add them again"
            )
        return cls(rows, form_sets(embedding, labels, quality, candidates=torch.tensor(kept)))

    def pictures(self, entry: int) -> tuple[str, ...]:
        """Names of the pictures of a track, by time and name; none of a picture without a track."""
        members = [self.rows[position] for position in self.sets.members[entry].tolist()]
        if members[0]["metadata"].get(TRACK) is None:
            return ()
        return tuple(row["image"] for row in sorted(members, key=_by_time))

    def no_views(self) -> list[str]:
        """Names of pictures that have clues and are no view of their track."""
        views = set(self.sets.views.flatten().tolist())
        return [row["image"] for place, row in enumerate(self.rows) if place not in views and keeps_clues(row)]

    def of_pictures(self, images: set[str]) -> list[int]:
        """Entries with one of these pictures."""
        return [
            number
            for number, members in enumerate(self.sets.members)
            if any(self.rows[position]["image"] in images for position in members.tolist())
        ]

    def views(self, entries: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Positions of the pictures that the second stage looks at, and which of ``entries`` each is of."""
        views = self.sets.views[list(entries)]
        there = views >= 0
        return views[there], there.nonzero()[:, 0]


def left_without_clues(rows: Sequence[Mapping[str, Any]], gone: set[str]) -> list[str]:
    """Pictures of a track that would have no clues of any of them if those in ``gone`` went.

    Args:
        rows: of each picture ``image``, ``camera``, ``track`` and ``check_sums``.
        gone: names.
    """
    left: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row[TRACK] is not None and row["image"] not in gone:
            left.setdefault((row["camera"], row[TRACK]), []).append(row)
    bare = [members for members in left.values() if not any(map(keeps_clues, members))]
    return [row["image"] for row in bare[0]] if bare else []


def keeps_clues(row: Mapping[str, Any]) -> bool:
    """Whether the clues of a picture are there; those that are no view of their track may have been dropped."""
    return not is_whole(row, "clues", b"")


def has_tracks(table: GalleryTable) -> bool:
    """Whether there is such a column."""
    return TRACK in table.metadata_columns


def _label(row: Mapping[str, Any]) -> tuple[Any, ...]:
    track = row["metadata"].get(TRACK)
    return (row["image"],) if track is None else (row["camera"], track)


def _quality(row: Mapping[str, Any]) -> float:
    value = row["metadata"].get(QUALITY)
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(
            f"Expected the column {QUALITY} as numbers of 0 or more, by which the pictures of a track are weighed (got "
            f"{value!r} of {row['image']}); call the column otherwise if it means something else"
        )
    return float(value)


def _by_time(row: Mapping[str, Any]) -> tuple[datetime, str]:
    return row["time"] or datetime.max, row["image"]
