"""Groups of clues that hang together, across both images."""

import math
from collections.abc import Set
from dataclasses import dataclass

import networkx as nx


@dataclass(frozen=True)
class ClueCluster:
    """Clues that are tied to each other more than their degrees alone would make them.

    Attributes:
        clues_a: its clues in image a, ascending, counted from 0.
        clues_b: its clues in image b.
        inner_share: the part of its clues' weighted degrees that stays within it, 0 to 1.
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
        clusters: largest first; equal ones by their first clue. Clues without an edge are in none.
        modularity: how much more weight lies within the clusters than the clues' degrees would put there by chance,
            −½ to 1; NaN without edges. Near 0 the graph has no clusters worth the name.
    """

    clusters: tuple[ClueCluster, ...]
    modularity: float


def clue_clusters(graph: "nx.Graph[int]", weight: str = "share", seed: int = 0) -> ClueClusters:
    """Find the communities of a pair graph by the Louvain method (Blondel et al., 2008).

    Args:
        graph: a pair graph, see :func:`~cace_pyg.graph.convert`.
        weight: the edge attribute that ties clues: ``share`` (part in the propagation) or ``weight`` (attention).
        seed: of the order in which the method visits the clues; one seed gives one answer.

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
