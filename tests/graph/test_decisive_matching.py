"""The decisive correspondences, against brute force and against networkx's matching of general graphs."""

from itertools import permutations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cace_pyg.graph import decisive_matching


def pair_graph(inter: np.ndarray) -> nx.Graph:
    """Clues of a and b, inter edges of these shares where they are not zero, and heavy edges within the images."""
    n = len(inter)
    graph = nx.Graph()
    graph.add_nodes_from((node, {"image": node // n, "clue": node % n}) for node in range(2 * n))
    graph.add_edges_from((node, (node + 1) % n, {"share": 9.0}) for node in range(n))
    graph.add_edges_from((int(i), n + int(j), {"share": float(inter[i, j])}) for i, j in np.argwhere(inter))
    return graph


def best_sum(inter: np.ndarray) -> float:
    """The heaviest of all ways to pair every clue; pairs without an edge add nothing."""
    n = len(inter)
    return max(inter[range(n), order].sum() for order in permutations(range(n)))


def is_matching(matches: np.ndarray, inter: np.ndarray) -> bool:
    a, b = matches[:, 0].astype(int), matches[:, 1].astype(int)
    spent_once = len(set(a)) == len(a) and len(set(b)) == len(b)
    return spent_once and np.array_equal(matches[:, 2], inter[a, b]) and bool((matches[:, 2] > 0).all())


@pytest.mark.parametrize("density", [0.0, 0.15, 0.5, 1.0])
def test_it_is_the_heaviest_matching(density):
    draw = np.random.default_rng(0)
    for n in (1, 2, 3, 5, 6):
        inter = draw.random((n, n)) * (draw.random((n, n)) < density)
        matches = decisive_matching(pair_graph(inter))
        assert matches.shape[1] == 3 and is_matching(matches, inter)
        assert (np.diff(matches[:, 2]) <= 0).all()
        assert matches[:, 2].sum() == pytest.approx(best_sum(inter))


@settings(deadline=None, max_examples=60)
@given(arrays(float, st.integers(1, 7).map(lambda n: (n, n)), elements=st.sampled_from([0, 0, 0.25, 0.5, 0.75, 1.0])))
def test_it_weighs_what_the_matching_of_general_graphs_weighs(inter):
    graph = pair_graph(inter)
    matches = decisive_matching(graph)
    between = nx.Graph((i, j, edge) for i, j, edge in graph.edges(data=True) if (i < len(inter)) != (j < len(inter)))
    other = nx.max_weight_matching(between, weight="share")
    assert is_matching(matches, inter)
    assert matches[:, 2].sum() == sum(between.edges[edge]["share"] for edge in other)


def test_the_sum_counts_and_not_the_strongest_edge():
    assert decisive_matching(pair_graph(np.array([[0.9, 0.8], [0.8, 0.0]]))).tolist() == [[0, 1, 0.8], [1, 0, 0.8]]


def test_another_attribute_can_be_added_up():
    graph = pair_graph(np.array([[0.9, 0.1], [0.1, 0.9]]))
    for *_, edge in graph.edges(data=True):
        edge["weight"] = 10 - edge["share"]
    assert decisive_matching(graph, "weight")[:, :2].tolist() == [[0, 1], [1, 0]]


def test_no_edge_between_the_images():
    assert decisive_matching(pair_graph(np.zeros((3, 3)))).shape == (0, 3)


@pytest.mark.parametrize("weight", [-0.1, np.nan, np.inf])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(ValueError, match="finite share ≥ 0 at every edge"):
        decisive_matching(pair_graph(np.array([[weight, 0.5], [0.5, 0.5]])))
