"""From label maps to the body part of each clue."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


def clue_parts(part_maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """The body part that holds most of the pixels under each clue.

    The background, part 0, wins only where it holds more pixels than any other part; of equal parts the smaller index
    wins. Cells are those of adaptive average pooling: they overlap by a row where sizes do not divide.

    Args:
        part_maps: integers ≥ 0, ``(image, height, width)``.
        grid: (H, W) of the feature map.

    Returns:
        int64 ``(image, H·W)``, row by row.

    Raises:
        ValueError: the maps have another shape, or are not integers.
    """
    if part_maps.dim() != 3 or part_maps.is_floating_point():
        raise ValueError(
            f"Expected label maps as integers (image, height, width) (got {part_maps.dtype} {tuple(part_maps.shape)}); "
            "ReidDataset(parts=True) reads them"
        )
    images = part_maps.size(0)
    part = torch.zeros(images, *grid, dtype=torch.long, device=part_maps.device)
    most = torch.zeros(images, *grid, device=part_maps.device)
    labels = part_maps.unique()
    for label in labels[labels > 0].tolist():
        share = adaptive_avg_pool2d((part_maps == label).float(), grid)
        part = torch.where(share > most, label, part)
        most = torch.maximum(most, share)
    background = adaptive_avg_pool2d((part_maps == 0).float(), grid)
    return part.masked_fill(background > most, 0).flatten(1)
