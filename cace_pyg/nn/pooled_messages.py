"""Pool first on an edge list: scalar messages instead of feature vectors."""

import torch
from torch import Tensor

from cace_pyg.nn.discrepancy_conv import DiscrepancyConv


def pooled_messages(
    convolution: DiscrepancyConv,
    projected: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None,
    image: Tensor,
    num_graphs: int = 1,
) -> Tensor:
    r"""The mean over each image of ``convolution.convolve(projected)``, with messages of two numbers per edge.

    The operator L of the convolution is symmetric, so :math:`p^\top (L X) = (L p)^\top X`: the same
    :class:`DiscrepancyConv` runs on the two pooling vectors p of each pair (1/n on the nodes of one image, 0 on
    those of the other). Exact with average pooling only; a bias is left out.

    Args:
        convolution: which operator.
        projected: node features of a batch of pair graphs, ``(pair · 2n, channel)``.
        edge_index: ``(2, edge)``, or a torch CSR tensor.
        edge_weight: ``(edge)``; None: ones, or the values of a CSR tensor.
        image: 0 for nodes of image a, 1 for those of b, ``(pair · 2n)``.
        num_graphs: number of pairs, all with the same number of nodes.

    Returns:
        ``(pair, 2, channel)``: the pooled image a, then b.

    Raises:
        ValueError: the nodes do not divide into ``num_graphs`` graphs of one size.
    """
    if projected.size(0) % num_graphs:
        raise ValueError(
            f"Expected {num_graphs} pair graphs of one size (got {projected.size(0)} nodes in all); "
            "pool graphs of several sizes one by one"
        )
    of_image = torch.nn.functional.one_hot(image, 2).to(projected.dtype).view(num_graphs, -1, 2)
    pooling = of_image / of_image.sum(1, keepdim=True)
    weights = convolution.convolve(pooling.flatten(0, 1), edge_index, edge_weight, is_undirected=True)
    return weights.view(num_graphs, -1, 2).mT @ projected.view(num_graphs, -1, projected.size(-1))
