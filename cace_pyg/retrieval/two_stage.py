"""The second stage: rank the top k of the first again (CACE-Net, §3.5)."""

import torch
from torch import Tensor

from cace_pyg.retrieval.ranking import rank


def top_k(distance: Tensor, k: int) -> Tensor:
    """Gallery positions of the ``k`` nearest of each query, ``(query, k)``, nearest first, ties in gallery order.

    A ``k`` above the gallery's size takes the whole gallery.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"Expected top_k of at least 1 (got {k})")
    return rank(distance)[:, :k]


def rerank(distance: Tensor, index: Tensor, conditional: Tensor, weight: float) -> Tensor:
    """Distances whose ranking is the top k by the fused distance, then the rest as it was.

    The fused distance is (1 − weight)·individual + weight·conditional. The paper sorts by the conditional distance
    alone: weight 1. Everything else is moved behind the top k by a constant; ties are broken by gallery order.

    Example: individual [0.1, 0.2, 0.9], top 2 = [0, 1] with conditional [0.8, 0.3], weight 1 give [0.8, 0.3, x] with
    x > 0.8: the ranking is 1, 0, 2.

    Args:
        distance: individual distances, ``(query, gallery)``.
        index: gallery positions of the top k, ``(query, k)``, see :func:`top_k`.
        conditional: conditional distances of those, ``(query, k)``.
        weight: of the conditional distance, in [0, 1].

    Returns:
        ``(query, gallery)``, float64, so that moving the rest makes no new ties.

    Raises:
        ValueError: the shapes do not fit, or the weight is outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"Expected a fusion weight in [0, 1] (got {weight})")
    if index.shape != conditional.shape or index.size(0) != distance.size(0):
        raise ValueError(
            f"Expected index and conditional as (query, k) with {distance.size(0)} queries "
            f"(got {tuple(index.shape)} and {tuple(conditional.shape)})"
        )
    individual = distance.double()
    fused = (1 - weight) * individual.gather(1, index) + weight * conditional.double()
    is_top = torch.zeros_like(individual, dtype=torch.bool).scatter_(1, index, True)
    nearest_rest = individual.masked_fill(is_top, torch.inf).amin(1, keepdim=True)
    gap = fused.amax(1, keepdim=True) - nearest_rest + 1
    behind = individual + torch.where(torch.isfinite(gap), gap.clamp_min(0), 0.0)
    return behind.scatter(1, index, fused)
