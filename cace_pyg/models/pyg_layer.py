"""Any PyG layer in place of the discrepancy convolution."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing


class PygLayer(torch.nn.Module):
    """A layer of ``torch_geometric.nn``, called with a pair graph's edge weights if it can take them.

    If the layer's ``forward`` has ``edge_weight``, it gets the weights there; if it has ``edge_attr`` and was made with
    ``edge_dim=1``, it gets them as ``(edge, 1)``; otherwise it sees the edges, but not their weights.

    Args:
        make: makes the layer from the sizes of input and output node features.
        in_channels: size of an input node feature.
        out_channels: size of an output node feature.

    Shapes: as :class:`cace_pyg.nn.DiscrepancyConv`.

    Raises:
        ValueError: the layer cannot be called with node features and edges, or returns another size.
    """

    def __init__(self, make: Callable[[int, int], MessagePassing], in_channels: int, out_channels: int):
        super().__init__()
        self.layer = make(in_channels, out_channels)
        accepted = inspect.signature(self.layer.forward).parameters
        self.takes_weight = "edge_weight" in accepted
        self.takes_attribute = "edge_attr" in accepted and getattr(self.layer, "edge_dim", None) == 1
        self._check(in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return the convolved node features."""
        if self.takes_weight:
            return self.layer(x, edge_index, edge_weight=edge_weight)
        if self.takes_attribute:
            return self.layer(x, edge_index, edge_attr=edge_weight[:, None])
        return self.layer(x, edge_index)

    def _check(self, in_channels: int, out_channels: int) -> None:
        name, was_training = type(self.layer).__name__, self.training
        two = torch.zeros(2, in_channels), torch.tensor([[0, 1], [1, 0]]), torch.ones(2)
        try:
            with torch.no_grad():
                got = self.eval()(*two)
        except Exception as error:  # a layer with another signature may fail in any way
            raise ValueError(
                f"{name} (conditional.convolution) cannot be called with (x, edge_index) and weights of edges: {error}"
            ) from error
        self.train(was_training)
        if not isinstance(got, Tensor) or got.shape != (2, out_channels):
            shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
            raise ValueError(
                f"Expected {name} (conditional.convolution) to turn 2 nodes into (2, {out_channels}) (got {shape}); "
                "a GATConv with several heads needs --conditional.convolution.concat false"
            )
