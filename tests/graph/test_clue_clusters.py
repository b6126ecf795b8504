"""Communities of pair graphs."""

import math

import networkx as nx
import pytest

from cace_pyg.graph import clue_clusters


def pair_graph(n: int, edges: dict[tuple[int, int], float]) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from((node, {"image": node // n, "clue": node % n}) for node in range(2 * n))
    graph.add_weighted_edges_from(((i, j, share) for (i, j), share in edges.items()), weight="share")
    return graph


def two_groups() -> nx.Graph:
    """Clues 0–2 of a with 0–1 of b, clue 3 of a with 2–3 of b, one thin edge between; clue 4 of both isolated."""
    edges = {(i, j): 1.0 for i in (0, 1, 2, 5, 6) for j in (0, 1, 2, 5, 6) if i < j}
    edges |= {(3, 7): 1.0, (3, 8): 1.0, (7, 8): 1.0, (2, 3): 0.1}
    return pair_graph(5, edges)


def test_groups_are_found_the_largest_first():
    found = clue_clusters(two_groups())
    large, small = found.clusters
    assert (large.clues_a, large.clues_b) == ((0, 1, 2), (0, 1)) and len(large) == 5
    assert (small.clues_a, small.clues_b) == ((3,), (2, 3))
    assert large.inner_share == pytest.approx(20 / 20.1) and small.inner_share == pytest.approx(6 / 6.1)
    # by hand: Σ (inner edges / m − (degree of the cluster / 2m)²)
    m = 13.1
    assert found.modularity == pytest.approx(13 / m - (20.1 / (2 * m)) ** 2 - (6.1 / (2 * m)) ** 2)


def test_the_same_graph_has_the_same_clusters():
    graph = nx.gnp_random_graph(40, 0.5, seed=1)
    edges = {edge: 0.1 + (sum(edge) % 7) / 7 for edge in graph.edges}
    first, again = (clue_clusters(pair_graph(20, edges), seed=3) for _ in range(2))
    assert first == again
    sizes = [len(cluster) for cluster in first.clusters]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == 40
    assert all(0 <= cluster.inner_share <= 1 for cluster in first.clusters)


def test_equal_clusters_stand_by_their_first_clue():
    found = clue_clusters(pair_graph(4, {(1, 6): 1.0, (0, 7): 1.0, (2, 2): 1.0, (2, 5): 0.5}))
    assert [cluster.clues_a for cluster in found.clusters] == [(0,), (1,), (2,)]
    assert [cluster.inner_share for cluster in found.clusters] == [1.0, 1.0, 1.0]  # a self-loop stays within, once


def test_a_graph_without_edges_has_no_clusters():
    found = clue_clusters(pair_graph(3, {}))
    assert found.clusters == () and math.isnan(found.modularity)
