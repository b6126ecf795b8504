"""Pooling first equals convolving, applying the node-wise function and pooling."""

import pytest
import torch

from cace_pyg.nn import DenseDiscrepancyConv, PooledDiscrepancy
from cace_pyg.nn.node_wise import apply_node_wise


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("node_wise", ["identity", "relu", "magnitude"])
@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
def test_values_and_gradients_equal_the_map_path(make_adjacency, mode, floor, node_wise, pairs, bias):
    n = 4
    adjacency = make_adjacency(pairs, 2 * n).requires_grad_()
    x = torch.randn(pairs, 2 * n, 5, dtype=torch.float64, requires_grad=True)
    dense = DenseDiscrepancyConv(5, 3, mode, bias, floor).double()
    if bias:
        torch.nn.init.normal_(dense.bias)
    pooled = PooledDiscrepancy(5, 3, mode, bias, floor, node_wise).double()
    pooled.load_state_dict(dense.state_dict())
    probe = torch.randn(2, pairs, 3, dtype=torch.float64)

    nodes = apply_node_wise(dense(x, adjacency), node_wise)
    expected = torch.stack([nodes[:, :n].mean(1), nodes[:, n:].mean(1)])
    wanted = torch.autograd.grad((expected * probe).sum(), [x, adjacency, *dense.parameters()])

    z_a, z_b = pooled.project(x[:, :n]), pooled.project(x[:, n:])
    out = torch.stack(pooled(z_a, z_b, adjacency[:, :n, :n], adjacency[:, :n, n:], adjacency[:, n:, n:]))
    torch.testing.assert_close(out, expected)
    got = torch.autograd.grad((out * probe).sum(), [x, adjacency, *pooled.parameters()])
    torch.testing.assert_close(got[0], wanted[0])
    symmetric = [gradient + gradient.mT for gradient in (got[1], wanted[1])]  # inter and interᵀ are one block here
    edges = adjacency.detach() != 0
    torch.testing.assert_close(symmetric[0][edges], symmetric[1][edges])
    torch.testing.assert_close(got[2:], wanted[2:])
