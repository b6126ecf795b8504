"""What a data set is to the rest of the library: lists of labelled image files."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """One image file, who is on it and which camera took it."""

    path: Path
    pid: int  # identity; 0 is a distractor (stays in the gallery, never a match)
    camid: int  # camera, as the file name has it


@dataclass(frozen=True)
class Splits:
    """The three parts of a re-identification data set, each sorted by file name."""

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
