"""The nodes of a pair graph and the blocks of its adjacency."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


@dataclass(frozen=True)
class Clues:
    """The pixels of the feature maps of some images, row by row; they are the nodes of all graphs of these images.

    Attributes:
        features: ``(image, n, channel)`` with n = H·W.
        grid: (H, W) of the feature map.
        parts: body part of each pixel, ``(image, n)`` integers, if a builder needs it.

    Raises:
        ValueError: features or parts do not fit the grid.
    """

    features: Tensor
    grid: tuple[int, int]
    parts: Tensor | None = None

    def __post_init__(self) -> None:
        height, width = self.grid
        if self.features.dim() != 3 or self.features.size(1) != height * width:
            raise ValueError(
                f"Expected features as (image, n, channel) with n = {height}·{width} (got {tuple(self.features.shape)})"
            )
        if self.parts is not None and self.parts.shape != self.features.shape[:2]:
            raise ValueError(
                f"Expected parts as (image, n) = {tuple(self.features.shape[:2])} (got {tuple(self.parts.shape)})"
            )

    @classmethod
    def from_map(cls, feature_map: Tensor, part_maps: Tensor | None = None) -> "Clues":
        """Make clues from ``(image, channel, H, W)``, without copying.

        Label maps ``(image, height, width)`` of any size give each clue its body part (:func:`clue_parts`).
        """
        grid = (feature_map.size(2), feature_map.size(3))
        return cls(feature_map.flatten(2).mT, grid, None if part_maps is None else clue_parts(part_maps, grid))

    def __len__(self) -> int:
        return self.features.size(0)

    def select(self, index: Tensor | slice) -> "Clues":
        """The clues of the images at ``index``."""
        parts = None if self.parts is None else self.parts[index]
        return replace(self, features=self.features[index], parts=parts)

    @staticmethod
    def concatenate(several: list["Clues"]) -> "Clues":
        """All images of ``several``, in order."""
        parts = [clues.parts for clues in several if clues.parts is not None]
        features = torch.cat([clues.features for clues in several])
        return replace(several[0], features=features, parts=torch.cat(parts) if parts else None)

    def detach(self) -> "Clues":
        """The same clues, detached from the autograd graph."""
        return replace(self, features=self.features.detach())

    def to(self, device: torch.device | str) -> "Clues":
        """The same clues on ``device``."""
        parts = None if self.parts is None else self.parts.to(device)
        return replace(self, features=self.features.to(device), parts=parts)


class PairBlocks(NamedTuple):
    """The adjacency of Eq. 4 for each pair, [[intra_a, inter], [interᵀ, intra_b]]; every entry is ≥ 0.

    Shapes: each ``(pair, n, n)``; the intra blocks are symmetric; rows of ``inter`` are nodes of image a. If one image
    a is shared by all pairs, ``intra_a`` is ``(1, n, n)``. Intra blocks of ``(pair, 0, 0)`` have no edges and cost
    nothing.
    """

    intra_a: Tensor
    inter: Tensor
    intra_b: Tensor

    def adjacency(self) -> Tensor:
        """The whole matrix, ``(pair, 2n, 2n)``: nodes of a first, then nodes of b."""
        intra_a, intra_b = (
            block.expand_as(self.inter) if block.size(-1) else torch.zeros_like(self.inter)
            for block in (self.intra_a, self.intra_b)
        )
        top = torch.cat([intra_a, self.inter], dim=-1)
        bottom = torch.cat([self.inter.mT, intra_b], dim=-1)
        return torch.cat([top, bottom], dim=-2)

    def density(self) -> tuple[Tensor, Tensor]:
        """The share of non-zero entries, within images and between them: scalars, 0 to 1."""
        of_a, between, of_b = (block.count_nonzero() / max(1, block.numel()) for block in self)
        return (of_a + of_b) / 2, between


def clue_parts(part_maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """The body part of most of the pixels under each clue.

    The background, part 0, wins only if it has more pixels than every other part; among equal parts the smaller index
    wins. Cells are those of adaptive average pooling, which overlap by a row if the sizes do not divide.

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
