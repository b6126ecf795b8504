"""The discrepancy convolution as PyG message passing."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros
from torch_geometric.utils import is_torch_sparse_tensor, scatter, segment

from cace_pyg.nn.degree import DegreeFloor, Mode, check_form, normalise_degree, sign_of


class DiscrepancyConv(MessagePassing):  # type: ignore[misc]  # PyG has no types
    r"""The discrepancy-based graph convolution of CACE-Net (Yu et al., 2020, Eq. 7).

    Matrix form, with :math:`\mathbf{D}` the degrees of the weighted adjacency :math:`\mathbf{A}`:

    .. math::
        \mathbf{X}' = (\mathbf{I} - \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}) \mathbf{X} \mathbf{\Theta}

    Node-wise form:

    .. math::
        \mathbf{x}'_i = \mathbf{\Theta}^{\top} \left( \mathbf{x}_i - \sum_j
        \frac{a_{ij}}{\sqrt{d_i d_j}} \mathbf{x}_j \right), \quad d_i = \sum_j a_{ij}

    ``mode="smooth"`` adds the neighbours instead (Eq. 6, the ordinary GCN without self-loops; Table 1, "Normal").
    The paper prints :math:`\mathbf{D}^{1/2}` on the right: a misprint.

    The graphs of CACE-Net are undirected: every edge is given in both directions. In a directed graph :math:`a_{ij}`
    is the weight of the edge from j to i, ``edge_index = [[j], [i]]``, and the degree is the sum of incoming edges, as
    in ``GCNConv``.

    It has none of ``GCNConv``'s options. ``normalize``: without it this would be another operator. ``add_self_loops``,
    ``improved``: A is used as given, and its self-loops count as edges (Eq. 4 joins clues to themselves; the I of Eq. 7
    is not an edge); the transform ``AddRemainingSelfLoops`` adds them. ``cached``: the weights are learned and differ
    for every pair of images.

    Args:
        in_channels: size of an input node feature, or -1 to take it from the first input.
        out_channels: size of an output node feature.
        mode: ``discrepancy`` or ``smooth``.
        bias: add a learned bias after propagation (the paper has none).
        degree_floor: what happens to an (almost) isolated node, see :func:`cace_pyg.nn.degree.normalise_degree`.
            ``textbook``: a node of degree zero keeps :math:`\mathbf{\Theta}^{\top}\mathbf{x}_i`.
        **kwargs: of ``MessagePassing``: ``flow``, ``decomposed_layers``.

    Shapes:
        - **input:** node features :math:`(*, |V|, F_{in})`, all of a batch on the same graph; edge indices
          :math:`(2, |E|)`, as a tensor or an ``EdgeIndex``; non-negative edge weights :math:`(|E|)` (default: ones)
        - **output:** node features :math:`(*, |V|, F_{out})`

    Instead of edge indices it also takes the adjacency itself, a torch sparse tensor :math:`(|V|, |V|)` with targets as
    rows (PyG's ``adj_t``). Then one sparse matrix product replaces the messages (``message_and_aggregate``). CSR is
    used directly; COO and CSC are converted to it first. Edge weights given with a CSR tensor replace its values.
    ``torch.compile`` takes edge indices only.

    The same ``state_dict`` loads into :class:`~cace_pyg.nn.DenseDiscrepancyConv`.

    Raises:
        ValueError: a name is unknown, or ``kwargs`` would make it another operator.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mode: Mode = "discrepancy",
        bias: bool = False,
        degree_floor: DegreeFloor = "textbook",
        **kwargs: Any,
    ):
        check_form(mode, degree_floor)
        kwargs.setdefault("aggr", "add")
        if kwargs["aggr"] not in ("add", "sum") or kwargs.get("node_dim", -2) != -2:
            raise ValueError(
                f"Expected aggr 'add' and node_dim -2, the sum over neighbours that the degrees normalise (got "
                f"{kwargs['aggr']!r} and {kwargs.get('node_dim', -2)}); other aggregations are other layers: see PyG's"
            )
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mode = mode
        self.degree_floor = degree_floor
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.bias = torch.nn.Parameter(torch.zeros(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Draw new weights; the bias becomes zero."""
        super().reset_parameters()
        self.lin.reset_parameters()
        zeros(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return the convolved node features (see the class).

        Raises:
            ValueError: node features, edges or weights have another type or size.
        """
        if not isinstance(x, Tensor) or x.dim() < 2:
            raise ValueError(
                f"Expected x as one tensor (…, node, {self.in_channels}) (got {_describe(x)}); between nodes of two "
                "kinds use a bipartite layer of PyG, such as SAGEConv"
            )
        # lin is linear, so it commutes with the propagation; applied first, it makes the messages smaller
        out = self.convolve(self.lin(x), edge_index, edge_weight)
        return out if self.bias is None else out + self.bias

    def convolve(
        self, projected: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, is_undirected: bool = False
    ) -> Tensor:
        """The convolution of nodes that ``lin`` has projected already, ``(…, |V|, any)``, without the bias.

        Nodes in half precision are propagated in float32, for which sparse products exist on every device.
        ``is_undirected`` says that the adjacency is symmetric; this is not checked. The backward pass through a CSR
        tensor then needs no transpose, which takes longer than the product.

        Raises:
            ValueError: edges or weights have another type or size.
        """
        edge_index, edge_weight = _read_graph(edge_index, edge_weight, projected.size(-2))
        wide = torch.promote_types(projected.dtype, torch.float32)
        with torch.autocast(projected.device.type, enabled=False):
            out = self._convolve(projected.to(wide), edge_index, edge_weight.to(wide), is_undirected)
        return out.to(projected.dtype)

    def _convolve(self, projected: Tensor, edge_index: Tensor, edge_weight: Tensor, is_undirected: bool) -> Tensor:
        if is_torch_sparse_tensor(edge_index):
            degree = segment(
                edge_weight, edge_index.crow_indices().long()
            )  # segment does not take int32, which CSR tensors may have
        else:
            target = edge_index[1 if self.flow == "source_to_target" else 0]
            degree = scatter(edge_weight, target, dim=0, dim_size=projected.size(-2), reduce="sum")
        scale, self_weight = normalise_degree(degree, self.mode, self.degree_floor)
        scaled = scale[:, None] * projected
        neighbours = self.propagate(edge_index, x=scaled, edge_weight=edge_weight, is_undirected=is_undirected)
        return self_weight[:, None] * projected + sign_of(self.mode) * scale[:, None] * neighbours

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * x_j

    def message_and_aggregate(self, edge_index: Tensor, x: Tensor, edge_weight: Tensor, is_undirected: bool) -> Tensor:
        return csr_product(edge_index, edge_weight, x, is_undirected)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, mode={self.mode!r})"


def _read_graph(edge_index: Tensor, edge_weight: Tensor | None, nodes: int) -> tuple[Tensor, Tensor]:
    """The graph as edge indices or as a CSR tensor, and the weights of its edges in that order."""
    is_matrix = is_torch_sparse_tensor(edge_index)
    if not (edge_index.shape == (nodes, nodes) if is_matrix else _are_edges(edge_index)):
        raise ValueError(
            f"Expected edge_index as integers (2, edge), or the adjacency as a torch sparse tensor ({nodes}, {nodes}) "
            f"(got {_describe(edge_index)}); convert a SparseTensor of torch_sparse with to_torch_sparse_csr_tensor(), "
            "and give a dense adjacency to DenseDiscrepancyConv"
        )
    if is_matrix and edge_index.layout != torch.sparse_csr:
        if edge_weight is not None:
            raise ValueError(
                f"Expected no edge_weight with a sparse tensor other than CSR, whose values are re-sorted (got one "
                f"with {edge_index.layout}); make the tensor with these weights, or call its to_sparse_csr() first"
            )
        edge_index = edge_index.to_sparse_csr()
    edges = edge_index.values().size(0) if is_matrix else edge_index.size(1)
    if edge_weight is None:
        edge_weight = edge_index.values() if is_matrix else torch.ones(edges, device=edge_index.device)
    if edge_weight.shape != (edges,):
        raise ValueError(
            f"Expected edge_weight as {edges} numbers in the order of edge_index, or of the values of the sparse "
            f"matrix, or None (got shape {tuple(edge_weight.shape)})"
        )
    return edge_index, edge_weight


def _are_edges(edge_index: Tensor) -> bool:
    return isinstance(edge_index, Tensor) and edge_index.shape[:-1] == (2,) and not edge_index.is_floating_point()


def _describe(given: object) -> str:
    return f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__


def csr_product(matrix: Tensor, values: Tensor, x: Tensor, is_symmetric: bool = False) -> Tensor:
    """``matrix @ x`` with gradients for values and ``x``; time and memory grow with the number of edges.

    Torch's own backward pass through a CSR tensor builds the dense |V|×|V| matrix, which is block-diagonal for a batch
    of graphs. Here the gradient of an edge (i, j) is the product of two rows, computed only at the edges
    (``torch.sparse.sampled_addmm``), and the gradient of ``x`` is the product with the transpose.

    Args:
        matrix: torch CSR tensor ``(node, node)`` with the positions of the edges.
        values: their weights, in the order of its values, ``(edge)``.
        x: ``(…, node, channel)``.
        is_symmetric: matrix and values are known to be symmetric; saves transposing them.

    Returns:
        ``(…, node, channel)``.
    """
    # CSR tensors only multiply matrices: further dimensions of x are moved next to the channels
    columns = x.movedim(-2, 0)
    product = _CsrProduct.apply(matrix, values, columns.flatten(1), is_symmetric)
    return product.view(columns.shape).movedim(0, -2)


class _CsrProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, values: Tensor, x: Tensor, is_symmetric: bool) -> Tensor:
        edges = matrix.crow_indices(), matrix.col_indices()
        ctx.matrix = torch.sparse_csr_tensor(*edges, values, matrix.shape, check_invariants=False)
        ctx.is_symmetric = is_symmetric
        ctx.save_for_backward(x)
        return ctx.matrix @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_values, of_x = None, None
        if ctx.needs_input_grad[1]:
            of_values = torch.sparse.sampled_addmm(ctx.matrix, gradient, x.T, beta=0.0).values()
        if ctx.needs_input_grad[2]:
            of_x = (ctx.matrix if ctx.is_symmetric else ctx.matrix.t()) @ gradient
        return None, of_values, of_x, None
