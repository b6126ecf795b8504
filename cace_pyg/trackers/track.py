"""What a tracker leaves of one person in one camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cace_pyg.read_picture import Picture


@dataclass(frozen=True)
class Track:
    """One person in one camera, for as long as a tracker did not lose him.

    Attributes:
        pictures: of him, in the order of time, RGB; a dozen that differ are enough.
        camera: any word.
        start: of the track, in seconds, or in frames of one clock for all cameras; not known where it is not finite.
        end: of the track.
        tracker_id: the number that the tracker gave him.

    Raises:
        ValueError: there is no picture, one comes without a list, or it ends before it starts.
    """

    pictures: Sequence[Picture]
    camera: str = ""
    start: float = math.nan
    end: float = math.nan
    tracker_id: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.pictures, Picture) or not len(self.pictures):
            raise ValueError("Expected the pictures of a track in a list (got one without a list, or none)")
        if self.end < self.start:
            raise ValueError(f"Expected a track that ends after it starts (got {self.start} to {self.end})")

    def overlaps(self, other: "Track") -> bool:
        """Whether both lasted at one moment; not where a time is not known."""
        return self.start <= other.end and other.start <= self.end
