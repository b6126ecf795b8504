"""Distances between pictures that are encoded by their neighbours, some queries at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

from cace_pyg.retrieval.distance import euclidean_distance
from cace_pyg.retrieval.image_set import ImageSet
from cace_pyg.retrieval.neighbour_graph import NeighbourGraph

_BLOCK = 2**22  # distances in memory at once


@dataclass(frozen=True)
class NeighbourRanking:
    """(1 − weight)·distance of the encodings + weight·original distance; computed when it is needed.

    Attributes:
        query: a sparse vector over all images for each query, ``(query, image)``.
        gallery: the same for the gallery, ``(image, gallery)``.
        compare: gives the distances, 0 to 1, of some rows of ``query`` to ``gallery``.
        original: gives distances of some queries to the gallery, about 0 to 1, ``(some, gallery)``.
        weight: of ``original``, in [0, 1].
    """

    query: csr_array
    gallery: csr_array
    compare: Callable[[csr_array, csr_array], Tensor]
    original: Callable[[slice], Tensor]
    weight: float

    @staticmethod
    def of(
        encoding: csr_array,
        images: ImageSet,
        compare: Callable[[csr_array, csr_array], Tensor],
        original: Callable[[slice], Tensor],
        weight: float,
    ) -> "NeighbourRanking":
        """Make it from the encodings of all images, ``(image, image)``."""
        query, gallery = csr_array(encoding[images.place.numpy()]), csr_array(encoding[images.first :].T.tocsr())
        return NeighbourRanking(query, gallery, compare, original, weight)

    def distance(self, queries: slice) -> Tensor:
        """The distances of some queries to the gallery, ``(some, gallery)``."""
        encoded = self.compare(csr_array(self.query[queries]), self.gallery)
        if self.weight == 0:
            return encoded
        original = self.original(queries)
        return (1 - self.weight) * encoded.to(original.dtype) + self.weight * original

    def blocks(self) -> Iterator[Tensor]:
        """The distances of all queries in order; :func:`cace_pyg.retrieval.evaluate_blocks` takes them."""
        queries, gallery = self.query.shape[0], self.gallery.shape[1]
        rows = max(1, _BLOCK // gallery)
        for start in range(0, queries, rows):
            yield self.distance(slice(start, min(start + rows, queries)))

    def whole(self) -> Tensor:
        """All distances, ``(query, gallery)``."""
        return torch.cat(list(self.blocks()))


def squared_over_farthest(graph: NeighbourGraph, images: ImageSet, queries: slice) -> Tensor:
    """Squared Euclidean distances of some queries to the gallery, divided by the query's largest to any image.

    Args:
        graph: of the images.
        images: queries and gallery.
        queries: which queries.

    Returns:
        ``(some, gallery)``, 0 to 1.
    """
    rows = images.place[queries]
    squared = euclidean_distance(images.embedding[rows], images.embedding[images.first :]).square()
    return squared / graph.farthest[rows, None].square()


def check_weight(weight: float) -> None:
    """Raise ``ValueError`` for a weight of the original distance outside [0, 1]."""
    if not 0 <= weight <= 1:
        raise ValueError(f"Expected weight in [0, 1] (got {weight})")
