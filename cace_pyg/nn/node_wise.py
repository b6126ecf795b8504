"""The function that is applied to each node between the convolution and the pooling."""

from typing import Literal, get_args

import torch
from torch import Tensor

NodeWiseForm = Literal["identity", "relu", "magnitude", "square", "mlp"]


class NodeWise(torch.nn.Module):
    """The node-wise function φ, the same for every node.

    ``identity`` is the paper's. With average pooling, discrepancies of opposite sign then cancel; ``magnitude``
    (the absolute value, per channel), ``square`` and ``relu`` keep them (our addition). With ``square`` a few large
    differences count more than many small ones. ``mlp`` learns what to keep: one hidden layer on [|x|, x], which also
    mixes channels. Only ``identity`` is linear, so only it allows pooling before propagation.

    Args:
        form: one of these names.
        channels: of a node; only ``mlp`` has weights of its own.

    Shapes: ``(…, channel)`` to the same.

    Raises:
        ValueError: ``form`` is not a known name.
    """

    def __init__(self, form: NodeWiseForm = "identity", channels: int = 0):
        if form not in get_args(NodeWiseForm):
            raise ValueError(f"Expected node_wise {', '.join(map(repr, get_args(NodeWiseForm)))} (got {form!r})")
        super().__init__()
        self.form = form
        self.layers: torch.nn.Sequential
        if form == "mlp":
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(2 * channels, channels), torch.nn.ReLU(), torch.nn.Linear(channels, channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "mlp":
            return self.layers(torch.cat([x.abs(), x], dim=-1))
        if self.form == "relu":
            return x.relu()
        if self.form == "magnitude":
            return x.abs()
        return x.square() if self.form == "square" else x

    def mean(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean of φ over the nodes of an image, ``(…, node, channel)`` to ``(…, channel)``.

        The last layer of ``mlp`` is linear, so it comes after the mean, on one node instead of all.

        Args:
            x: nodes.
            weight: how much each node counts, ``(…, node)`` ≥ 0, not all of them zero; none: all the same.
        """
        if self.form != "mlp":
            return _mean(self(x), weight)
        return self.layers[2](_mean(self._hidden(x), weight))

    def _hidden(self, x: Tensor) -> Tensor:
        """The hidden layer of ``mlp``; without gradients in two products, which saves copying [|x|, x]."""
        first = self.layers[0]
        assert isinstance(first, torch.nn.Linear)
        if torch.is_grad_enabled():
            return first(torch.cat([x.abs(), x], dim=-1)).relu()
        of_size, of_value = first.weight.chunk(2, dim=1)
        nodes = x.flatten(0, -2)
        hidden = torch.addmm(torch.addmm(first.bias, nodes, of_value.mT), nodes.abs(), of_size.mT)
        return hidden.relu_().unflatten(0, x.shape[:-1])


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return x.mean(-2)
    share = weight / weight.sum(-1, keepdim=True)
    return (share.to(x.dtype).unsqueeze(-2) @ x).squeeze(-2)
