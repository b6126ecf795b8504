"""Body-part label maps beside the pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cace_pyg.data.sample import Sample


def part_map_path(picture: Path) -> Path:
    """Where the label map of a picture stands: ``ROOT/parts/<folder>/<stem>.png`` for ``ROOT/<folder>/<stem>.jpg``."""
    return picture.parent.parent / "parts" / picture.parent.name / f"{picture.stem}.png"


def read_part_map(sample: Sample, size: tuple[int, int]) -> Tensor:
    """The label map of a picture, resized to ``size`` (height, width) without mixing labels.

    Args:
        sample: its path says where the map is, see :func:`part_map_path`.
        size: (height, width) in pixels.

    Returns:
        uint8 ``(height, width)``; 0 is the background.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or has more than one channel of 8 bits.
    """
    path = part_map_path(sample.path)
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    try:
        with Image.open(path) as picture:
            mode, resized = picture.mode, picture.resize(size[::-1], Image.Resampling.NEAREST)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"cannot read the label map {path}: {error}; expected a whole PNG file, make it anew"
        ) from error
    if mode not in ("L", "P"):
        raise ValueError(
            f"Expected {path} to hold one label a pixel, 8 bits (mode L or P) (got mode {mode}); save label indices, "
            "not colours"
        )
    return torch.from_numpy(np.array(resized))


def check_part_maps(samples: Sequence[Sample]) -> None:
    """Raise ``FileNotFoundError`` if a picture has no label map; says how many."""
    missing = [path for path in map(part_map_path, (sample.path for sample in samples)) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{_missing(missing[0])} ({len(missing)} of {len(samples)} pictures have none)")


def _missing(path: Path) -> str:
    return (
        f"no label map at {path}: this graph joins clues of the same body part and needs one for every picture, an "
        "8-bit PNG of part indices in ROOT/parts/<folder>/<stem>.png; choose another --graph, or make them"
    )
