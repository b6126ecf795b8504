"""The discrepancy convolution as PyG message passing."""

from typing import Optional

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.utils import is_torch_sparse_tensor, scatter, segment

from cace_pyg.nn.degree import DegreeFloor, Mode, check_form, normalise_degree, sign_of


class DiscrepancyConv(MessagePassing):
    r"""The discrepancy-based graph convolution of CACE-Net (Yu et al., CVPR 2021, Eq. 7).

    Matrix form, with :math:`\mathbf{D}` the degrees of the weighted adjacency :math:`\mathbf{A}`:

    .. math::
        \mathbf{X}' = (\mathbf{I} - \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}) \mathbf{X} \mathbf{\Theta}

    Node-wise form:

    .. math::
        \mathbf{x}'_i = \mathbf{\Theta}^{\top} \Big( \mathbf{x}_i - \sum_j
        \frac{a_{ij}}{\sqrt{d_i d_j}} \mathbf{x}_j \Big)

    ``mode="smooth"`` adds the neighbours instead (Eq. 6, the ordinary GCN without self-loops; Table 1, "Normal").
    The paper prints :math:`\mathbf{D}^{1/2}` on the right: a misprint. ``A`` is used as given: no self-loops are
    added, and those it has count as edges.

    Args:
        in_channels: size of an input node feature.
        out_channels: size of an output node feature.
        mode: ``discrepancy`` or ``smooth``.
        bias: add a learned bias after propagation (the paper has none).
        degree_floor: what an (almost) isolated node does, see :func:`cace_pyg.nn.degree.normalise_degree`.
            ``textbook``: a node of degree zero keeps :math:`\mathbf{\Theta}^{\top}\mathbf{x}_i`.

    Shapes:
        - **input:** node features :math:`(|V|, F_{in})`, edge indices :math:`(2, |E|)`, non-negative edge weights
          :math:`(|E|)` (default: ones); every undirected edge given in both directions
        - **output:** node features :math:`(|V|, F_{out})`

    Instead of edge indices the symmetric adjacency itself is taken, a torch CSR tensor :math:`(|V|, |V|)`; then one
    sparse matrix product replaces the messages (``message_and_aggregate``). With PyG's own switch ``fuse = False``
    messages are made one by one and summed by segments, through ``torch_scatter.segment_csr`` where that is
    installed. Where gradients are to reach the weights, give the values of the matrix as edge weights too: torch's
    own way back through a CSR tensor is a dense one.

    The same ``state_dict`` loads into :class:`~cace_pyg.nn.DenseDiscrepancyConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mode: Mode = "discrepancy",
        bias: bool = False,
        degree_floor: DegreeFloor = "textbook",
    ):
        check_form(mode, degree_floor)
        super().__init__(aggr="add")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mode = mode
        self.degree_floor = degree_floor
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.bias = torch.nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return the convolved node features (see the class)."""
        # lin is linear, so it commutes with the propagation, and the messages are the smaller ones
        out = self.convolve(self.lin(x), edge_index, edge_weight)
        return out if self.bias is None else out + self.bias

    def convolve(self, projected: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """The convolution of nodes that ``lin`` has projected already, ``(|V|, any)``, without the bias.

        Nodes in half precision are moved in float32, for which sparse matrices have a product on every device.

        Raises:
            ValueError: edge weights that are not the values of the sparse matrix beside them.
        """
        wide = torch.promote_types(projected.dtype, torch.float32)
        edge_index = edge_index.to(wide) if is_torch_sparse_tensor(edge_index) else edge_index
        edge_weight = None if edge_weight is None else edge_weight.to(wide)
        with torch.autocast(projected.device.type, enabled=False):
            return self._convolve(projected.to(wide), edge_index, edge_weight).to(projected.dtype)

    def _convolve(self, projected: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        row_ends = None
        if is_torch_sparse_tensor(edge_index):
            edge_weight = edge_index.values() if edge_weight is None else edge_weight
            _check_values(edge_index, edge_weight)
            row_ends = edge_index.crow_indices()
            degree = segment(edge_weight, row_ends)
        else:
            edge_weight = projected.new_ones(edge_index.size(1)) if edge_weight is None else edge_weight
            degree = scatter(edge_weight, edge_index[1], dim=0, dim_size=projected.size(0), reduce="sum")
        scale, self_weight = normalise_degree(degree, self.mode, self.degree_floor)
        scaled = scale[:, None] * projected
        neighbours = self.propagate(edge_index, x=scaled, edge_weight=edge_weight, row_ends=row_ends)
        return self_weight[:, None] * projected + sign_of(self.mode) * scale[:, None] * neighbours

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * x_j

    # PyG's inspector cannot read "int | None"
    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: Optional[int], row_ends: Optional[Tensor]) -> Tensor:  # noqa: UP045
        if row_ends is None:
            return scatter(inputs, index, dim=0, dim_size=dim_size, reduce="sum")
        return segment(inputs, row_ends)

    def message_and_aggregate(self, edge_index: Tensor, x: Tensor, edge_weight: Tensor) -> Tensor:
        return symmetric_spmm(edge_index, edge_weight, x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, mode={self.mode!r})"


def _check_values(matrix: Tensor, edge_weight: Tensor) -> None:
    if edge_weight.shape != matrix.values().shape:
        raise ValueError(
            f"Expected as edge_weight the {matrix.values().numel()} values of the sparse matrix, or none (got shape "
            f"{tuple(edge_weight.shape)})"
        )


def symmetric_spmm(matrix: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """``matrix @ x`` with gradients to the matrix's values, in time and memory of the edges.

    Torch's own way back through a CSR tensor builds the dense |V|×|V| matrix, for a batch of graphs one block-diagonal
    one. Here the gradient of an edge (i, j) is the product of two rows, taken at the edges only
    (``torch.sparse.sampled_addmm``), and that of ``x`` is the same product again, since the matrix is symmetric.

    Args:
        matrix: symmetric torch CSR tensor ``(node, node)``.
        values: the values of ``matrix``, through which gradients flow, ``(edge)``.
        x: ``(node, channel)``.

    Returns:
        ``(node, channel)``.
    """
    return _SymmetricSpmm.apply(matrix.detach(), values, x)


class _SymmetricSpmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matrix: Tensor, values: Tensor, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        ctx.save_for_backward(x)
        return matrix @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        (x,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_values, of_x = None, None
        if ctx.needs_input_grad[1]:
            of_values = torch.sparse.sampled_addmm(ctx.matrix, gradient, x.T, beta=0.0).values()
        if ctx.needs_input_grad[2]:
            of_x = ctx.matrix @ gradient
        return None, of_values, of_x
