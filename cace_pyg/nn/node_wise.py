"""What happens to each node between the convolution and the pooling."""

from typing import Literal

from torch import Tensor

NodeWise = Literal["identity", "relu", "magnitude", "square"]


def apply_node_wise(x: Tensor, form: NodeWise) -> Tensor:
    """Apply the node-wise function to every entry of ``x`` (any shape).

    ``identity`` is the paper. With average pooling it lets discrepancies of opposite sign cancel; ``magnitude``
    (the absolute value, per channel), ``square`` and ``relu`` keep them (our addition); ``square`` lets few large
    differences weigh more than many small ones. Only ``identity`` is linear, so only it allows pooling before
    propagating.

    Raises:
        ValueError: ``form`` is not a known name.
    """
    if form == "identity":
        return x
    if form == "relu":
        return x.relu()
    if form == "magnitude":
        return x.abs()
    if form == "square":
        return x.square()
    raise ValueError(f"Expected node_wise 'identity', 'relu', 'magnitude' or 'square' (got {form!r})")
