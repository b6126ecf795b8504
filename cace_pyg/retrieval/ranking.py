"""Rankings from distances."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def rank(distance: Tensor | ArrayLike) -> Tensor:
    """Gallery positions of each query, nearest first; ties stand in gallery order.

    Example: the distances [[0.3, 0.1, 0.3]] give [[1, 0, 2]].

    Args:
        distance: ``(query, gallery)``, smaller is nearer.

    Returns:
        int64 ``(query, gallery)``.

    Raises:
        ValueError: ``distance`` is no matrix, or holds NaN.
    """
    distance = torch.as_tensor(distance)
    if distance.dim() != 2:
        raise ValueError(f"Expected distance as (query, gallery) (got {tuple(distance.shape)})")
    if distance.isnan().any():
        query = int(distance.isnan().any(1).nonzero()[0])
        raise ValueError(f"Expected distances that are numbers (got NaN for query {query}); check its embedding")
    return torch.argsort(distance, dim=1, stable=True)
