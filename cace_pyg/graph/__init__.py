"""Pair graphs: the clues of two images as nodes, correspondences as edges."""

from cace_pyg.graph.all_or_none import FullyConnected, NoAlignment
from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clue_clusters import ClueCluster, ClueClusters, clue_clusters
from cace_pyg.graph.clues import Clues, PairBlocks
from cace_pyg.graph.convert import (
    Pairs,
    block_edges,
    data_to_pairs,
    pair_to_data,
    pair_to_networkx,
    pairs_to_batch,
)
from cace_pyg.graph.correspondence import CorrespondenceAttention
from cace_pyg.graph.decisive_matching import decisive_matching
from cace_pyg.graph.degree_statistics import (
    DegreeRange,
    DegreeStatistics,
    degree_statistics,
)
from cace_pyg.graph.part import Part
from cace_pyg.graph.semantic import Semantic
from cace_pyg.graph.top_k import TopKSimilarity

__all__ = [
    "ClueCluster",
    "ClueClusters",
    "Clues",
    "CorrespondenceAttention",
    "DegreeRange",
    "DegreeStatistics",
    "FullyConnected",
    "GraphBuilder",
    "NoAlignment",
    "PairBlocks",
    "Pairs",
    "Part",
    "Semantic",
    "TopKSimilarity",
    "block_edges",
    "clue_clusters",
    "data_to_pairs",
    "decisive_matching",
    "degree_statistics",
    "pair_to_data",
    "pair_to_networkx",
    "pairs_to_batch",
]
