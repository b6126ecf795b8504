"""The convolution and its dense twin against the equations, written out in float64."""

import pytest
import torch
from torch_geometric.nn import ChebConv
from torch_geometric.utils import dense_to_sparse, to_torch_csr_tensor

from cace_pyg.nn import DenseDiscrepancyConv, DiscrepancyConv, reference
from cace_pyg.nn.degree import normalise_degree
from cace_pyg.nn.discrepancy_conv import csr_product


def symmetric(gradient):
    """A is symmetric, so only the sum of both directions of an edge means anything."""
    return gradient + gradient.mT


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
def test_values_and_gradients_equal_the_equations(make_adjacency, mode, floor, self_loops, pairs):
    nodes = 7
    adjacency = make_adjacency(pairs, nodes, self_loops=self_loops).requires_grad_()
    x = torch.randn(pairs, nodes, 5, dtype=torch.float64, requires_grad=True)
    dense = DenseDiscrepancyConv(5, 3, mode, degree_floor=floor).double()
    sparse = DiscrepancyConv(5, 3, mode, degree_floor=floor).double()
    sparse.load_state_dict(dense.state_dict())
    probe = torch.randn(pairs, nodes, 3, dtype=torch.float64)

    expected = reference.convolve(x, adjacency, dense.lin.weight, mode, floor)
    wanted = torch.autograd.grad((expected * probe).sum(), [x, adjacency, dense.lin.weight])
    # a gradient with respect to a missing edge exists in the dense form only
    edges = adjacency.detach() != 0

    out = dense(x, adjacency)
    torch.testing.assert_close(out, expected)
    got = torch.autograd.grad((out * probe).sum(), [x, adjacency, dense.lin.weight])
    torch.testing.assert_close(got[0], wanted[0])
    torch.testing.assert_close(symmetric(got[1])[edges], symmetric(wanted[1])[edges])
    torch.testing.assert_close(got[2], wanted[2])

    for form in ("messages", "matrix", "matrix known to be symmetric"):
        # on a batch, dense_to_sparse changes its own saved index in place and the backward pass fails (PyG 2.8)
        edge_index, edge_weight = dense_to_sparse(torch.block_diag(*adjacency))
        if form != "messages":
            edge_index = to_torch_csr_tensor(edge_index, edge_weight.detach(), size=pairs * nodes)
        projected = sparse.lin(x.flatten(0, 1))
        out = sparse.convolve(projected, edge_index, edge_weight, is_undirected="known" in form).view_as(expected)
        torch.testing.assert_close(out, expected)
        got = torch.autograd.grad((out * probe).sum(), [x, adjacency, sparse.lin.weight])
        torch.testing.assert_close(got[0], wanted[0])
        torch.testing.assert_close(symmetric(got[1])[edges], symmetric(wanted[1])[edges])
        torch.testing.assert_close(got[2], wanted[2])


def test_the_equations_themselves_on_a_path_of_three_clues_and_one_alone():
    """Weights 1 and 3: degrees 1, 4, 3 and 0, so that a₀₁ / √(d₀d₁) = ½ and a₁₂ / √(d₁d₂) = √3 / 2."""
    adjacency = torch.zeros(4, 4, dtype=torch.float64)
    adjacency[0, 1] = adjacency[1, 0] = 1
    adjacency[1, 2] = adjacency[2, 1] = 3
    x, theta, half_root = torch.tensor([[2.0], [4.0], [6.0], [8.0]]).double(), torch.ones(1, 1).double(), 3**0.5 / 2
    neighbours = torch.tensor([[2.0], [1 + 6 * half_root], [4 * half_root], [0]]).double()
    torch.testing.assert_close(reference.convolve(x, adjacency, theta), x - neighbours)
    torch.testing.assert_close(reference.convolve(x, adjacency, theta, "smooth"), x + neighbours)
    isolated_vanishes = x * torch.tensor([[1.0], [1], [1], [0]])
    released = reference.convolve(x, adjacency, theta, degree_floor="released")
    torch.testing.assert_close(released, isolated_vanishes - neighbours)
    with pytest.raises(ValueError, match="mode 'discrepancy'.*got 'sharpen'"):
        reference.convolve(x, adjacency, theta, "sharpen")


