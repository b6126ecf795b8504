"""The strongest edges of every node."""

import torch
from torch import Tensor


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
