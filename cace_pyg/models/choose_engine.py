"""Which engine is the fastest here."""

from cace_pyg.models.propagation import Engine
from cace_pyg.nn.node_wise import NodeWise


def choose_engine(node_wise: NodeWise, device: str, density: float) -> tuple[Engine, str]:
    """What ``engine: auto`` means for a model, and why; the numbers are the same whatever is chosen.

    Args:
        node_wise: between convolution and pooling.
        device: type of the device, such as ``cpu`` or ``cuda``.
        density: share of inter entries that are not zero, 0 to 1, measured on the first pairs.
    """
    return "pooled", f"density {density:.1%}, {device}, {node_wise}"
