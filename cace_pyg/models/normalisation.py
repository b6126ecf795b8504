"""Normalisations of pictures that networks expect."""

from typing import Literal

import torch
from torch import Tensor

from cace_pyg.data.transforms import IMAGENET_MEAN, IMAGENET_STD

Normalisation = Literal["imagenet", "symmetric", "clip", "unit", "pixels"]
Moments = tuple[tuple[float, ...], tuple[float, ...]]

_MOMENTS: dict[Normalisation, Moments] = {  # mean and standard deviation for channels from 0 to 1
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "symmetric": ((0.5,) * 3, (0.5,) * 3),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "pixels": ((0.0,) * 3, (1 / 255,) * 3),
}


def renormalisation(wanted: Normalisation | Moments) -> tuple[Tensor, Tensor]:
    """Factor and offset, ``(3, 1, 1)`` each, that convert images with ImageNet's normalisation to a network's own.

    Args:
        wanted: ``imagenet``: its mean and standard deviation; ``symmetric``: −1 to 1; ``clip``: mean and standard
            deviation of CLIP; ``unit``: 0 to 1; ``pixels``: 0 to 255; or a mean and a deviation for each channel.
    """
    moments = _MOMENTS[wanted] if isinstance(wanted, str) else wanted
    mean, deviation = (torch.tensor(numbers).view(3, 1, 1) for numbers in moments)
    given_mean, given_deviation = (torch.tensor(numbers).view(3, 1, 1) for numbers in _MOMENTS["imagenet"])
    return given_deviation / deviation, (given_mean - mean) / deviation
