"""Rankings from distances."""

import torch
from torch import Tensor


def rank(distance: Tensor) -> Tensor:
    """Gallery positions of each query, nearest first; ties in gallery order.

    ``(query, gallery)`` distances to ``(query, gallery)`` integers.
    """
    return torch.argsort(distance, dim=-1, stable=True)
