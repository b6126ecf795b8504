"""Which engine is the fastest here."""

import torch

from cace_pyg.kernels import ReluGram
from cace_pyg.models.propagation import Engine
from cace_pyg.nn.node_wise import NodeWiseForm

_SPARSE_BELOW = 0.1
_SPARSE_FROM_CHANNELS = 512
_FUSED_UP_TO_CHANNELS = 256  # of what is compared; by arithmetic, docs/kernels.md


def choose_engine(
    node_wise: NodeWiseForm, device: str, density: float, channels: int, gram: ReluGram | None = None
) -> tuple[Engine, str]:
    """What ``engine: auto`` means for a model, and why; the numbers are the same whatever is chosen.

    Builders draw dense blocks, so an engine on edges has to pay for turning them into edges first. Measured on 2 CPU
    cores (``benchmarks/results/gcn_throughput.csv``, n = 192): pooling first on blocks costs less than that alone. On
    the map path, which grows with the channels, the sparse product pays where there are many of them and few edges.
    Other devices were not measured and get ``pooled``. CUDA gets the fused kernel where computing each tile again is
    less work than moving the inter block: few channels, in half precision. That is arithmetic too (docs/kernels.md).

    Args:
        node_wise: between convolution and pooling.
        device: type of the device, such as ``cpu`` or ``cuda``.
        density: share of all entries of the first pairs' adjacency that are not zero, 0 to 1.
        channels: that the convolution moves.
        gram: the first pairs' inter edges by their factors, where they have such and the fused kernel runs on the
            device.
    """
    said = f"auto: density {density:.1%}, {device}, {node_wise}, {channels} channels"
    if gram is not None and node_wise == "identity" and _pays(gram):
        return "fused", f"{said}; the fused kernel, on CUDA only"
    is_sparse = density < _SPARSE_BELOW and channels >= _SPARSE_FROM_CHANNELS
    engine = "sparse_matrix" if node_wise != "identity" and device == "cpu" and is_sparse else "pooled"
    return engine, said


def _pays(gram: ReluGram) -> bool:
    return gram.dtype in (torch.bfloat16, torch.float16) and gram.x_b.size(-1) <= _FUSED_UP_TO_CHANNELS
