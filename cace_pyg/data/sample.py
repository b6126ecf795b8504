"""The library's form of a data set: lists of labelled image files."""

import hashlib
import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LARGEST_LABEL = 2**60  # a tensor's integers end at 2^63, and combine adds labels


class Sample(NamedTuple):
    """One image file with its identity and camera."""

    path: Path
    pid: int  # identity; 0 is a distractor (stays in the gallery, never a match)
    camid: int  # camera, as in the file name
    track: str = ""  # pictures of one pid, camid and track are one query or one gallery entry; "": no track


@dataclass(frozen=True)
class Splits:
    """The three parts of a re-identification data set, each sorted by file name.

    Raises:
        ValueError: a pid or camid is above 2^60.
    """

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]

    def __post_init__(self) -> None:
        for path, pid, camid, _ in itertools.chain(self.train, self.query, self.gallery):
            if max(pid, camid) > LARGEST_LABEL:
                raise ValueError(
                    f"Expected pids and camids of at most 2^60 (got pid {pid}, camid {camid} of {path}); renumber them"
                )

    @property
    def num_identities(self) -> int:
        """Training identities: the classes of a model."""
        return len({sample.pid for sample in self.train})


def track_labels(samples: Sequence[Sample]) -> list[Hashable]:
    """A label for each picture that is the same for all pictures of a track; a picture without a track has its own."""
    return [
        (sample.pid, sample.camid, sample.track) if sample.track else position
        for position, sample in enumerate(samples)
    ]


def fingerprint(splits: Splits) -> str:
    """12 hexadecimal digits of the SHA-256 over part, file name and size in bytes of every picture.

    Two folders with the same fingerprint have the same files, wherever they are; contents are not read.
    """
    digest = hashlib.sha256()
    for part in ("train", "query", "gallery"):
        for sample in getattr(splits, part):
            told = f"{part}/{sample.path.name}:{sample.path.stat().st_size}\n"
            digest.update(told.encode(errors="surrogateescape"))  # a name need not be UTF-8
    return digest.hexdigest()[:12]


def combine(parts: Sequence[Sequence[Sample]]) -> tuple[Sample, ...]:
    """The pictures of several data sets, renumbered so that no two share an identity or a camera.

    The first keeps its pids and camids; those of each later one are shifted above all earlier ones.

    Args:
        parts: training pictures, without junk and distractors.

    Raises:
        ValueError: a pid is below 1, or there are no parts.
    """
    if not parts or any(sample.pid < 1 for part in parts for sample in part):
        raise ValueError("Expected training pictures of pid 1 and above (got a smaller one, or no part at all)")
    combined: list[Sample] = []
    for part in parts:
        pid = max((sample.pid for sample in combined), default=0)
        camid = max((sample.camid for sample in combined), default=-1) + 1 if combined else 0
        combined += [Sample(sample.path, sample.pid + pid, sample.camid + camid) for sample in part]
    return tuple(combined)
