"""Pair blocks as PyG data."""

import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_adj, to_networkx

from cace_pyg.graph import Clues, CorrespondenceAttention, pair_to_data, pairs_to_batch

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
