"""Clues that have the channels of several layers of a network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


def join_layers(last: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """The last feature map, and after its channels those of earlier maps.

    Each earlier map is averaged over the pixels of the last one, and scaled to its mean square in each image (our
    addition; docs/results.md).

    Shapes: each ``(image, channel, H, W)``, earlier maps of any larger size, to ``(image, all channels, H, W)``.
    """
    return torch.cat([last, *(_like(feature_map, last) for feature_map in earlier)], dim=1) if earlier else last


def check_earlier(
    earlier: Mapping[str, tuple[int, ...]], grid: tuple[int, ...], network: str, same_size: bool = False
) -> None:
    """Refuse layers that make no map, or a map with fewer pixels than the last one.

    Args:
        earlier: the shape of each layer's output, by name.
        grid: (H, W) of the last map.
        network: for the error message.
        same_size: also refuse a map with more pixels: a transformer has tokens for one grid.

    Raises:
        ValueError: as said.
    """
    for name, shape in earlier.items():
        fits = len(shape) == 4 and all(side >= least for side, least in zip(shape[2:], grid, strict=True))
        if not fits or (same_size and shape[2:] != grid):
            raise ValueError(
                f"Expected earlier layers of {network} to make maps (image, channel, H, W) of "
                f"{'' if same_size else 'at least '}{grid[0]}×{grid[1]} pixels (got {shape} of {name}); choose others"
            )


def _like(earlier: Tensor, last: Tensor) -> Tensor:
    pooled = adaptive_avg_pool2d(earlier, (last.size(2), last.size(3)))
    own, wanted = (feature_map.square().mean((1, 2, 3), keepdim=True) for feature_map in (pooled, last))
    return pooled * (wanted / own.clamp_min(torch.finfo(own.dtype).tiny)).sqrt()
