"""Removes weak edges."""

import torch
from torch import Tensor


def sparsify(weights: Tensor, threshold: float = 0.0, top_edges: int | None = None) -> Tensor:
    """Set weak edges to zero; the others keep their weight and gradient.

    Args:
        weights: ≥ 0, ``(…, n, n)``.
        threshold: edges of at most this weight are removed; 0 removes nothing.
        top_edges: an edge is kept if it is among this many strongest of either of its ends; None keeps all.

    Returns:
        Shaped as ``weights``; symmetric if ``weights`` is (except for ties). ``weights`` itself if nothing is removed.
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
        k: edges that a node keeps; if it has fewer, all of them.

    Returns:
        Booleans of the shape of ``scores``. Among equal scores at the limit, the one that torch finds first is kept.
        Transposed scores give the transposed result.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for dim in (-1, -2):
        index = scores.topk(min(k, scores.size(dim)), dim=dim).indices
        kept = kept | torch.zeros_like(kept).scatter(dim, index, True)
    return kept
