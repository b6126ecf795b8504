"""The layer among PyG's own: what works with GCNConv works with it, or is refused in words."""

import copy

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import to_hetero
from torch_geometric.nn.aggr import MaxAggregation
from torch_geometric.testing import withPackage
from torch_geometric.typing import SparseTensor

from cace_pyg.nn import DenseDiscrepancyConv, DiscrepancyConv, reference

NODES = 6


@pytest.fixture
def directed():
    """About half dense, one-way weights, a node that nothing reaches and one from which nothing goes."""
    adjacency = torch.rand(NODES, NODES, dtype=torch.float64) * (torch.rand(NODES, NODES) < 0.6)
    adjacency[1], adjacency[:, 2] = 0, 0
    return adjacency


def edges(adjacency):
    """``edge_index`` as PyG has it, (source, target), sorted by target as the values of the matrix are."""
    target, source = adjacency.nonzero(as_tuple=True)
    return torch.stack([source, target]), adjacency[target, source]


def nodes(*batch):
    return torch.randn(*batch, NODES, 4, dtype=torch.float64, requires_grad=True)


def test_repr():
    assert repr(DiscrepancyConv(8, 16)) == "DiscrepancyConv(8, 16, mode='discrepancy')"
    assert repr(DenseDiscrepancyConv(8, 16, "smooth")) == "DenseDiscrepancyConv(8, 16, mode='smooth')"


@pytest.mark.parametrize("layer", [DiscrepancyConv, DenseDiscrepancyConv])
def test_reset_parameters_draws_anew(layer):
    convolution = layer(8, 4, bias=True)
    before = convolution.lin.weight.clone()
    torch.nn.init.ones_(convolution.bias)
    torch.manual_seed(5)
    convolution.reset_parameters()
    first = convolution.lin.weight.clone()
    assert not torch.equal(first, before) and torch.equal(convolution.bias, torch.zeros(4))
    torch.manual_seed(5)
    convolution.reset_parameters()
    assert torch.equal(convolution.lin.weight, first)
    layer(8, 4).reset_parameters()  # without a bias


def test_lazy_input_size_a_copy_and_the_dense_twin(make_adjacency):
    adjacency = make_adjacency(1, NODES)[0]
    lazy, x = DiscrepancyConv(-1, 3, bias=True).double(), nodes()
    copied = copy.deepcopy(lazy)
    out = lazy(x, *edges(adjacency))
    assert lazy.lin.weight.shape == (3, 4) and lazy.lin.weight.std() > 0
    dense = DenseDiscrepancyConv(4, 3, bias=True).double()
    for twin in (copied, dense):
        twin.load_state_dict(lazy.state_dict())
    torch.testing.assert_close(copied(x, *edges(adjacency)), out)
    torch.testing.assert_close(copy.deepcopy(lazy)(x, *edges(adjacency)), out)
    torch.testing.assert_close(dense(x[None], adjacency[None])[0], out)


