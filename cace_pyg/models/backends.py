"""The backends: one operator, computed in several ways, and which is the fastest here."""

import warnings
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import to_torch_csr_tensor

from cace_pyg.graph import PairBlocks, block_edges
from cace_pyg.kernels import ReluGram
from cace_pyg.nn import DiscrepancyConv, PooledDiscrepancy, pooled_messages
from cace_pyg.nn.dense_discrepancy_conv import convolve_dense
from cace_pyg.nn.node_wise import NodeWise, NodeWiseForm

Engine = Literal[
    "auto", "pooled", "gram", "fused", "pooled_messages", "dense", "message_passing", "segment_csr", "sparse_matrix"
]


_EDGE_LISTS = ("message_passing", "segment_csr", "sparse_matrix")


def convolve_pairs(
    engine: Engine, convolution: DiscrepancyConv, blocks: PairBlocks, nodes_a: Tensor, nodes_b: Tensor
) -> Tensor:
    """The convolved clues of both images, ``(pair, 2, n, channel)``.

    Args:
        engine: ``pooled`` and its kin take the map path on blocks.
        convolution: the operator; it moves numbers of any width.
        blocks: adjacency of each pair.
        nodes_a: projected clues of the images a, ``(pair, n, channel)``, or of one for all pairs.
        nodes_b: projected clues of the images b, ``(pair, n, channel)``.
    """
    if engine in _EDGE_LISTS:
        graph = _edges(engine, blocks)
        convolution.fuse = engine == "sparse_matrix"
        convolved = convolution.convolve(_stack(nodes_a, nodes_b).flatten(0, 1), *graph)
    elif engine == "dense":
        form = convolution.mode, convolution.degree_floor
        convolved = convolve_dense(_stack(nodes_a, nodes_b), blocks.adjacency(), *form)
    else:
        pooled = PooledDiscrepancy(convolution.mode, convolution.degree_floor)
        return torch.stack(pooled.convolve(nodes_a, nodes_b, *blocks), dim=1)
    pairs, n = nodes_b.shape[:2]
    return convolved.view(pairs, 2, n, -1)


def pool_pairs(
    engine: Engine,
    convolution: DiscrepancyConv,
    node_wise: NodeWise,
    blocks: PairBlocks,
    nodes_a: Tensor,
    nodes_b: Tensor,
) -> tuple[Tensor, Tensor]:
    """The mean over each image of the node-wise function of the convolved clues, ``(pair, channel)`` each.

    Arguments as in :func:`convolve_pairs`. ``pooled_messages`` needs the identity as
    ``node_wise``. ``fused`` saves the inter block; one that exists already is pooled.
    """
    if engine in ("pooled", "gram", "fused"):
        pooled = PooledDiscrepancy(convolution.mode, convolution.degree_floor, node_wise)
        return pooled(nodes_a, nodes_b, *blocks)
    if engine == "pooled_messages":
        pairs, n = nodes_b.shape[:2]
        image = torch.arange(2, device=nodes_b.device).repeat_interleave(n).repeat(pairs)
        edges = _edges("sparse_matrix", blocks)
        convolution.fuse = True
        both = pooled_messages(convolution, _stack(nodes_a, nodes_b).flatten(0, 1), *edges, image, pairs)
    else:
        both = node_wise(convolve_pairs(engine, convolution, blocks, nodes_a, nodes_b)).mean(2)
    return both[:, 0], both[:, 1]


def _stack(nodes_a: Tensor, nodes_b: Tensor) -> Tensor:
    """All nodes of each pair, ``(pair, 2n, channel)``."""
    return torch.cat([nodes_a.expand_as(nodes_b), nodes_b], dim=1)


def _edges(engine: Engine, blocks: PairBlocks) -> tuple[Tensor, Tensor]:
    """The graph of all pairs as an edge list or a CSR tensor, and its weights, through which gradients flow."""
    edge_index, edge_weight = block_edges(blocks)
    if engine == "message_passing":
        return edge_index, edge_weight
    nodes = 2 * blocks.inter.size(0) * blocks.inter.size(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)")  # torch says so once
        matrix = to_torch_csr_tensor(edge_index, edge_weight.detach(), size=nodes, is_coalesced=True)
    return matrix, edge_weight


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
