"""Pictures on their way into a gallery."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from cace_pyg.data.read_picture import Picture, read_picture
from cace_pyg.gallery.entry import Entry, Value
from cace_pyg.gallery.image_name import image_name

_THUMBNAIL = (128, 256)  # pixels, at most, (width, height)


@dataclass(frozen=True)
class NewPicture:
    """A picture and what is told of it; not decoded yet.

    Attributes:
        picture: a path, PIL image, array, or the bytes of a file.
        image: what it is called, see :class:`Entry`.
        sha256: of the file's bytes or the pixels; empty where the file cannot be read.
        camera: any word.
        time: when it was taken.
        metadata: other columns.
    """

    picture: Picture
    image: str
    sha256: str
    camera: str | None = None
    time: datetime | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def of(
        cls, picture: Picture, camera: str | None, time: datetime | None, metadata: Mapping[str, Value]
    ) -> "NewPicture":
        """Name a picture: a file by its absolute path, others by their SHA-256."""
        if isinstance(picture, str | Path):
            path = Path(image_name(picture))
            try:
                return cls(path, str(path), hashlib.sha256(path.read_bytes()).hexdigest(), camera, time, metadata)
            except OSError:
                return cls(path, str(path), "", camera, time, metadata)  # decoding it says what is wrong
        content = picture if isinstance(picture, bytes) else np.asarray(picture).tobytes()
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(picture, f"sha256:{sha256}", sha256, camera, time, metadata)

    def is_in(self, row: Mapping | None) -> bool:
        """Whether a row of the gallery holds this picture and all that is told of it."""
        if row is None or row["sha256"] != self.sha256:
            return False
        told = {"camera": self.camera, "time": self.time, **self.metadata}
        return all(value is None or row.get(name) == value for name, value in told.items())

    def entry(self, decoded: Image.Image, embedding: np.ndarray, clues: bytes) -> Entry:
        """What the gallery keeps of it."""
        thumbnail = io.BytesIO()
        small = decoded.copy()
        small.thumbnail(_THUMBNAIL)
        small.save(thumbnail, "JPEG", quality=85)
        shown = thumbnail.getvalue()
        return Entry(self.image, self.sha256, embedding, clues, shown, self.camera, self.time, self.metadata)


def decode(pictures: Sequence[NewPicture]) -> tuple[list[tuple[NewPicture, Image.Image]], list[tuple[str, str]]]:
    """Those that can be read with their decoded pictures, and the names of the others with the reason."""
    with ThreadPoolExecutor() as threads:
        attempts = list(threads.map(_attempt, pictures))
    pairs = list(zip(pictures, attempts, strict=True))
    good = [(new, attempt) for new, attempt in pairs if isinstance(attempt, Image.Image)]
    return good, [(new.image, str(attempt)) for new, attempt in pairs if not isinstance(attempt, Image.Image)]


def _attempt(new: NewPicture) -> Image.Image | Exception:
    try:
        return read_picture(new.picture)
    except (ValueError, OSError) as error:
        return error