def graph_forms(adjacency, weight):
    """The same graph in every form that is taken, its weights wherever the form has them."""
    edge_index, _ = edges(adjacency)
    size = adjacency.shape
    row_ends = torch.cat([torch.zeros(1, dtype=torch.long), adjacency.count_nonzero(1).cumsum(0)])
    matrix = torch.sparse_csr_tensor(row_ends, edge_index[0], weight, size, check_invariants=False)
    scrambled = torch.randperm(len(weight))
    coo = torch.sparse_coo_tensor(edge_index.flip(0)[:, scrambled], weight[scrambled], size)
    # what .t() makes of a matrix with sources as rows
    by_source = torch.sparse_coo_tensor(edge_index, weight, size).to_sparse_csr()
    return {
        "edge_index": (edge_index, weight),
        "EdgeIndex": (EdgeIndex(edge_index, sparse_size=size, sort_order="col"), weight),
        "CSR": (matrix,),
        "CSR of int32": (torch.sparse_csr_tensor(row_ends.int(), edge_index[0].int(), weight, size),),
        "CSR and weights": (matrix.detach(), weight),
        "COO": (coo,),
        "CSC": (by_source.t(),),
    }


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("floor", ["textbook", "released"])
@pytest.mark.parametrize("form", ["edge_index", "EdgeIndex", "CSR", "CSR of int32", "CSR and weights", "COO", "CSC"])
def test_a_directed_graph_in_every_form_has_the_values_and_gradients_of_the_equations(directed, form, floor, batch):
    _, weight = edges(directed)
    weight.requires_grad_()
    x, probe = nodes(*batch), torch.randn(*batch, NODES, 3, dtype=torch.float64)
    convolution = DiscrepancyConv(4, 3, degree_floor=floor).double()
    inputs = [x, weight, convolution.lin.weight]

    adjacency = torch.zeros_like(directed).index_put(directed.nonzero(as_tuple=True), weight)
    expected = reference.convolve(x, adjacency, convolution.lin.weight, degree_floor=floor)
    wanted = torch.autograd.grad((expected * probe).sum(), inputs)

    out = convolution(x, *graph_forms(directed, weight)[form])
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad((out * probe).sum(), inputs), wanted)


def test_the_dense_twin_of_a_directed_graph_has_targets_as_rows(directed):
    x, convolution = nodes(), DenseDiscrepancyConv(4, 3).double()
    expected = reference.convolve(x, directed, convolution.lin.weight)
    torch.testing.assert_close(convolution(x[None], directed[None])[0], expected)


def test_the_other_flow_is_the_reversed_graph(directed):
    x, (edge_index, weight) = nodes(), edges(directed)
    convolution, reversed_flow = DiscrepancyConv(4, 3), DiscrepancyConv(4, 3, flow="target_to_source")
    reversed_flow.load_state_dict(convolution.state_dict())
    expected = convolution.double()(x, edge_index, weight)
    torch.testing.assert_close(reversed_flow.double()(x, edge_index.flip(0), weight), expected)
    with pytest.raises(ValueError, match="target_to_source"):
        reversed_flow(x, graph_forms(directed, weight)["CSR"][0])


def test_decomposed_layers_change_nothing(directed):
    x, (edge_index, weight) = nodes(), edges(directed)
    whole, in_halves = DiscrepancyConv(4, 6).double(), DiscrepancyConv(4, 6, decomposed_layers=2).double()
    in_halves.load_state_dict(whole.state_dict())
    torch.testing.assert_close(in_halves(x, edge_index, weight), whole(x, edge_index, weight))


def test_messages_can_be_made_one_by_one_from_a_matrix_too(directed):
    x, (_, weight) = nodes(), edges(directed)
    convolution, (matrix,) = DiscrepancyConv(4, 3).double(), graph_forms(directed, weight)["CSR"]
    expected = convolution(x, matrix)
    convolution.fuse = False
    torch.testing.assert_close(convolution(x, matrix), expected)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_compiles_without_a_graph_break(directed, batch):
    x, (edge_index, weight) = nodes(*batch), edges(directed)
    convolution = DiscrepancyConv(4, 3, bias=True).double()
    compiled = torch.compile(convolution, fullgraph=True, backend="aot_eager")
    for graph in ((edge_index, weight), (edge_index,)):
        out = compiled(x, *graph)
        torch.testing.assert_close(out, convolution(x, *graph))
        got = torch.autograd.grad(out.sum(), [x, convolution.lin.weight])
        torch.testing.assert_close(got, torch.autograd.grad(convolution(x, *graph).sum(), [x, convolution.lin.weight]))


