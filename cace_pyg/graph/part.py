"""Alignment by location."""

import torch
from torch import Tensor

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues


class Part(GraphBuilder):
    """Clues at the same location are connected with weight 1 (Table 2, "Part Alignment"), itself included.

    Args:
        channels: size of a clue; the graph does not depend on it.
        stripes: the location is one of this many horizontal stripes (PCB, Sun et al. 2018: 6). None: it is the pixel
            itself, as in the paper; within an image only self-loops remain.

    Raises:
        ValueError: there is less than 1 stripe; or, when it is applied, there are more stripes than rows.
    """

    compares_features = False
    positional = True

    def __init__(self, channels: int, stripes: int | None = None):
        if stripes is not None and stripes < 1:
            raise ValueError(f"Expected stripes of at least 1, or None for single pixels (got {stripes})")
        super().__init__()
        self.stripes = stripes

    def intra(self, prepared: Clues) -> Tensor:
        location = self._location(prepared.grid).to(prepared.features.device)
        same = (location[:, None] == location[None]).to(prepared.features.dtype)
        return same.repeat(prepared.features.size(0), 1, 1)  # with len an exported model would take only one batch size

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        return self.intra(prepared_b)

    def _location(self, grid: tuple[int, int]) -> Tensor:
        height, width = grid
        if self.stripes is None:
            return torch.arange(height * width)
        if self.stripes > height:
            raise ValueError(
                f"Expected at most as many stripes as the feature map has rows, {height} (got {self.stripes}); "
                "lower graph.stripes or raise data.height"
            )
        return (torch.arange(height) * self.stripes // height).repeat_interleave(width)
