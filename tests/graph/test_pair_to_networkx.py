"""Pair graphs for networkx."""

import networkx as nx
import pytest
import torch

from cace_pyg.graph import (
    Clues,
    CorrespondenceAttention,
    PairBlocks,
    pair_to_data,
    pair_to_networkx,
    pairs_to_batch,
)
from cace_pyg.nn.degree import normalise_degree

GRID = (3, 2)


def soft_blocks(make_adjacency) -> PairBlocks:
    """Soft weights, self-loops, two isolated clues of a."""
    adjacency = make_adjacency(1, 12)
    return PairBlocks(adjacency[:, :6, :6], adjacency[:, :6, 6:], adjacency[:, 6:, 6:])


def to_data(blocks: PairBlocks):
    nodes = torch.zeros(1, 6, 4)
    return pair_to_data(blocks, nodes, nodes, GRID)


def test_nodes_and_weights_are_those_of_the_pair(make_adjacency):
    blocks = soft_blocks(make_adjacency)
    graph = pair_to_networkx(to_data(blocks))
    adjacency = blocks.adjacency()[0]
    assert torch.equal(torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(12))), adjacency)
    assert graph.number_of_edges() == int(adjacency.triu().count_nonzero())
    assert nx.number_of_selfloops(graph) == int(adjacency.diagonal().count_nonzero()) > 0
    assert set(nx.isolates(graph)) == {0, 1}
    assert graph.nodes[3] == {"image": 0, "row": 1, "column": 1, "clue": 3, "degree": pytest.approx(adjacency[3].sum())}
    assert graph.nodes[10] | {"degree": 0} == {"image": 1, "row": 2, "column": 0, "clue": 4, "degree": 0}


@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("unit", [1.0, 1e-5])  # degrees above and below the released floor
def test_shares_are_the_entries_of_the_propagation_matrix(make_adjacency, floor, unit):
    blocks = PairBlocks(*(unit * block for block in soft_blocks(make_adjacency)))
    adjacency = blocks.adjacency()[0]
    scale = normalise_degree(adjacency.sum(-1), "discrepancy", floor).scale
    share = nx.to_numpy_array(pair_to_networkx(to_data(blocks), floor), nodelist=range(12), weight="share")
    torch.testing.assert_close(torch.from_numpy(share), scale[:, None] * adjacency * scale)


def test_a_trained_graph_of_tensors_with_gradients_is_read_too():
    a, b = (Clues(torch.randn(1, 6, 32), GRID) for _ in "ab")
    data = pair_to_data(CorrespondenceAttention(32)(a, b), a.features, b.features, GRID)
    assert data.edge_weight.requires_grad
    graph = pair_to_networkx(data)
    assert all(type(value) is float for *_, edge in graph.edges(data=True) for value in edge.values())


def test_no_edges():
    graph = pair_to_networkx(to_data(PairBlocks(*torch.zeros(3, 1, 6, 6))))
    assert len(graph) == 12 and not graph.edges


def test_other_graphs_are_refused(make_adjacency):
    blocks = soft_blocks(make_adjacency)
    nodes = torch.zeros(2, 6, 4)
    batch = pairs_to_batch(PairBlocks(*(block.expand(2, -1, -1) for block in blocks)), nodes, nodes, GRID)
    with pytest.raises(ValueError, match=r"take one graph of a batch, batch\[i\]"):
        pair_to_networkx(batch)
    assert len(pair_to_networkx(batch[1])) == 12
    data = to_data(blocks)
    del data.image
    with pytest.raises(ValueError, match="without image"):
        pair_to_networkx(data)