def test_an_explainer_finds_the_edge_that_matters():
    """Node 0 hears from nodes 1 and 2; only node 1 has anything to say."""
    edge_index = torch.tensor([[1, 2, 0, 0], [0, 0, 1, 2]])
    x = torch.tensor([[0.0, 0.0], [4.0, -4.0], [0.0, 0.0]])
    convolution = DiscrepancyConv(2, 2)
    torch.nn.init.eye_(convolution.lin.weight)
    explainer = Explainer(
        convolution,
        GNNExplainer(epochs=50, lr=0.1),
        explanation_type="model",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    )
    mask = explainer(x, edge_index, index=0).edge_mask
    assert mask.shape == (4,) and mask[0] > mask[1] + 0.2
    assert convolution.explain is None or not convolution.explain  # and is left as it was
    assert torch.isfinite(convolution(x, edge_index)).all()


class TwoLayers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = DiscrepancyConv(4, 4), DiscrepancyConv(4, 3, "smooth")

    def forward(self, x, edge_index, edge_weight):
        return self.second(self.first(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


def test_to_hetero_of_one_kind_of_node_and_edge(directed):
    x, (edge_index, weight) = nodes(), edges(directed)
    model, edge_type = TwoLayers().double(), ("clue", "resembles", "clue")
    hetero = to_hetero(model, (["clue"], [edge_type]))
    weights = {name.replace(".lin", ".clue__resembles__clue.lin"): value for name, value in model.state_dict().items()}
    hetero.load_state_dict(weights)
    out = hetero({"clue": x}, {edge_type: edge_index}, {edge_type: weight})
    torch.testing.assert_close(out["clue"], model(x, edge_index, weight))


def test_other_operators_are_refused():
    for aggr in ("mean", MaxAggregation(), ["add", "max"], None):
        with pytest.raises(ValueError, match="Expected aggr 'add'.*other layers: see PyG's"):
            DiscrepancyConv(4, 3, aggr=aggr)
    with pytest.raises(ValueError, match=r"node_dim -2.*got 'add' and 0"):
        DiscrepancyConv(4, 3, node_dim=0)
    with pytest.raises(TypeError, match="add_self_loops"):
        DiscrepancyConv(4, 3, add_self_loops=True)


def test_other_graphs_are_refused(directed):
    x, (edge_index, weight) = nodes(), edges(directed)
    forms, convolution = graph_forms(directed, weight), DiscrepancyConv(4, 3).double()
    expected = r"Expected edge_index as integers \(2, edge\).*\(6, 6\) \(got "
    for graph, got in (
        (object.__new__(SparseTensor), "SparseTensor.*to_torch_sparse_csr_tensor"),
        (directed, r"torch.float64 \(6, 6\).*DenseDiscrepancyConv"),
        (edge_index.float(), "torch.float32"),
        (edge_index.T, r"torch.int64 \("),
        (directed.to_sparse_bsr((2, 2)), "torch.float64"),
        (directed[:5].to_sparse_csr(), r"torch.float64 \(5, 6\)"),
        (directed[None], r"torch.float64 \(1, 6, 6\)"),
    ):
        with pytest.raises(ValueError, match=expected + got):
            convolution(x, graph)
    for form in ("COO", "CSC"):
        with pytest.raises(ValueError, match=r"no edge_weight.*with torch.sparse_c.*to_sparse_csr"):
            convolution(x, forms[form][0], weight)
    with pytest.raises(ValueError, match=rf"{len(weight)} numbers.*got shape \({len(weight)}, 1\)"):
        convolution(x, edge_index, weight[:, None])
    with pytest.raises(ValueError, match=r"x as one tensor .*4\) \(got tuple\).*SAGEConv"):
        convolution((x, x), edge_index)
    with pytest.raises(ValueError, match=r"got torch.float64 \(4,\)"):
        convolution(x[0], edge_index)


@withPackage("torch_sparse")
def test_a_sparse_tensor_of_torch_sparse_becomes_one_of_torch(directed):
    x, (edge_index, weight) = nodes(), edges(directed)
    convolution = DiscrepancyConv(4, 3).double()
    adj_t = SparseTensor.from_edge_index(edge_index, weight, (NODES, NODES)).t()
    expected = convolution(x, edge_index, weight)
    torch.testing.assert_close(convolution(x, adj_t.to_torch_sparse_csr_tensor()), expected)
