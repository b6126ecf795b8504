"""Pair graphs: the clues of two images as nodes, correspondences as edges."""

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues, PairBlocks
from cace_pyg.graph.convert import pair_to_data, pairs_to_batch
from cace_pyg.graph.correspondence import CorrespondenceAttention
from cace_pyg.graph.fully_connected import FullyConnected

__all__ = [
    "Clues",
    "CorrespondenceAttention",
    "FullyConnected",
    "GraphBuilder",
    "PairBlocks",
    "pair_to_data",
    "pairs_to_batch",
]
