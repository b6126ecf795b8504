"""Clues that have the channels of several layers of a network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


def join_layers(last: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """The last feature map, and after its channels those of earlier maps.

    Each earlier map is averaged over the pixels of the last one, and scaled to the last one's mean square in each image
    (our addition; docs/results.md).

    Shapes: each ``(image, channel, H, W)``, earlier maps of any larger size, to ``(image, all channels, H, W)``.
    """
    return torch.cat([last, *(_like(feature_map, last) for feature_map in earlier)], dim=1) if earlier else last


def layer_names(earlier: Sequence[str | int]) -> tuple[str, ...]:
    """The names of earlier layers as text.

    Raises:
        ValueError: they are not in a list, or one is empty or there twice.
    """
    if isinstance(earlier, str | int):
        raise ValueError(f"Expected the names of earlier layers in a list, such as [{earlier!r}] (got {earlier!r})")
    names = tuple(map(str, earlier))
    if wrong := [name for place, name in enumerate(names) if not name or name in names[:place]]:
        raise ValueError(
            f"Expected each earlier layer once, by its name (got {wrong[0]!r}{' twice' if wrong[0] else ''}); leave it "
            "out"
        )
    return names


def fits_below(shape: tuple[int, ...], grid: tuple[int, ...], same_size: bool = False) -> bool:
    """Whether a tensor can be joined with a last map of ``grid``: a map with at least its pixels and its proportions.

    Args:
        shape: of the tensor, ``(image, channel, H, W)`` if it is a map.
        grid: (H, W) of the last map.
        same_size: only the same grid fits: a transformer has tokens for one grid.
    """
    if len(shape) != 4 or shape[2] < grid[0] or shape[3] < grid[1]:
        return False
    proportions = shape[2] * grid[1] / (shape[3] * grid[0])
    return shape[2:] == grid if same_size else 0.5 < proportions < 2  # odd sizes are rounded at each stride


def check_earlier(
    earlier: Mapping[str, tuple[int, ...]], grid: tuple[int, ...], network: str, same_size: bool = False
) -> None:
    """Refuse layers that make no map, or a map that does not fit the last one.

    Args:
        earlier: the shape of each layer's output, by name.
        grid: (H, W) of the last map.
        network: for the error message.
        same_size: see :func:`fits_below`.

    Raises:
        ValueError: as said.
    """
    for name, shape in earlier.items():
        if not fits_below(shape, grid, same_size):
            raise ValueError(
                f"Expected earlier layers of {network} to make maps (image, channel, H, W) of "
                f"{'' if same_size else 'at least '}{grid[0]}×{grid[1]} pixels (got {shape} of {name}); choose others"
            )


def _like(earlier: Tensor, last: Tensor) -> Tensor:
    pooled = adaptive_avg_pool2d(earlier, (last.size(2), last.size(3)))
    own, wanted = (feature_map.square().mean((1, 2, 3), keepdim=True) for feature_map in (pooled, last))
    return pooled * (wanted / own.clamp_min(torch.finfo(own.dtype).tiny)).sqrt()
