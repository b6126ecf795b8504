"""The backends: several ways to compute the same operator, and the choice of the fastest."""

import warnings
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import segment, to_torch_csr_tensor

from cace_pyg.graph import PairBlocks, block_edges
from cace_pyg.nn import DiscrepancyConv, convolve_blocks, pool_blocks, pooled_messages
from cace_pyg.nn.degree import normalise_degree, sign_of
from cace_pyg.nn.dense_discrepancy_conv import convolve_dense
from cace_pyg.nn.node_wise import NodeWise, NodeWiseForm

Backend = Literal[
    "auto", "pooled", "gram", "fused", "pooled_messages", "dense", "message_passing", "segment_csr", "sparse_matrix"
]
_SPARSE_BELOW = 0.1
_SPARSE_FROM_CHANNELS = 512


def pool_pairs(
    backend: Backend,
    convolution: DiscrepancyConv,
    node_wise: NodeWise,
    blocks: PairBlocks,
    projected_a: Tensor,
    projected_b: Tensor,
) -> tuple[Tensor, Tensor]:
    """The mean over each image of the node-wise function of the convolved clues, ``(pair, channel)`` each.

    Args:
        backend: ``fused`` avoids the inter block; if the block exists already, it is used like ``pooled``.
            ``pooled_messages`` needs the identity as ``node_wise``.
        convolution: the operator.
        node_wise: between convolution and pooling.
        blocks: adjacency of each pair.
        projected_a: projected clues of the images a, ``(pair, n, channel)``, or of one image for all pairs.
        projected_b: projected clues of the images b, ``(pair, n, channel)``.
    """
    if backend in ("pooled", "gram", "fused"):
        form = convolution.mode, convolution.degree_floor
        return pool_blocks(projected_a, projected_b, *blocks, *form, node_wise)
    if backend == "pooled_messages":
        pairs, n = projected_b.shape[:2]
        image = torch.arange(2, device=projected_b.device).repeat_interleave(n).repeat(pairs)
        matrix, weight = _sparse_matrix(blocks)
        nodes = _stack(projected_a, projected_b).flatten(0, 1)
        both = pooled_messages(convolution, nodes, matrix, weight, image, pairs)
    else:
        both = node_wise.mean(convolve_pairs(backend, convolution, blocks, projected_a, projected_b))
    return both[:, 0], both[:, 1]


def convolve_pairs(
    backend: Backend, convolution: DiscrepancyConv, blocks: PairBlocks, projected_a: Tensor, projected_b: Tensor
) -> Tensor:
    """The convolved clues of both images, ``(pair, 2, n, channel)``; arguments as in :func:`pool_pairs`.

    ``pooled`` and similar backends use :func:`cace_pyg.nn.block_convolution.convolve_blocks`.
    """
    form = convolution.mode, convolution.degree_floor
    if backend in ("pooled", "gram", "fused", "pooled_messages"):
        return torch.stack(convolve_blocks(projected_a, projected_b, *blocks, *form), dim=1)
    nodes, (pairs, n) = _stack(projected_a, projected_b), projected_b.shape[:2]
    if backend == "dense":
        convolved = convolve_dense(nodes, blocks.adjacency(), *form)
    elif backend == "message_passing":
        convolved = convolution.convolve(nodes.flatten(0, 1), *block_edges(blocks))
    elif backend == "sparse_matrix":
        convolved = convolution.convolve(nodes.flatten(0, 1), *_sparse_matrix(blocks), is_undirected=True)
    else:
        convolved = convolve_segments(convolution, nodes.flatten(0, 1), *_sparse_matrix(blocks))
    return convolved.view(pairs, 2, n, -1)


def _stack(projected_a: Tensor, projected_b: Tensor) -> Tensor:
    """All nodes of each pair, ``(pair, 2n, channel)``."""
    return torch.cat([projected_a.expand_as(projected_b), projected_b], dim=1)


def _sparse_matrix(blocks: PairBlocks) -> tuple[Tensor, Tensor]:
    """The graph of all pairs as a torch CSR tensor, and its values, through which gradients flow."""
    edge_index, edge_weight = block_edges(blocks)
    nodes = 2 * blocks.inter.size(0) * blocks.inter.size(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)")  # torch warns once
        matrix = to_torch_csr_tensor(edge_index, edge_weight.detach(), size=nodes, is_coalesced=True)
    return matrix, edge_weight


def convolve_segments(convolution: DiscrepancyConv, projected: Tensor, matrix: Tensor, weight: Tensor) -> Tensor:
    """:meth:`DiscrepancyConv.convolve` with explicit messages that are summed row by row.

    Uses ``torch_scatter.segment_csr`` if it is installed, else torch's own function.
    """
    wide = torch.promote_types(projected.dtype, torch.float32)
    row_ends, column = matrix.crow_indices(), matrix.col_indices()
    with torch.autocast(projected.device.type, enabled=False):
        x, weight = projected.to(wide), weight.to(wide)
        scale, self_weight = normalise_degree(segment(weight, row_ends), convolution.mode, convolution.degree_floor)
        neighbours = segment(weight[:, None] * (scale[:, None] * x)[column], row_ends)
        convolved = self_weight[:, None] * x + sign_of(convolution.mode) * scale[:, None] * neighbours
    return convolved.to(projected.dtype)


def choose_backend(node_wise: NodeWiseForm, device: str, density: float, channels: int) -> tuple[Backend, str]:
    """The backend that ``backend: auto`` chooses for a model, and why; all backends give the same numbers.

    Builders make dense blocks, so a backend on edges must convert them first. Measured on 2 CPU cores
    (``benchmarks/results/gcn_throughput.csv``, n = 192): pooling first on blocks costs less than the conversion alone.
    If whole maps are convolved, the cost grows with the channels, and the sparse product is faster for many channels
    and few edges. On an H200 plain torch is faster than ``fused`` in complete stages, with 128 and with 2048 channels
    (``benchmarks/results/gpu.csv``), so CUDA uses ``pooled``, and so do devices that were not measured.

    Args:
        node_wise: between convolution and pooling.
        device: type of the device, such as ``cpu`` or ``cuda``.
        density: share of non-zero entries in the first pairs' adjacency, 0 to 1.
        channels: of the convolution.
    """
    is_sparse = density < _SPARSE_BELOW and channels >= _SPARSE_FROM_CHANNELS
    backend: Backend = "sparse_matrix" if node_wise != "identity" and device == "cpu" and is_sparse else "pooled"
    return backend, f"auto: density {density:.1%}, {device}, {node_wise}, {channels} channels"
