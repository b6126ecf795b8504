"""The entries of a gallery: each track is one, and so is each picture without a track."""

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
    """The entries that some pictures form, in one version of the table.

    Attributes:
        rows: the pictures.
        sets: the pictures joined by camera and track.
    """

    rows: Sequence[Mapping[str, Any]]
    sets: PictureSets

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], embedding: Tensor) -> "Entries":
        """Join pictures of one camera and one value of the column ``track``.

        Embeddings are weighted by the column ``quality`` (0 or more, such as a detector's score) if all pictures of a
        track have one. Pictures without a camera count as pictures of one camera without a name.

        Args:
            rows: ``image``, ``camera``, ``time`` and ``metadata`` of each picture.
            embedding: unit-length, ``(picture, channel)``.

        Raises:
            ValueError: a quality is not a number or is below 0; or no picture of a track still has clues.
        """
        quality = torch.tensor([_quality(row) for row in rows])
        kept = [keeps_clues(row) for row in rows]
        labels = [_label(row) for row in rows]
        seen = {label for label, has_clues in zip(labels, kept, strict=True) if has_clues}
        bare = [row["image"] for row, label in zip(rows, labels, strict=True) if label not in seen]
        if bare:
            raise ValueError(
                f"Expected clues of at least one picture of each track (got none for the track of {bare[0]}: its views "
                "were removed, and its other pictures have no clues any more); remove its pictures and add them again"
            )
        return cls(rows, form_sets(embedding, labels, quality, candidates=torch.tensor(kept)))

    def pictures(self, entry: int) -> tuple[str, ...]:
        """Names of the pictures of a track, sorted by time and name; empty for a picture without a track."""
        members = [self.rows[position] for position in self.sets.members[entry].tolist()]
        if members[0]["metadata"].get(TRACK) is None:
            return ()
        return tuple(row["image"] for row in sorted(members, key=_by_time))

    def no_views(self) -> list[str]:
        """Names of pictures that have clues but are not a view of their track."""
        views = set(self.sets.views.flatten().tolist())
        return [row["image"] for place, row in enumerate(self.rows) if place not in views and keeps_clues(row)]

    def of_pictures(self, images: set[str]) -> list[int]:
        """Entries that contain one of these pictures."""
        return [
            number
            for number, members in enumerate(self.sets.members)
            if any(self.rows[position]["image"] in images for position in members.tolist())
        ]

    def views(self, entries: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Positions of the pictures that the second stage compares, and which of ``entries`` each belongs to."""
        views = self.sets.views[list(entries)]
        there = views >= 0
        return views[there], there.nonzero()[:, 0]


def left_without_clues(rows: Sequence[Mapping[str, Any]], gone: set[str]) -> list[str]:
    """Pictures of tracks that would be left without any clues if the pictures in ``gone`` were removed.

    Args:
        rows: ``image``, ``camera``, ``track`` and ``check_sums`` of each picture.
        gone: names.
    """
    left: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row[TRACK] is not None and row["image"] not in gone:
            left.setdefault((row["camera"], row[TRACK]), []).append(row)
    bare = [members for members in left.values() if not any(map(keeps_clues, members))]
    return [row["image"] for row in bare[0]] if bare else []


def keeps_clues(row: Mapping[str, Any]) -> bool:
    """Whether a picture still has its clues; pictures that are not a view of their track may have lost them."""
    return not is_whole(row, "clues", b"")


def has_tracks(table: GalleryTable) -> bool:
    """Whether the table has a column ``track``."""
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
            f"Expected numbers of 0 or more in the column {QUALITY}, which weights the pictures of a track (got "
            f"{value!r} for {row['image']}); rename the column if it means something else"
        )
    return float(value)


def _by_time(row: Mapping[str, Any]) -> tuple[datetime, str]:
    return row["time"] or datetime.max, row["image"]
