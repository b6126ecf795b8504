"""Cutting weak edges off."""

import torch
from torch import Tensor


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


def strongest(scores: Tensor, k: int) -> Tensor:
    """Which entries are among the ``k`` largest of their row or of their column.

    Args:
        scores: ``(…, n, m)``; a node is a row or a column.
        k: edges a node keeps; more than it has keeps all of them.

    Returns:
        Booleans of the shape of ``scores``. Of equal scores at the border one is kept, whichever torch finds first.
        Transposed scores give the transposed answer.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for dim in (-1, -2):
        index = scores.topk(min(k, scores.size(dim)), dim=dim).indices
        kept = kept | torch.zeros_like(kept).scatter(dim, index, True)
    return kept
