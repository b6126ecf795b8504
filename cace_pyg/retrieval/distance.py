"""Distances between embeddings."""

from collections.abc import Iterator

import torch
from numpy.typing import ArrayLike
from torch import Tensor

_LEAST_SQUARE = 1e-12  # below this the gradient of the root is set to zero; it would be infinite or NaN


def euclidean_distance(a: Tensor | ArrayLike, b: Tensor | ArrayLike) -> Tensor:
    """All Euclidean distances between the rows of ``a`` and the rows of ``b``, differentiable.

    It is computed from inner products, ‖x‖² + ‖y‖² − 2 x·y. This is fast, but in float32 distances below about a
    thousandth of the norms are inexact. The result is at least 1e-6. Autocast is switched off inside: in half precision
    the difference of nearly equal squares would be noise.

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


_MOST = 2**23  # numbers at once: 32 MB of distances, and of the gallery's embeddings


def distance_blocks(a: Tensor, b: Tensor, most: int = _MOST) -> Iterator[tuple[slice, Tensor]]:
    """The rows of :func:`cace_pyg.retrieval.euclidean_distance`, in order, in blocks that fit into memory.

    Args:
        a: ``(query, channel)``.
        b: ``(gallery, channel)``.
        most: maximum number of distances in a block, and of the gallery's values to copy; a single row may exceed it.

    Yields:
        Which queries, and their distances to the whole gallery.
    """
    rows, columns = max(1, most // max(1, len(b))), max(1, most // max(1, b.size(1)))
    for start in range(0, len(a), rows):
        chosen = slice(start, min(start + rows, len(a)))
        yield chosen, torch.cat([euclidean_distance(a[chosen], part) for part in b.split(columns)], 1)


def conditional_distance(a_given_b: Tensor, b_given_a: Tensor) -> Tensor:
    """‖f(a|b) − f(b|a)‖ between unit vectors (CACE-Net, §3.5, which leaves the length of the embeddings open).

    Args:
        a_given_b: ``(…, channel)``.
        b_given_a: ``(…, channel)``.

    Returns:
        ``(…)``, 0 to 2; at least 1e-6, where the gradient is zero instead of infinite. Half precision embeddings are
        compared in float32.
    """
    dtype = torch.promote_types(a_given_b.dtype, torch.float32)
    unit_a, unit_b = (
        torch.nn.functional.normalize(embedding.to(dtype), dim=-1) for embedding in (a_given_b, b_given_a)
    )
    return (unit_a - unit_b).square().sum(-1).clamp_min(1e-12).sqrt()
