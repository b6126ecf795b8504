"""A distance matrix, some rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cace_pyg.retrieval.distance import euclidean_distance

_MOST = 2**23  # numbers at a time: 32 MB of distances, and of the gallery's embeddings


def distance_blocks(a: Tensor, b: Tensor, most: int = _MOST) -> Iterator[tuple[slice, Tensor]]:
    """The rows of :func:`cace_pyg.retrieval.euclidean_distance`, in their order, without ever holding all of them.

    Args:
        a: ``(query, channel)``.
        b: ``(gallery, channel)``.
        most: distances to hold, and numbers of the gallery to copy; a single row may be more.

    Yields:
        Which queries, and their distances to the whole gallery.
    """
    rows, columns = max(1, most // max(1, len(b))), max(1, most // max(1, b.size(1)))
    for start in range(0, len(a), rows):
        chosen = slice(start, min(start + rows, len(a)))
        yield chosen, torch.cat([euclidean_distance(a[chosen], part) for part in b.split(columns)], 1)
