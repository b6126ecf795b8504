"""The pictures of a gallery as entries: each track is one, and so is each picture without a track."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import torch
from torch import Tensor

from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.retrieval.picture_sets import PictureSets, form_sets

TRACK, QUALITY = "track", "quality"  # columns


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
            ValueError: a quality is no number, or below 0.
        """
        quality = torch.tensor([_quality(row) for row in rows])
        return cls(rows, form_sets(embedding, [_label(row) for row in rows], quality))

    def pictures(self, entry: int) -> tuple[str, ...]:
        """Names of the pictures of a track, by time and name; none of a picture without a track."""
        members = [self.rows[position] for position in self.sets.members[entry].tolist()]
        if members[0]["metadata"].get(TRACK) is None:
            return ()
        return tuple(row["image"] for row in sorted(members, key=_by_time))

    def views(self, entries: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Positions of the pictures that the second stage looks at, and which of ``entries`` each is of."""
        views = self.sets.views[list(entries)]
        there = views >= 0
        return views[there], there.nonzero()[:, 0]


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
