"""Alignment without a convolution: how similar corresponding clues are."""

import torch
from torch import Tensor


def aligned_distance(unit_a: Tensor, unit_b: Tensor, inter: Tensor) -> Tensor:
    r"""Distance of two images from the mean similarity of their aligned clues (CACE-Net, Table 1, "+ Visual Clue
    Alignment"; the paper averages the similarity of the key-point pairs).

    With :math:`s = \sum_{ij} a_{ij} \, u_i^\top v_j / \sum_{ij} a_{ij}`, the mean cosine weighted with the inter
    edges, the distance is :math:`\sqrt{2 - 2s}`: the root mean square of :math:`\|u_i - v_j\|` over aligned pairs,
    on the scale of the distance between two unit embeddings. Images without any inter edge have s = 0.

    Args:
        unit_a: clues of unit length, ``(pair, n, channel)`` or ``(1, n, channel)`` for all pairs.
        unit_b: clues of unit length, ``(pair, n, channel)``.
        inter: weights ≥ 0, ``(pair, n, n)``, rows are clues of a.

    Returns:
        ``(pair,)``, 0 to 2; gradients are finite everywhere. NaN in a clue or an edge gives NaN in the distance.
    """
    total = inter.sum((-1, -2))
    similarity = (unit_a * (inter @ unit_b)).sum((-1, -2)) / torch.where(total == 0, 1.0, total)
    squared = 2 - 2 * similarity
    equal = squared <= 1e-12
    return torch.where(equal, 1.0, squared).sqrt() * ~equal
