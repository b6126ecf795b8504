"""Body-part label maps next to the pictures, and the meaning of their labels."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cace_pyg.data.sample import Sample
from cace_pyg.read_picture import BROKEN

PartPalette = Literal["as_is", "lip", "pascal_person_part", "atr"]
_HEAD, _TORSO, _ARMS, _LEGS, _FEET, _CARRIED = range(1, 7)


LABELS: dict[PartPalette, dict[str, int]] = {
    "lip": {
        "Background": 0,
        "Hat": _HEAD, "Hair": _HEAD, "Glove": _ARMS, "Sunglasses": _HEAD,
        "Upper-clothes": _TORSO, "Dress": _TORSO, "Coat": _TORSO, "Socks": _FEET, "Pants": _LEGS,
        "Jumpsuits": _TORSO, "Scarf": _TORSO, "Skirt": _LEGS, "Face": _HEAD,
        "Left-arm": _ARMS, "Right-arm": _ARMS, "Left-leg": _LEGS, "Right-leg": _LEGS,
        "Left-shoe": _FEET, "Right-shoe": _FEET,
    },
    "pascal_person_part": {
        "Background": 0,
        "Head": _HEAD, "Torso": _TORSO, "Upper Arms": _ARMS, "Lower Arms": _ARMS,
        "Upper Legs": _LEGS, "Lower Legs": _LEGS,
    },
    "atr": {
        "Background": 0,
        "Hat": _HEAD, "Hair": _HEAD, "Sunglasses": _HEAD,
        "Upper-clothes": _TORSO, "Skirt": _LEGS, "Pants": _LEGS, "Dress": _TORSO, "Belt": _TORSO,
        "Left-shoe": _FEET, "Right-shoe": _FEET, "Face": _HEAD,
        "Left-leg": _LEGS, "Right-leg": _LEGS, "Left-arm": _ARMS, "Right-arm": _ARMS,
        "Bag": _CARRIED, "Scarf": _TORSO,
    },
}  # fmt: skip


"""The names of the labels 0, 1, … of a palette in its data set, in order, and our body parts for them."""


def common_parts(labels: Tensor, palette: PartPalette) -> Tensor:
    """Body parts (``cace_pyg.data.synthetic.PART_NAMES``) of labels in a palette.

    ``lip``: Look into Person, 20 labels (Gong et al., 2017). ``pascal_person_part``: 7 labels (Chen et al., 2014).
    ``atr``: 18 labels (Liang et al., 2015). ``as_is`` keeps the labels. Left and right are one part, and so are a limb
    and its clothes.

    Args:
        labels: uint8, any shape.
        palette: the palette of the labels.

    Raises:
        ValueError: the palette is unknown, or does not have a label.
    """
    if palette == "as_is":
        return labels
    if palette not in LABELS:
        raise ValueError(f"Expected a palette as_is, {', '.join(LABELS)} (got {palette!r})")
    table = torch.tensor(list(LABELS[palette].values()), dtype=torch.uint8, device=labels.device)
    if labels.numel() and int(labels.max()) >= len(table):
        raise ValueError(f"Expected labels 0 to {len(table) - 1} of the palette {palette} (got {int(labels.max())})")
    return table[labels.long()]


_BIT_DEPTH = 24  # the byte of a PNG file with the bit depth


def part_map_path(picture: Path) -> Path:
    """The path of a picture's label map: ``ROOT/parts/<folder>/<stem>.png`` for ``ROOT/<folder>/<stem>.jpg``."""
    folder = Path(os.path.abspath(picture)).parent  # a relative path may not contain it; links are not followed
    return folder.parent / "parts" / folder.name / f"{picture.stem}.png"


def read_part_map(sample: Sample, size: tuple[int, int], palette: PartPalette = "as_is") -> Tensor:
    """The label map of a picture as body parts, resized to ``size`` (height, width) without mixing labels.

    Args:
        sample: its path determines that of the map, see :func:`part_map_path`.
        size: (height, width) in pixels.
        palette: the meaning of the labels in the file, see :func:`cace_pyg.data.part_map.common_parts`.

    Returns:
        uint8 ``(height, width)``; 0 is the background.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken or not a PNG, does not have one channel of 8 bits (colour palettes are fine: their
            indices are used), or has a label that ``palette`` does not have.
    """
    path = part_map_path(sample.path)
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    try:
        with Image.open(path, formats=["PNG"]) as picture:  # other formats lose labels
            mode, resized = picture.mode, picture.resize(size[::-1], Image.Resampling.NEAREST)
    except BROKEN as error:
        raise ValueError(
            f"cannot read the label map {path}: {error}; expected a complete PNG file, make it again"
        ) from error
    _check_labels(path, mode)
    try:
        return common_parts(torch.from_numpy(np.array(resized)), palette)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; give the palette it was made with (data.part_palette)") from error


def check_part_maps(samples: Sequence[Sample]) -> None:
    """Raise ``FileNotFoundError`` if a picture has no label map; the message says how many have none."""
    missing = [path for path in map(part_map_path, (sample.path for sample in samples)) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{_missing(missing[0])} ({len(missing)} of {len(samples)} pictures have none)")


def _check_labels(path: Path, mode: str) -> None:
    """Refuse colours, and grey values of fewer than 8 bits, which Pillow would scale to 0 … 255."""
    if mode not in ("L", "P"):
        raise ValueError(
            f"Expected one label of 8 bits per pixel in {path} (mode L or P) (got mode {mode}); save label indices, "
            "not colours"
        )
    with path.open("rb") as file:
        depth = file.read(_BIT_DEPTH + 1)[_BIT_DEPTH]
    if mode == "L" and depth != 8:
        raise ValueError(
            f"Expected labels of 8 bits in {path} (got {depth}-bit grey, whose labels depend on the bits); save "
            "it with 8 bits per pixel"
        )


def _missing(path: Path) -> str:
    return (
        f"no label map at {path}: a graph of body parts (--graph Semantic) needs one for every picture, an 8-bit PNG "
        "of part indices (0: background) in ROOT/parts/<folder>/<stem>.png; make them with python -m cace_pyg.data "
        "parse ROOT, or choose another --graph. The built-in data has them"
    )
