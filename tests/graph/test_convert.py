"""Pair blocks as PyG data, and back."""

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATConv, GCNConv, SAGEConv
from torch_geometric.utils import to_dense_adj, to_dense_batch, to_networkx

from cace_pyg.graph import (
    Clues,
    CorrespondenceAttention,
    data_to_pairs,
    pair_to_data,
    pairs_to_batch,
)

GRID = (3, 2)


def make(pairs: int):
    a = Clues(torch.randn(pairs, 6, 32), GRID)
    b = Clues(torch.randn(pairs, 6, 32), GRID)
    return a, b, CorrespondenceAttention(32)(a, b)


def test_one_pair_is_one_graph():
    a, b, blocks = make(2)
    data = pair_to_data(blocks, a.features, b.features, GRID, pair=1)
    assert isinstance(data, Data) and data.validate() and data.num_nodes == 12
    torch.testing.assert_close(data.x, torch.cat([a.features[1], b.features[1]]))
    dense = to_dense_adj(data.edge_index, edge_attr=data.edge_weight, max_num_nodes=12)
    torch.testing.assert_close(dense[0], blocks.adjacency()[1])
    assert (data.edge_weight > 0).all()
    assert data.image.tolist() == [0] * 6 + [1] * 6
    assert data.pos[:6].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    assert to_networkx(data).number_of_nodes() == 12


def test_a_batch_keeps_pairs_apart_and_gradients_flow():
    a, b, blocks = make(3)
    batch = pairs_to_batch(blocks, a.features, b.features, GRID)
    assert batch.num_graphs == 3 and batch.num_nodes == 36
    torch.testing.assert_close(to_dense_adj(batch.edge_index, batch.batch, batch.edge_weight), blocks.adjacency())
    assert batch.edge_weight.requires_grad
    assert batch[2].x.shape == (12, 32)


def same(got, blocks, a, b):
    for block, other in zip(got.blocks, blocks, strict=True):
        torch.testing.assert_close(block, other, rtol=0, atol=0)
    assert torch.equal(got.nodes_a, a.features) and torch.equal(got.nodes_b, b.features) and got.grid == GRID
    return True


def test_there_and_back_loses_nothing():
    a, b, blocks = make(3)
    batch = pairs_to_batch(blocks, a.features, b.features, GRID)
    assert same(data_to_pairs(batch), blocks, a, b)
    last = slice(2, 3)
    blocks_of_last = type(blocks)(*(block[last] for block in blocks))
    assert same(data_to_pairs(batch[2]), blocks_of_last, a.select(last), b.select(last))
    one_way = torch.autograd.grad(data_to_pairs(batch).blocks.inter.square().sum(), batch.edge_weight)[0]
    from_a_to_b = (batch.image[batch.edge_index[0]] == 0) & (batch.image[batch.edge_index[1]] == 1)
    torch.testing.assert_close(one_way, 2 * batch.edge_weight * from_a_to_b)


def test_one_image_a_stands_for_all_pairs():
    a, b = Clues(torch.randn(1, 6, 32), GRID), Clues(torch.randn(3, 6, 32), GRID)
    blocks = CorrespondenceAttention(32)(a, b)
    got = data_to_pairs(pairs_to_batch(blocks, a.features, b.features, GRID))
    torch.testing.assert_close(got.blocks.adjacency(), blocks.adjacency())
    assert torch.equal(got.nodes_a, a.features.expand(3, -1, -1))


def test_loaders_and_utilities_of_pyg_take_it():
    a, b, blocks = make(3)
    with torch.no_grad():
        graphs = [pair_to_data(blocks, a.features, b.features, GRID, pair) for pair in range(3)]
    (batch,) = DataLoader(graphs, batch_size=3)
    assert same(data_to_pairs(batch), blocks, a, b)
    dense, mask = to_dense_batch(batch.x, batch.batch)
    assert mask.all() and torch.equal(dense[:, :6], a.features) and torch.equal(dense[:, 6:], b.features)
    network = to_networkx(graphs[0], node_attrs=["image", "pos"], edge_attrs=["edge_weight"], to_undirected=True)
    assert network.nodes[6] == {"image": 1, "pos": [0, 0]}
    assert network.number_of_edges() == graphs[0].num_edges // 2  # the released form has no self-loops
    for layer in (GCNConv(32, 4), GATConv(32, 4), SAGEConv(32, 4)):
        assert layer(batch.x, batch.edge_index).shape == (36, 4)


def test_other_graphs_are_refused():
    a, b, blocks = make(1)
    with pytest.raises(ValueError, match="without edge_weight, grid"):
        data_to_pairs(Data(x=torch.zeros(3, 2), edge_index=torch.zeros(2, 0, dtype=torch.long)))
    other = pair_to_data(blocks, a.features, b.features, (2, 3))
    with pytest.raises(ValueError, match=r"one grid \(got \[\[2, 3\], \[3, 2\]\]"):
        data_to_pairs(next(iter(DataLoader([pair_to_data(blocks, a.features, b.features, GRID), other], 2))))
