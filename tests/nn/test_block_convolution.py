"""Pooling first equals convolving, applying the node-wise function and pooling; on blocks and on edge lists."""

import pytest
import torch
from torch_geometric.utils import dense_to_sparse, to_torch_csr_tensor

from cace_pyg.graph import PairBlocks
from cace_pyg.nn import (
    DenseDiscrepancyConv,
    DiscrepancyConv,
    convolve_blocks,
    pool_blocks,
    pooled_messages,
)
from cace_pyg.nn.node_wise import NodeWise

N = 4


def pooled_map(dense, x, adjacency, node_wise=None):
    """Convolve, apply the node-wise function, pool: ``(2, pair, channel)``."""
    nodes = (node_wise or NodeWise())(dense(x, adjacency))
    return torch.stack([nodes[:, :N].mean(1), nodes[:, N:].mean(1)])


def assert_same_gradients(got, wanted, adjacency):
    torch.testing.assert_close(got[0], wanted[0])
    symmetric = [gradient + gradient.mT for gradient in (got[1], wanted[1])]  # inter and interᵀ are one block here
    edges = adjacency.detach() != 0
    torch.testing.assert_close(symmetric[0][edges], symmetric[1][edges])
    torch.testing.assert_close(got[2], wanted[2])


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("node_wise", ["identity", "relu", "magnitude", "square", "mlp"])
@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
def test_blocks_give_the_values_and_gradients_of_the_map_path(make_adjacency, mode, floor, node_wise, pairs):
    adjacency = make_adjacency(pairs, 2 * N).requires_grad_()
    x = torch.randn(pairs, 2 * N, 5, dtype=torch.float64, requires_grad=True)
    dense = DenseDiscrepancyConv(5, 3, mode, degree_floor=floor).double()
    node_wise = NodeWise(node_wise, 3).double()
    probe = torch.randn(2, pairs, 3, dtype=torch.float64)
    inputs = [x, adjacency, dense.lin.weight]

    expected = pooled_map(dense, x, adjacency, node_wise)
    wanted = torch.autograd.grad((expected * probe).sum(), inputs)

    z = dense.lin(x)
    blocks = adjacency[:, :N, :N], adjacency[:, :N, N:], adjacency[:, N:, N:]
    out = torch.stack(pool_blocks(z[:, :N], z[:, N:], *blocks, mode, floor, node_wise))
    torch.testing.assert_close(out, expected)
    assert_same_gradients(torch.autograd.grad((out * probe).sum(), inputs), wanted, adjacency)


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("form", ["messages", "matrix"])
@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
def test_scalar_messages_give_the_values_and_gradients_of_the_map_path(make_adjacency, mode, floor, form, pairs):
    adjacency = make_adjacency(pairs, 2 * N).requires_grad_()
    x = torch.randn(pairs, 2 * N, 5, dtype=torch.float64, requires_grad=True)
    dense = DenseDiscrepancyConv(5, 3, mode, degree_floor=floor).double()
    sparse = DiscrepancyConv(5, 3, mode, degree_floor=floor).double()
    sparse.load_state_dict(dense.state_dict())
    probe = torch.randn(2, pairs, 3, dtype=torch.float64)

    expected = pooled_map(dense, x, adjacency)
    wanted = torch.autograd.grad((expected * probe).sum(), [x, adjacency, dense.lin.weight])

    edge_index, edge_weight = dense_to_sparse(torch.block_diag(*adjacency))
    if form != "messages":
        edge_index = to_torch_csr_tensor(edge_index, edge_weight.detach(), size=pairs * 2 * N)
    image = torch.tensor([0] * N + [1] * N).repeat(pairs)
    out = pooled_messages(sparse, sparse.lin(x).flatten(0, 1), edge_index, edge_weight, image, pairs)
    torch.testing.assert_close(out.transpose(0, 1), expected)
    got = torch.autograd.grad((out.transpose(0, 1) * probe).sum(), [x, adjacency, sparse.lin.weight])
    assert_same_gradients(got, wanted, adjacency)


