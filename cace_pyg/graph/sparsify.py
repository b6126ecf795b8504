"""Cutting weak edges off."""

import torch
from torch import Tensor

from cace_pyg.graph.strongest import strongest


def sparsify(weights: Tensor, threshold: float = 0.0, top_edges: int | None = None) -> Tensor:
    """Set weak edges to zero; the others keep weight and gradient.

    Args:
        weights: ≥ 0, ``(…, n, n)``.
        threshold: an edge of at most this weight is cut; 0 cuts nothing.
        top_edges: an edge stays where it is among this many strongest of either of its ends; none cuts nothing.

    Returns:
        The shape of ``weights``; symmetric where ``weights`` is (but for ties). ``weights`` itself if nothing is cut.
    """
    if threshold > 0:
        weights = torch.where(weights <= threshold, 0.0, weights)
    if top_edges is not None:
        weights = torch.where(strongest(weights.detach(), top_edges), weights, 0.0)
    return weights
