"""One-to-one matching of the clues of two images."""

from itertools import product

import networkx as nx
import numpy as np
from networkx.algorithms.bipartite import minimum_weight_full_matching


def decisive_matching(graph: "nx.Graph[int]", weight: str = "share") -> np.ndarray:
    """The maximum-weight matching between the images: each clue has at most one partner in the other image.

    Without this, the strongest edges often all end at one salient clue. Here each clue is used once, and the sum of
    the weights is the largest possible (exactly, not greedily).

    Example: two clues each, weights [[0.9, 0.8], [0.8, 0]]. The strongest edge 0.9 would leave the others without a
    partner; the matching takes 0.8 twice.

    Args:
        graph: a pair graph, see :func:`~cace_pyg.graph.convert`; only edges between the images count.
        weight: the edge attribute to sum: ``share`` (of the propagation) or ``weight`` (attention).

    Returns:
        float64 ``(match, 3)`` with rows (clue of a, clue of b, weight), strongest first, then by clue of a; clues are
        counted from 0 in each image. At most n rows; none if there are no edges between the images.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    clues_a, clues_b = ([node for node in graph if graph.nodes[node]["image"] == side] for side in (0, 1))
    gain = {pair: graph.edges[pair][weight] for pair in product(clues_a, clues_b) if graph.has_edge(*pair)}
    _check(gain, weight)
    # Exact and fast: if no weight is negative, edges of weight 0 complete every matching without changing its sum, and
    # a complete matching is scipy's assignment problem. For 2 × 192 fully connected clues this takes 0.05 s;
    # networkx's max_weight_matching for general graphs takes 9 s.
    completed: nx.Graph[int] = nx.Graph()
    completed.add_weighted_edges_from((a, b, -gain.get((a, b), 0.0)) for a, b in product(clues_a, clues_b))
    partner = minimum_weight_full_matching(completed, clues_a)
    rows = [
        (graph.nodes[a]["clue"], graph.nodes[b]["clue"], gain[a, b])
        for a, b in ((a, partner[a]) for a in clues_a if a in partner)
        if gain.get((a, b), 0.0) > 0
    ]
    return np.array(sorted(rows, key=lambda row: (-row[2], row[0])), dtype=float).reshape(-1, 3)


def _check(gain: dict[tuple[int, int], float], weight: str) -> None:
    values = np.fromiter(gain.values(), dtype=float, count=len(gain))
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            f"Expected finite {weight} ≥ 0 at every edge between the images (got {values.min():g} to "
            f"{values.max():g}); attention passes a ReLU first"
        )
