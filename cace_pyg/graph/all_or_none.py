"""The two graphs that do not depend on the images: all edges, or none."""

import torch
from torch import Tensor

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues


class FullyConnected(GraphBuilder):
    """Every clue is connected with every clue of both images with weight 1, itself included (Table 2).

    Args:
        channels: size of a clue; the graph does not depend on it.
    """

    compares_features = False

    def __init__(self, channels: int):
        super().__init__()

    def intra(self, prepared: Clues) -> Tensor:
        return _every_edge(prepared, 1.0)

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        return _every_edge(prepared_b, 1.0)


class NoAlignment(GraphBuilder):
    """No edges (Table 2, "No Alignment"): the convolution leaves every clue unchanged.

    The paper's row is the individual embedding. Here it is also the control for every other builder: the same
    parameters without a graph.

    Args:
        channels: size of a clue; the graph does not depend on it.
    """

    compares_features = False

    def __init__(self, channels: int):
        super().__init__()

    def intra(self, prepared: Clues) -> Tensor:
        return _every_edge(prepared, 0.0)

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        return _every_edge(prepared_b, 0.0)


def _every_edge(clues: Clues, weight: float) -> Tensor:
    """One weight for all pairs of clues, ``(image, n, n)``."""
    images, n = clues.features.shape[:2]
    return torch.full((images, n, n), weight, dtype=clues.features.dtype, device=clues.features.device)
