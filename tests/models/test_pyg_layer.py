"""Layers of PyG in the place of the discrepancy convolution."""

import pytest
import torch
from torch_geometric.nn import ChebConv, EdgeConv, GATConv, GCNConv, GraphConv, SAGEConv

from cace_pyg.graph import Clues, CorrespondenceAttention, pairs_to_batch
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead

GRID, CHANNELS, WIDTH = (3, 2), 32, 8
LAYERS = {
    "GCNConv": GCNConv,
    "GraphConv": GraphConv,
    "SAGEConv": SAGEConv,
    "ChebConv": lambda size, out: ChebConv(size, out, K=2),
    "GATConv": lambda size, out: GATConv(size, out, heads=2, concat=False, edge_dim=1),
}


def make(layer, **settings):
    torch.manual_seed(1)
    settings = ConditionalSettings(convolution=layer, width=WIDTH, **settings)
    model = ConditionalEmbedding(CHANNELS, CorrespondenceAttention(CHANNELS), EmbeddingHead(CHANNELS, 4), settings)
    torch.nn.init.normal_(model.expansion.weight)
    return model.eval()


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_called_with_the_pair_graph(name):
    model = make(LAYERS[name])
    a, b = (Clues(torch.rand(2, 6, CHANNELS), GRID) for _ in range(2))
    got = model(model.prepare(a), model.prepare(b))
    graph = pairs_to_batch(model.builder(a, b), a.features, b.features, GRID)
    weights = {"edge_weight": graph.edge_weight}
    if name == "GATConv":
        weights = {"edge_attr": graph.edge_weight[:, None]}
    elif name == "SAGEConv":
        weights = {}
    nodes = model.convolution.layer(graph.x, graph.edge_index, **weights).abs().view(2, 2, 6, WIDTH)
    pooled = model.expansion(nodes.mean(2)) + torch.stack([a.features.mean(1), b.features.mean(1)], dim=1)
    for side in range(2):
        torch.testing.assert_close(got[side], model.encoder(pooled[:, side]))
    out = torch.cat(got).square().sum()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out, list(model.convolution.parameters())))


def test_layers_of_another_signature_are_refused():
    with pytest.raises(ValueError, match=r"GATConv.*\(2, 8\) \(got \(2, 16\)\).*concat false"):
        make(lambda size, out: GATConv(size, out, heads=2))
    with pytest.raises(ValueError, match="EdgeConv .* cannot be called"):
        make(lambda size, out: EdgeConv(torch.nn.Linear(size, out)))
    with pytest.raises(ValueError, match="leave conditional.backend at auto"):
        make(GCNConv, backend="dense")
