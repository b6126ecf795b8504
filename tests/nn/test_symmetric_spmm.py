"""The sparse product against the dense one."""

import torch
from torch_geometric.utils import dense_to_sparse, to_torch_csr_tensor

from cace_pyg.nn.discrepancy_conv import symmetric_spmm


def test_values_and_gradients_equal_the_dense_product(make_adjacency):
    adjacency = make_adjacency(1, 6)[0]
    edge_index, values = dense_to_sparse(adjacency)
    matrix = to_torch_csr_tensor(edge_index, values, size=6)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    values = values.requires_grad_()
    dense = torch.zeros_like(adjacency).index_put(tuple(edge_index), values)
    probe = torch.randn(6, 3, dtype=torch.float64)
    expected, got = dense @ x, symmetric_spmm(matrix, values, x)
    torch.testing.assert_close(got, expected)
    wanted = torch.autograd.grad((expected * probe).sum(), [values, x])
    torch.testing.assert_close(torch.autograd.grad((got * probe).sum(), [values, x]), wanted)


def test_gradients_only_where_they_are_asked_for(make_adjacency):
    edge_index, values = dense_to_sparse(make_adjacency(1, 6)[0])
    matrix = to_torch_csr_tensor(edge_index, values, size=6)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(symmetric_spmm(matrix, values, x).sum(), x)[0].shape == x.shape
    assert not symmetric_spmm(matrix, values, x.detach()).requires_grad
