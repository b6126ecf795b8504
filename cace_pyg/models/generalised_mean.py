"""Generalised-mean pooling: between average and maximum."""

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "generalised_mean"]
_SMALLEST = 1e-6


def generalised_mean(clues: Tensor, exponent: Tensor) -> Tensor:
    """(mean of xᵖ)^(1/p) over the clues of each image: p = 1 is the average, large p the maximum.

    Values below 1e-6 count as 1e-6, so it is meant for maps after a ReLU.

    Shapes: ``(image, n, channel)`` and ``(1,)`` to ``(image, channel)``.
    """
    return clues.clamp_min(_SMALLEST).pow(exponent).mean(1).pow(1 / exponent)


class GeneralisedMean(torch.nn.Module):
    """:func:`generalised_mean` with a learned exponent, initially 3, as in the code of CACE-Net's authors."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = torch.nn.Parameter(torch.tensor([3.0]))

    def forward(self, clues: Tensor) -> Tensor:
        """Return the pooled clues of each image."""
        return generalised_mean(clues, self.exponent)
