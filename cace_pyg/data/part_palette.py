"""The label numberings of public human-parsing data sets, as the body parts of this library."""

from typing import Literal

import torch
from torch import Tensor

PartPalette = Literal["as_is", "lip", "pascal_person_part", "atr"]

_HEAD, _TORSO, _ARMS, _LEGS, _FEET, _CARRIED = range(1, 7)

# One entry a label, in the data set's own order.
_PARTS: dict[PartPalette, tuple[int, ...]] = {
    "lip": (
        0,  # background
        _HEAD, _HEAD, _ARMS, _HEAD,  # hat, hair, glove, sunglasses
        _TORSO, _TORSO, _TORSO, _FEET, _LEGS,  # upper clothes, dress, coat, socks, trousers
        _TORSO, _TORSO, _LEGS, _HEAD,  # jumpsuit, scarf, skirt, face
        _ARMS, _ARMS, _LEGS, _LEGS, _FEET, _FEET,  # left and right arm, leg, shoe
    ),
    "pascal_person_part": (0, _HEAD, _TORSO, _ARMS, _ARMS, _LEGS, _LEGS),  # upper and lower arms, upper and lower legs
    "atr": (
        0,  # background
        _HEAD, _HEAD, _HEAD,  # hat, hair, sunglasses
        _TORSO, _LEGS, _LEGS, _TORSO, _TORSO,  # upper clothes, skirt, trousers, dress, belt
        _FEET, _FEET, _HEAD,  # left and right shoe, face
        _LEGS, _LEGS, _ARMS, _ARMS,  # left and right leg, arm
        _CARRIED, _TORSO,  # bag, scarf
    ),
}  # fmt: skip


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
    if palette not in _PARTS:
        raise ValueError(f"Expected a palette as_is, {', '.join(_PARTS)} (got {palette!r})")
    table = torch.tensor(_PARTS[palette], dtype=torch.uint8, device=labels.device)
    if labels.numel() and int(labels.max()) >= len(table):
        raise ValueError(f"Expected labels 0 to {len(table) - 1} of the palette {palette} (got {int(labels.max())})")
    return table[labels.long()]
