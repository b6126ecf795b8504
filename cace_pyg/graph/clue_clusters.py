"""Clusters of connected clues, across both images."""

import math
from collections.abc import Set
from dataclasses import dataclass

import networkx as nx


@dataclass(frozen=True)
class ClueCluster:
    """Clues that are connected more strongly than their degrees alone would predict.

    Attributes:
        clues_a: its clues in image a, ascending, counted from 0.
        clues_b: its clues in image b.
        inner_share: share of its clues' weighted degrees that stays within the cluster, 0 to 1.
    """

    clues_a: tuple[int, ...]
    clues_b: tuple[int, ...]
    inner_share: float

    def __len__(self) -> int:
        return len(self.clues_a) + len(self.clues_b)


@dataclass(frozen=True)
class ClueClusters:
    """The clusters of a pair graph.

    Attributes:
        clusters: largest first; equal sizes sorted by their first clue. Clues without edges are in no cluster.
        modularity: how much more weight is within clusters than the clues' degrees would give by chance, −½ to 1; NaN
            without edges. Near 0 the graph has no real clusters.
    """

    clusters: tuple[ClueCluster, ...]
    modularity: float


def clue_clusters(graph: "nx.Graph[int]", weight: str = "share", seed: int = 0) -> ClueClusters:
    """Find the communities of a pair graph by the Louvain method (Blondel et al., 2008).

    Args:
        graph: a pair graph, see :func:`~cace_pyg.graph.convert`.
        weight: the edge attribute to use: ``share`` (of the propagation) or ``weight`` (attention).
        seed: of the order in which the method visits the clues; the same seed gives the same result.

    Returns:
        The clusters and their modularity, see :class:`ClueClusters`.
    """
    connected = graph.subgraph([node for node in graph if graph[node]]).copy()
    if not connected:
        return ClueClusters((), math.nan)
    communities = nx.community.louvain_communities(connected, weight=weight, seed=seed)
    communities.sort(key=lambda nodes: (-len(nodes), min(nodes)))
    clusters = tuple(_cluster(connected, nodes, weight) for nodes in communities)
    return ClueClusters(clusters, nx.community.modularity(connected, communities, weight=weight))


def _cluster(graph: "nx.Graph[int]", nodes: Set[int], weight: str) -> ClueCluster:
    clues_a, clues_b = (
        tuple(sorted(graph.nodes[node]["clue"] for node in nodes if graph.nodes[node]["image"] == image))
        for image in (0, 1)
    )
    ends = [(other in nodes, edge[weight]) for node in nodes for other, edge in graph[node].items()]
    inner = sum(value for is_inner, value in ends if is_inner)
    return ClueCluster(clues_a, clues_b, inner / sum(value for _, value in ends))
