"""A distance matrix, some rows at a time."""

from collections.abc import Iterator

from torch import Tensor

from cace_pyg.retrieval.distance import euclidean_distance

_MOST = 2**23  # distances at a time: 32 MB of them


def distance_blocks(a: Tensor, b: Tensor, most: int = _MOST) -> Iterator[tuple[slice, Tensor]]:
    """The rows of :func:`cace_pyg.retrieval.euclidean_distance`, in their order, without ever holding all of them.

    Args:
        a: ``(query, channel)``.
        b: ``(gallery, channel)``.
        most: distances to hold; a single row may be more.

    Yields:
        Which queries, and their distances to the whole gallery.
    """
    rows = max(1, most // max(1, len(b)))
    for start in range(0, len(a), rows):
        chosen = slice(start, min(start + rows, len(a)))
        yield chosen, euclidean_distance(a[chosen], b)
