"""Pictures on their way into a gallery."""

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cace_pyg.gallery.columns import Value, kept_value
from cace_pyg.gallery.gallery_table import Entry
from cace_pyg.read_picture import BROKEN, Picture, read_picture

_THUMBNAIL = (128, 256)  # pixels at most, (width, height)
_DECODERS = 4  # threads; this many pictures are in memory at full size


@dataclass(frozen=True)
class NewPicture:
    """A picture and its facts; not decoded yet.

    Attributes:
        picture: a path, PIL image, array, or the bytes of a file.
        image: its name, see :class:`Entry`.
        sha256: of the file's bytes or the pixels; empty if the file cannot be read.
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
        """Name a picture: a file by its absolute path, others by their SHA-256.

        Raises:
            ValueError: the camera is not text, the time is not a datetime, or no column takes some metadata.
        """
        where, when = kept_value("camera", camera), kept_value("time", time)
        if not isinstance(where, str | None):
            raise ValueError(f"Expected a camera as text (got {camera!r}, {type(camera).__name__})")
        if not isinstance(when, datetime | None):
            raise ValueError(f"Expected the time it was taken as a datetime (got {time!r}, {type(time).__name__})")
        told = (where, when, {name: kept_value(name, value) for name, value in metadata.items()})
        if isinstance(picture, str | Path):
            path = Path(image_name(picture))
            try:
                return cls(path, str(path), hashlib.sha256(path.read_bytes()).hexdigest(), *told)
            except (OSError, ValueError):
                return cls(path, str(path), "", *told)  # decoding it will report what is wrong
        try:
            sha256 = _sha256(picture)
        except BROKEN:
            return cls(picture, str(getattr(picture, "filename", "") or f"a {type(picture).__name__}"), "")
        return cls(picture, f"sha256:{sha256}", sha256, *told)

    def is_in(self, row: Mapping[str, Any] | None) -> bool:
        """Whether a row of the gallery has this picture with the same facts."""
        if row is None or row["sha256"] != self.sha256:
            return False
        told = {"camera": self.camera, "time": self.time, **self.metadata}
        return all(value is None or row.get(name) == value for name, value in told.items())

    @property
    def shown_name(self) -> str:
        """Its name; bytes that are not UTF-8 are escaped, such as ``\\udcff`` for the byte ff."""
        return self.image.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class ReadPicture:
    """A decoded picture, kept no larger than needed.

    Attributes:
        new: its name and its facts.
        resized: in the size that the network takes.
        thumbnail: a JPEG of at most 128 × 256 pixels.
    """

    new: NewPicture
    resized: Tensor
    thumbnail: bytes

    def entry(self, embedding: np.ndarray, clues: bytes) -> Entry:
        """Its entry in the gallery."""
        new = self.new
        return Entry(new.image, new.sha256, embedding, clues, self.thumbnail, new.camera, new.time, new.metadata)


def read(
    pictures: Sequence[NewPicture], resize: Callable[[Image.Image], Tensor]
) -> tuple[list[ReadPicture], list[tuple[NewPicture, str]]]:
    """The pictures that can be read, and the others with the reason; at most four are in memory at full size.

    Args:
        pictures: not decoded yet.
        resize: from a decoded picture to the network's input.
    """

    def attempt(new: NewPicture) -> ReadPicture | tuple[NewPicture, str]:
        try:
            _expect_utf8(new)
            decoded = read_picture(new.picture)
            return ReadPicture(new, resize(decoded), _thumbnail(decoded))
        except (ValueError, OSError) as error:
            return new, str(error)

    with ThreadPoolExecutor(min(_DECODERS, os.cpu_count() or 1)) as threads:
        attempts = list(threads.map(attempt, pictures))
    good = [attempted for attempted in attempts if isinstance(attempted, ReadPicture)]
    return good, [attempted for attempted in attempts if not isinstance(attempted, ReadPicture)]


def _expect_utf8(new: NewPicture) -> None:
    try:
        for text in (new.image, new.camera, *new.metadata.values()):
            if isinstance(text, str):
                text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "its name, camera or metadata is not UTF-8 and cannot be kept in the gallery; rename it"
        ) from error


def _thumbnail(decoded: Image.Image) -> bytes:
    """Shrinks the picture in place: a copy of a large one would take as much memory again."""
    decoded.thumbnail(_THUMBNAIL)
    shown = io.BytesIO()
    decoded.save(shown, "JPEG", quality=85)
    return shown.getvalue()


def _sha256(picture: bytes | np.ndarray | Image.Image) -> str:
    """The hash of a file's bytes; otherwise of the decoded picture, its mode and its size."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    decoded = read_picture(picture)
    head = f"{decoded.mode} {decoded.width} {decoded.height} ".encode()
    return hashlib.sha256(head + decoded.tobytes()).hexdigest()


def image_name(picture: str | Path) -> str:
    """A file's absolute path without ``.`` and ``..``, so that a file has one name however its path is written.

    Links are not resolved: a folder that two links lead to has two names, and ``..`` after a link to a folder means
    the folder that contains the link, as in ``cd``. ``sha256:…``, the name of a picture without a file, is unchanged.
    """
    return str(picture) if str(picture).startswith("sha256:") else os.path.abspath(picture)


_SHOWN = 20


@dataclass(frozen=True)
class Added:
    """How many pictures were added, and which could not be read.

    Attributes:
        added: new images.
        replaced: images whose file or facts had changed.
        known: images that were there already.
        unreadable: names of pictures that could not be read, with the reason.
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
