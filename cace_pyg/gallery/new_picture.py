"""Pictures on their way into a gallery."""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cace_pyg.gallery.gallery_table import Entry, Value
from cace_pyg.read_picture import Picture, read_picture

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

    def is_in(self, row: Mapping[str, Any] | None) -> bool:
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


def image_name(picture: str | Path) -> str:
    """A file's absolute path, ``.`` and ``..`` worked out, so that a file has one name however its path is written.

    Links are left as they are: a folder that is reached by two has two names, and ``..`` after a link to a folder is
    the folder that link lies in, as ``cd`` takes it. ``sha256:…``, the name of a picture without a file, stays.
    """
    return str(picture) if str(picture).startswith("sha256:") else os.path.abspath(picture)


_SHOWN = 20


@dataclass(frozen=True)
class Added:
    """Counts, and what could not be read.

    Attributes:
        added: new images.
        replaced: images whose file, or what is told of it, had changed.
        known: images that were there already.
        unreadable: names of pictures that are not in the gallery, with the reason.
    """

    added: int = 0
    replaced: int = 0
    known: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: "Added") -> "Added":
        return Added(
            self.added + other.added,
            self.replaced + other.replaced,
            self.known + other.known,
            self.unreadable + other.unreadable,
        )

    def __str__(self) -> str:
        lines = [
            f"added: {self.added}; replaced, because they had changed: {self.replaced}; there already: {self.known}",
            f"pictures that cannot be read: {len(self.unreadable) or 'none'}",
        ]
        lines += [f"  {name}: {reason}" for name, reason in self.unreadable[:_SHOWN]]
        if len(self.unreadable) > _SHOWN:
            lines.append(f"  and {len(self.unreadable) - _SHOWN} more")
        return "\n".join(lines)
