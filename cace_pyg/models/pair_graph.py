"""The pair graph that the model looks at: what the builder draws, less the blocks that are switched off."""

from typing import Literal

from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder, PairBlocks
from cace_pyg.models.prepared_clues import PreparedClues

Edges = Literal["all", "intra", "inter"]


def intra_edges(builder: GraphBuilder, edges: Edges, keys: Clues) -> Tensor:
    """Edges within each image, ``(image, n, n)``; zero where only inter edges are wanted."""
    images, n = keys.features.shape[:2]
    return keys.features.new_zeros(images, n, n) if edges == "inter" else builder.intra(keys)


def pair_blocks(builder: GraphBuilder, edges: Edges, a: PreparedClues, b: PreparedClues) -> PairBlocks:
    """The adjacency of each pair; one image a may stand for all. Zero between images where only intra is wanted."""
    inter = b.intra.new_zeros(b.intra.shape) if edges == "intra" else builder.inter(a.keys, b.keys)
    return PairBlocks(a.intra, inter, b.intra)
