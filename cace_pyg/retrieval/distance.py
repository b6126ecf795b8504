"""Distances between embeddings."""

from torch import Tensor


def euclidean_distance(a: Tensor, b: Tensor) -> Tensor:
    """All Euclidean distances between the rows of ``a`` and of ``b``.

    From inner products, so a distance below about 1e-3 (float32, unit vectors) is not exact; clamped at 1e-6, where
    the gradient is zero instead of infinite.

    Args:
        a: ``(query, channel)``.
        b: ``(gallery, channel)``.

    Returns:
        ``(query, gallery)``.

    Raises:
        ValueError: the shapes do not fit.
    """
    if a.dim() != 2 or b.dim() != 2 or a.size(1) != b.size(1):
        raise ValueError(f"Expected (query, channel) and (gallery, channel) (got {tuple(a.shape)} and {tuple(b.shape)})")
    squared = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.T
    return squared.clamp_min(1e-12).sqrt()
