"""What a gallery keeps of an image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Value = str | int | float | bool | datetime | None


@dataclass(frozen=True)
class Entry:
    """One image of a gallery.

    Attributes:
        image: what it is called: the absolute path of its file, or ``sha256:…`` of a picture that came without one.
            No two entries of a gallery have one name.
        sha256: of the file's bytes, or of the pixels: whether a picture of one name is still the same.
        embedding: unit-length individual embedding.
        clues: the second stage's input, see :class:`~cace_pyg.gallery.clue_codec.ClueCodec`.
        thumbnail: a JPEG to show.
        camera: any word; none: unknown.
        time: when it was taken; none: unknown.
        metadata: anything else, by column.
    """

    image: str
    sha256: str
    embedding: list[float]
    clues: bytes
    thumbnail: bytes
    camera: str | None = None
    time: datetime | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)
