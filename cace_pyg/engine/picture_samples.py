"""Single pictures, as evaluation takes them."""

from collections.abc import Sequence
from pathlib import Path

from cace_pyg.data.sample import Sample


def picture_samples(pictures: Sequence[Path]) -> tuple[Sample, ...]:
    """The files as samples of one person, each from a camera of its own, so that the protocol has something to rank.

    Raises:
        FileNotFoundError: there is no such picture.
    """
    for picture in pictures:
        if not picture.is_file():
            raise FileNotFoundError(f"no picture at {picture}; expected the files of pictures, such as A.jpg B.jpg")
    return tuple(Sample(picture, pid=1, camid=camera) for camera, picture in enumerate(pictures))
