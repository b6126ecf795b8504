"""The discrepancy convolution as PyG message passing."""

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.utils import scatter

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

    The same ``state_dict`` loads into :class:`~cace_pyg.nn.DenseDiscrepancyConv` and
    :class:`~cace_pyg.nn.PooledDiscrepancy`.
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
        if edge_weight is None:
            edge_weight = x.new_ones(edge_index.size(1))
        degree = scatter(edge_weight, edge_index[1], dim=0, dim_size=x.size(0), reduce="sum")
        scale, self_weight = normalise_degree(degree, self.mode, self.degree_floor)
        x = self.lin(x)  # linear, so it commutes with the propagation, and the messages are the smaller ones
        neighbours = self.propagate(edge_index, x=scale[:, None] * x, edge_weight=edge_weight)
        out = self_weight[:, None] * x + sign_of(self.mode) * scale[:, None] * neighbours
        return out if self.bias is None else out + self.bias

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * x_j

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, mode={self.mode!r})"
