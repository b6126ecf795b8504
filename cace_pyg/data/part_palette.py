"""The label numberings of public human-parsing data sets, as the body parts of this library."""

from typing import Literal

import torch
from torch import Tensor

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
