"""The fully connected pair graph."""

from dataclasses import replace

from torch import Tensor

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues


class FullyConnected(GraphBuilder):
    """Every clue is connected with every clue of both images with weight 1, itself included (Table 2).

    Args:
        channels: size of a clue; the graph does not depend on it.
    """

    def __init__(self, channels: int):
        super().__init__()

    def prepare(self, clues: Clues) -> Clues:
        """The clues without their features, which no edge depends on."""
        return replace(clues, features=clues.features[..., :0])

    def intra(self, prepared: Clues) -> Tensor:
        images, n = prepared.features.shape[:2]
        return prepared.features.new_ones(images, n, n)

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        return self.intra(prepared_b)
