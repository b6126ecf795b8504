"""Pair graphs as PyG data."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import dense_to_sparse

from cace_pyg.graph.clues import PairBlocks


def pair_to_data(blocks: PairBlocks, nodes_a: Tensor, nodes_b: Tensor, grid: tuple[int, int], pair: int = 0) -> Data:
    """One pair of images as one graph of 2n clues.

    Args:
        blocks: the adjacency of some pairs.
        nodes_a: node features of the images a, ``(pair, n, channel)``.
        nodes_b: node features of the images b, ``(pair, n, channel)``.
        grid: (H, W) of both feature maps, n = H·W.
        pair: which of the pairs.

    Returns:
        ``Data`` with ``x`` (2n, channel), ``edge_index`` (2, edge) and ``edge_weight`` (edge) of the entries that are
        not zero, ``image`` (2n) with 0 for nodes of a and 1 for nodes of b, and ``pos`` (2n, 2), the row and column
        of each clue in its feature map. Gradients flow through ``x`` and ``edge_weight``.
    """
    # one matrix at a time: on a batch, dense_to_sparse changes its own saved index and backward fails (PyG 2.8)
    one = PairBlocks(*(block[pair : pair + 1] for block in blocks))
    edge_index, edge_weight = dense_to_sparse(one.adjacency()[0])
    height, width = grid
    n = height * width
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pos = torch.stack([rows.flatten(), columns.flatten()], dim=-1).repeat(2, 1)
    return Data(
        x=torch.cat([nodes_a[pair], nodes_b[pair]]),
        edge_index=edge_index,
        edge_weight=edge_weight,
        image=torch.arange(2, device=nodes_a.device).repeat_interleave(n),
        pos=pos.to(nodes_a.device),
    )


def pairs_to_batch(blocks: PairBlocks, nodes_a: Tensor, nodes_b: Tensor, grid: tuple[int, int]) -> Batch:
    """All pairs as one PyG ``Batch``, one graph a pair (see :func:`pair_to_data`)."""
    pairs = range(blocks.inter.size(0))
    return Batch.from_data_list([pair_to_data(blocks, nodes_a, nodes_b, grid, pair) for pair in pairs])
