"""Distances between embeddings."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

_LEAST_SQUARE = 1e-12  # below it the gradient of the root is cut to zero, where it would be infinite or NaN


def euclidean_distance(a: Tensor | ArrayLike, b: Tensor | ArrayLike) -> Tensor:
    """All Euclidean distances between the rows of ``a`` and the rows of ``b``, differentiable.

    From inner products, ‖x‖² + ‖y‖² − 2 x·y, which is fast but leaves a distance that is below about a thousandth of
    the norms inexact in float32. It is at least 1e-6. Autocast is switched off inside: in half precision the
    difference of nearly equal squares would be noise.

    Example: the rows [[0, 0]] and [[3, 4], [0, 1]] give [[5, 1]].

    Args:
        a: ``(query, channel)``.
        b: ``(gallery, channel)``.

    Returns:
        ``(query, gallery)`` in the unit of the embeddings (0 to 2 for unit vectors); float64 if ``a`` or ``b`` is,
        else float32.

    Raises:
        ValueError: the shapes do not fit.
    """
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if a.dim() != 2 or b.dim() != 2 or a.size(1) != b.size(1):
        raise ValueError(
            "Expected embeddings as (query, channel) and (gallery, channel) with the same channels "
            f"(got {tuple(a.shape)} and {tuple(b.shape)}); flatten or pool each image to one vector first"
        )
    dtype = torch.float64 if torch.float64 in (a.dtype, b.dtype) else torch.float32
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.to(dtype), b.to(dtype)
        squared_norms = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
        return torch.addmm(squared_norms, a, b.T, alpha=-2).clamp_min(_LEAST_SQUARE).sqrt()
