"""Body-part label maps beside the pictures, and what their labels mean."""

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


"""What the labels 0, 1, … of a palette are called by its data set, in order, and which of our body parts they are."""


def common_parts(labels: Tensor, palette: PartPalette) -> Tensor:
    """Body parts (``cace_pyg.data.synthetic.PART_NAMES``) of labels in a palette.

    ``lip``: Look into Person, 20 labels (Gong et al., 2017). ``pascal_person_part``: 7 labels (Chen et al., 2014).
    ``atr``: 18 labels (Liang et al., 2015). ``as_is`` leaves labels what they are. Left and right are one part, and so
    are a limb and what it wears.

    Args:
        labels: uint8, any shape.
        palette: where they come from.

    Raises:
        ValueError: an unknown palette, or a label that it does not have.
    """
    if palette == "as_is":
        return labels
    if palette not in LABELS:
        raise ValueError(f"Expected a palette as_is, {', '.join(LABELS)} (got {palette!r})")
    table = torch.tensor(list(LABELS[palette].values()), dtype=torch.uint8, device=labels.device)
    if labels.numel() and int(labels.max()) >= len(table):
        raise ValueError(f"Expected labels 0 to {len(table) - 1} of the palette {palette} (got {int(labels.max())})")
    return table[labels.long()]


_BIT_DEPTH = 24  # the byte of a PNG file that says it


def part_map_path(picture: Path) -> Path:
    """Where the label map of a picture stands: ``ROOT/parts/<folder>/<stem>.png`` for ``ROOT/<folder>/<stem>.jpg``."""
    folder = Path(os.path.abspath(picture)).parent  # a relative path may not name it; links are not followed
    return folder.parent / "parts" / folder.name / f"{picture.stem}.png"


def read_part_map(sample: Sample, size: tuple[int, int], palette: PartPalette = "as_is") -> Tensor:
    """The label map of a picture as body parts, resized to ``size`` (height, width) without mixing labels.

    Args:
        sample: its path says where the map is, see :func:`part_map_path`.
        size: (height, width) in pixels.
        palette: what the labels of the file mean, see :func:`cace_pyg.data.part_map.common_parts`.

    Returns:
        uint8 ``(height, width)``; 0 is the background.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken or no PNG, or not one channel of 8 bits (a palette of colours is fine, its indices
            count), or has a label that ``palette`` does not know.
    """
    path = part_map_path(sample.path)
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    try:
        with Image.open(path, formats=["PNG"]) as picture:  # the others lose labels
            mode, resized = picture.mode, picture.resize(size[::-1], Image.Resampling.NEAREST)
    except BROKEN as error:
        raise ValueError(
            f"cannot read the label map {path}: {error}; expected a whole PNG file, make it anew"
        ) from error
    _check_labels(path, mode)
    try:
        return common_parts(torch.from_numpy(np.array(resized)), palette)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; give the palette it was made with (data.part_palette)") from error


def check_part_maps(samples: Sequence[Sample]) -> None:
    """Raise ``FileNotFoundError`` if a picture has no label map; says how many."""
    missing = [path for path in map(part_map_path, (sample.path for sample in samples)) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{_missing(missing[0])} ({len(missing)} of {len(samples)} pictures have none)")


def _check_labels(path: Path, mode: str) -> None:
    """Refuse colours, and the shades of grey that Pillow stretches to 0 … 255 where a pixel has fewer than 8 bits."""
    if mode not in ("L", "P"):
        raise ValueError(
            f"Expected {path} to hold one label a pixel, 8 bits (mode L or P) (got mode {mode}); save label indices, "
            "not colours"
        )
    with path.open("rb") as file:
        depth = file.read(_BIT_DEPTH + 1)[_BIT_DEPTH]
    if mode == "L" and depth != 8:
        raise ValueError(
            f"Expected {path} to hold labels of 8 bits (got {depth}-bit grey, whose labels depend on the bits); save "
            "it with 8 bits a pixel"
        )


def _missing(path: Path) -> str:
    return (
        f"no label map at {path}: a graph of body parts (--graph Semantic) needs one for every picture, an 8-bit PNG "
        "of part indices (0: background) in ROOT/parts/<folder>/<stem>.png; make them with python -m cace_pyg.data "
        "parse ROOT, or choose another --graph. The built-in data has them"
    )