@pytest.mark.parametrize("node_wise", ["identity", "magnitude"])
def test_one_image_a_stands_for_all_pairs(make_adjacency, node_wise):
    adjacency = make_adjacency(3, 2 * N)
    z = torch.randn(3, 2 * N, 5, dtype=torch.float64)
    adjacency[:, :N, :N], z[:, :N] = adjacency[:1, :N, :N].clone(), z[:1, :N].clone()
    blocks = adjacency[:, :N, :N], adjacency[:, :N, N:], adjacency[:, N:, N:]
    node_wise = NodeWise(node_wise)
    expected = pool_blocks(z[:, :N], z[:, N:], *blocks, node_wise=node_wise)
    got = pool_blocks(z[:1, :N], z[:, N:], blocks[0][:1], *blocks[1:], node_wise=node_wise)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("node_wise", ["identity", "mlp"])
@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
def test_intra_blocks_of_no_size_are_intra_blocks_of_zeros(make_adjacency, mode, floor, node_wise):
    inter = make_adjacency(3, 2 * N)[:, :N, N:].clone().requires_grad_()
    x_a, x_b = (torch.randn(3, N, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    node_wise = NodeWise(node_wise, 5).double()
    found = []
    for intra in (torch.zeros(3, N, N, dtype=torch.float64), torch.zeros(3, 0, 0, dtype=torch.float64)):
        out = torch.stack(pool_blocks(x_a, x_b, intra, inter, intra, mode, floor, node_wise))
        found.append((out, *torch.autograd.grad(out.square().sum(), [x_a, x_b, inter])))
    for zeros, nothing in zip(*found, strict=True):
        torch.testing.assert_close(nothing, zeros)
    blocks = [
        PairBlocks(intra, inter, intra) for intra in (torch.zeros(3, N, N).double(), torch.zeros(3, 0, 0).double())
    ]
    assert torch.equal(blocks[0].adjacency(), blocks[1].adjacency())
    assert [float(share) for share in blocks[0].density()] == [float(share) for share in blocks[1].density()]


@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
@pytest.mark.parametrize("images_a", [1, 3])
@pytest.mark.parametrize("intra_nodes", [0, N])
def test_the_written_out_gradient_is_the_numerical_one_of_directed_edges_too(mode, images_a, intra_nodes):
    x_a, x_b = torch.randn(images_a, N, 5, dtype=torch.float64), torch.randn(3, N, 5, dtype=torch.float64)
    intra_a, intra_b = (torch.rand(images, intra_nodes, intra_nodes).double() for images in (images_a, 3))
    inputs = [x.requires_grad_() for x in (x_a, x_b, intra_a, torch.rand(3, N, N).double(), intra_b)]
    assert torch.autograd.gradcheck(lambda *inputs: convolve_blocks(*inputs, mode), inputs)


@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_the_gradients_of_float32_but_for_rounding(make_adjacency, floor, dtype):
    adjacency = make_adjacency(3, 2 * N).float()
    blocks = adjacency[:, :N, :N], adjacency[:, :N, N:], adjacency[:, N:, N:]
    inputs = [x.clone().requires_grad_() for x in (torch.randn(3, N, 5), torch.randn(3, N, 5), *blocks)]
    found = []
    for half in (False, True):
        with torch.autocast("cpu", dtype, enabled=half):
            a, b = convolve_blocks(*inputs, degree_floor=floor)
        found.append(torch.autograd.grad(a.square().sum() + b.pow(3).sum(), inputs))
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_graphs_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match=r"2 pair graphs of one size \(got 5 nodes"):
        pooled_messages(DiscrepancyConv(3, 3), torch.zeros(5, 3), torch.zeros(2, 0).long(), None, torch.zeros(5), 2)