def test_chebyshev_convolution_agrees(make_adjacency):
    """T₁ of the Laplacian scaled with λ_max = 2 is L − I, so T₀ and T₁ with one weight give the Laplacian."""
    adjacency = make_adjacency(1, 8, isolated=0, self_loops=False)
    edge_index, edge_weight = dense_to_sparse(adjacency[0])
    x = torch.randn(8, 5, dtype=torch.float64)
    ours = DiscrepancyConv(5, 3).double()
    cheb = ChebConv(5, 3, K=2, bias=False).double()
    with torch.no_grad():
        for lin in cheb.lins:
            lin.weight.copy_(ours.lin.weight)
    expected = cheb(x, edge_index, edge_weight, lambda_max=torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(ours(x, edge_index, edge_weight), expected)


def test_isolated_node_keeps_itself_in_the_textbook_form_and_vanishes_in_the_released():
    x = torch.randn(3, 4)
    no_edges = torch.empty(2, 0, dtype=torch.long)
    textbook, released = DiscrepancyConv(4, 2), DiscrepancyConv(4, 2, degree_floor="released")
    torch.testing.assert_close(textbook(x, no_edges), x @ textbook.lin.weight.T)
    torch.testing.assert_close(released(x, no_edges), torch.zeros(3, 2))


def test_tiny_degree_is_normalised_in_the_textbook_form_and_floored_in_the_released():
    edge_index, weight = torch.tensor([[0, 1], [1, 0]]), torch.full((2,), 1e-4, dtype=torch.float64)
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    for floor, expected in (("textbook", [[-2.0], [2.0]]), ("released", [[-2e-4], [2e-4]])):
        convolution = DiscrepancyConv(1, 1, degree_floor=floor).double()
        torch.nn.init.ones_(convolution.lin.weight)
        torch.testing.assert_close(convolution(x, edge_index, weight), torch.tensor(expected, dtype=torch.float64))


def test_missing_edge_weights_are_ones():
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    x, convolution = torch.randn(3, 4), DiscrepancyConv(4, 4)
    torch.testing.assert_close(convolution(x, edge_index), convolution(x, edge_index, torch.ones(4)))


def test_zero_weights_give_finite_gradients():
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    edge_index = torch.tensor([[0, 1], [1, 0]])
    DiscrepancyConv(3, 3).double()(torch.randn(2, 3, dtype=torch.float64), edge_index, weight).sum().backward()
    assert torch.isfinite(weight.grad).all()


def test_a_sparse_matrix_alone_and_with_weights_in_place_of_its_values(make_adjacency):
    edge_index, edge_weight = dense_to_sparse(make_adjacency(1, 6)[0])
    x, convolution = torch.randn(6, 3, dtype=torch.float64), DiscrepancyConv(3, 2).double()
    expected = convolution(x, edge_index, edge_weight)
    matrix = to_torch_csr_tensor(edge_index, edge_weight, size=6)
    torch.testing.assert_close(convolution(x, matrix), expected)
    torch.testing.assert_close(convolution(x, matrix, edge_weight), expected)
    only_where = to_torch_csr_tensor(edge_index, torch.ones_like(edge_weight), size=6)
    torch.testing.assert_close(convolution(x, only_where, edge_weight), expected)
    with pytest.raises(ValueError, match=r"values of the sparse matrix, or None \(got shape \(1,\)\)"):
        convolution(x, matrix, edge_weight[:1])


@pytest.mark.parametrize("is_symmetric", [True, False])
def test_values_and_gradients_of_the_sparse_product_equal_the_dense_ones(make_adjacency, is_symmetric):
    adjacency = make_adjacency(1, 6)[0]
    edge_index, values = dense_to_sparse(adjacency if is_symmetric else adjacency.triu() + 2 * adjacency.tril())
    matrix = to_torch_csr_tensor(edge_index, values, size=6)
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    values = values.requires_grad_()
    dense = torch.zeros_like(adjacency).index_put(tuple(edge_index), values)
    probe = torch.randn_like(x)
    expected, got = dense @ x, csr_product(matrix, values, x, is_symmetric)
    torch.testing.assert_close(got, expected)
    wanted = torch.autograd.grad((expected * probe).sum(), [values, x])
    torch.testing.assert_close(torch.autograd.grad((got * probe).sum(), [values, x]), wanted)


def test_gradients_of_the_sparse_product_only_where_they_are_asked_for(make_adjacency):
    edge_index, values = dense_to_sparse(make_adjacency(1, 6)[0])
    matrix = to_torch_csr_tensor(edge_index, values, size=6)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(csr_product(matrix, values, x).sum(), x)[0].shape == x.shape
    assert not csr_product(matrix, values, x.detach()).requires_grad


def test_bias_is_added_after_propagation(make_adjacency):
    adjacency, x = make_adjacency(2, 5), torch.randn(2, 5, 3, dtype=torch.float64)
    convolution = DenseDiscrepancyConv(3, 2, bias=True).double()
    before = convolution(x, adjacency)
    with torch.no_grad():
        convolution.bias += 1
    torch.testing.assert_close(convolution(x, adjacency), before + 1)


@pytest.mark.parametrize("convolution", [DiscrepancyConv, DenseDiscrepancyConv])
def test_unknown_names_are_refused(convolution):
    with pytest.raises(ValueError, match="mode 'discrepancy'.*got 'sharpen'"):
        convolution(3, 3, mode="sharpen")
    with pytest.raises(ValueError, match="degree_floor 'textbook'"):
        convolution(3, 3, degree_floor="none")


def test_dense_shapes_are_checked():
    with pytest.raises(ValueError, match=r"got \(2, 5, 3\) and \(2, 4, 4\)"):
        DenseDiscrepancyConv(3, 3)(torch.zeros(2, 5, 3), torch.zeros(2, 4, 4))


@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
@pytest.mark.parametrize("floor", ["textbook", "released"])
def test_a_degree_of_nan_is_not_taken_for_an_isolated_node(mode, floor):
    scale, _ = normalise_degree(torch.tensor([torch.nan, 0.0, 4.0]), mode, floor)
    assert scale[0].isnan() and scale[1:].tolist() == [0.0 if floor == "textbook" else 1.0, 0.5]
