"""The dense twin of the discrepancy convolution."""

import torch
from torch import Tensor
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from cace_pyg.nn.degree import (
    DegreeFloor,
    Mode,
    check_form,
    node_degree,
    normalise_degree,
    sign_of,
)


class DenseDiscrepancyConv(torch.nn.Module):
    r"""See :class:`cace_pyg.nn.DiscrepancyConv`: the same operator on a batch of dense adjacency matrices.

    Shapes:
        - **input:** node features ``(pair, node, in_channels)``, non-negative adjacency ``(pair, node, node)``; in a
          directed graph rows are targets
        - **output:** node features ``(pair, node, out_channels)``
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
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mode = mode
        self.degree_floor = degree_floor
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.bias = torch.nn.Parameter(torch.zeros(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Draw new weights; the bias becomes zero."""
        self.lin.reset_parameters()
        zeros(self.bias)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        """Return the convolved node features (see the class).

        Raises:
            ValueError: ``x`` and ``adj`` are not (pair, node, channel) and (pair, node, node).
        """
        if x.dim() != 3 or adj.shape != (x.size(0), x.size(1), x.size(1)):
            raise ValueError(
                f"Expected x as (pair, node, channel) and adj as (pair, node, node) (got {tuple(x.shape)} and "
                f"{tuple(adj.shape)}); for an edge list use DiscrepancyConv"
            )
        out = convolve_dense(self.lin(x), adj, self.mode, self.degree_floor)
        return out if self.bias is None else out + self.bias

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, mode={self.mode!r})"


def convolve_dense(projected: Tensor, adj: Tensor, mode: Mode, degree_floor: DegreeFloor) -> Tensor:
    """The convolution of projected nodes ``(pair, node, any)`` with whole matrices ``(pair, node, node)``."""
    scale, self_weight = normalise_degree(node_degree(adj), mode, degree_floor)
    neighbours = adj @ (scale.unsqueeze(-1) * projected).to(projected.dtype)
    convolved = self_weight.unsqueeze(-1) * projected + sign_of(mode) * scale.unsqueeze(-1) * neighbours
    return convolved.to(projected.dtype)
