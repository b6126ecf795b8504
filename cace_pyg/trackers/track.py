"""A tracker's finished track of one person in one camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cace_pyg.read_picture import Picture


@dataclass(frozen=True)
class Track:
    """One person in one camera, until the tracker lost them.

    Attributes:
        pictures: of the person, in time order, RGB; a dozen different ones are enough.
        camera: any word.
        start: of the track, in seconds or in frames, by one clock for all cameras; not finite: unknown.
        end: of the track.
        tracker_id: the number that the tracker gave the person.

    Raises:
        ValueError: there is no picture, a single picture is not in a list, or the track ends before it starts.
    """

    pictures: Sequence[Picture]
    camera: str = ""
    start: float = math.nan
    end: float = math.nan
    tracker_id: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.pictures, Picture) or not len(self.pictures):
            raise ValueError("Expected the pictures of a track in a list (got a single picture or an empty list)")
        if self.end < self.start:
            raise ValueError(f"Expected a track that ends after it starts (got {self.start} to {self.end})")

    def overlaps(self, other: "Track") -> bool:
        """Whether both overlap in time; False if a time is unknown."""
        return self.start <= other.end and other.start <= self.end
