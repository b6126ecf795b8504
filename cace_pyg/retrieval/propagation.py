"""Re-ranking by message passing between pictures (Zhang et al., 2020)."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from torch import Tensor

from cace_pyg.retrieval.image_set import one_set
from cace_pyg.retrieval.neighbour_graph import NeighbourGraph, nearest_neighbours
from cace_pyg.retrieval.neighbour_ranking import NeighbourRanking, check_weight, squared_over_farthest

_ROWS = 4096  # divided at once


def propagation_encoding(
    graph: NeighbourGraph, k1: int = 26, k2: int = 7, exponent: float = 2.0, steps: int = 2
) -> csr_array:
    r"""The encoding of each image after messages from its neighbours, as a sparse vector over all images.

    "Understanding Image Retrieval Re-Ranking: A Graph Neural Network Perspective" (Zhang et al., 2020), as in the
    authors' code. With A_ij = 1 for the ``k1`` nearest j of i, else 0, and N(i) the ``k2`` nearest of i, both including
    the image itself:

    .. math::
        H^{(0)} = A, \quad
        h_i^{(l+1)} \propto \sum_{j \in N(i)} s_{ij}^{α} \, (H^{(l)} + H^{(l)\top})_j, \quad \|h_i^{(l+1)}\| = 1

    where s_ij = 1 − d_ij²/2 is the cosine, from the distance in the graph; negative ones count as 0. The matrix of
    weights and H are sparse, so a step of PyG's ``MessagePassing`` is a product of two sparse matrices. SciPy's takes
    8 bytes an entry where torch's takes 20 and copies several times.

    Args:
        graph: of embeddings of unit length, with lists of max(k1, k2) images or more.
        k1: neighbours that describe an image, including itself (the authors, for Market-1501: 26).
        k2: neighbours that send messages to it, including itself; 1 for none (the authors: 7).
        exponent: α (the authors: 2).
        steps: number of message-passing steps (the authors: 2).

    Returns:
        ``(image, image)``; rows of length 1.
    """
    images, near = len(graph), graph.to_data(k2)
    weight = near.edge_weight.clamp_min(0).pow(exponent).numpy()
    sources, first = near.edge_index[0].numpy().astype(np.int32), np.arange(0, images * k2 + 1, k2, dtype=np.int32)
    heard = csr_array((weight, sources, first), shape=(images, images))
    encoding = graph.to_csr(k1).astype(weight.dtype)
    for _ in range(steps if k2 > 1 else 0):
        encoding = csr_array(heard @ (encoding + encoding.T.tocsr()))
        _make_rows_unit(encoding)
    _make_rows_unit(encoding)
    return encoding


def _make_rows_unit(matrix: csr_array) -> None:
    """Divide each row, which must have an entry, by its length."""
    for start in range(0, matrix.shape[0], _ROWS):
        bounds = matrix.indptr[start : start + _ROWS + 1]
        values = matrix.data[bounds[0] : bounds[-1]]
        squares = np.add.reduceat(np.square(values, dtype=np.float64), bounds[:-1] - bounds[0])
        values /= np.sqrt(squares).repeat(np.diff(bounds))


def cosine_distance(query: csr_array, gallery: csr_array) -> Tensor:
    """1 − cosine of each two vectors of unit length.

    Args:
        query: ``(query, entry)``.
        gallery: ``(entry, gallery)``.

    Returns:
        ``(query, gallery)``.
    """
    return torch.from_numpy(1 - (query @ gallery).toarray())


def propagation_distance(
    query: Tensor | ArrayLike,
    gallery: Tensor | ArrayLike,
    k1: int = 26,
    k2: int = 7,
    exponent: float = 2.0,
    weight: float = 0.0,
    own_position: Tensor | ArrayLike | None = None,
) -> Tensor:
    """1 − cosine of the encodings of images after messages from their neighbours, see :func:`propagation_encoding`.

    Args:
        query: embeddings, ``(query, channel)``; compared by direction.
        gallery: ``(gallery, channel)``.
        k1: see :func:`propagation_encoding`, at most the number of all images.
        k2: see there, at most ``k1``.
        exponent: see there.
        weight: of the squared Euclidean distance divided by the query's largest, in [0, 1]. With 0, as in the authors'
            code, pictures without a common neighbour are tied and are in gallery order.
        own_position: see :func:`cace_pyg.retrieval.k_reciprocal_distance`.

    Returns:
        ``(query, gallery)`` on the CPU, float64 if the embeddings are, else float32.

    Raises:
        ValueError: shapes do not fit, an embedding is not finite, or a number is out of range.
    """
    images = one_set(query, gallery, own_position)
    check_weight(weight)
    check_propagation(k1, k2, len(images))
    if exponent < 0:
        raise ValueError(f"Expected an exponent of at least 0 (got {exponent})")
    images = replace(images, embedding=torch.nn.functional.normalize(images.embedding, dim=1))
    graph = nearest_neighbours(images.embedding, k1)
    encoding = propagation_encoding(graph, k1, k2, exponent)

    def direct(some: slice) -> Tensor:
        return squared_over_farthest(graph, images, some)

    return NeighbourRanking.of(encoding, images, cosine_distance, direct, weight).whole()


def check_propagation(k1: int, k2: int, images: int) -> None:
    """Raise ``ValueError`` if there are too few images for these numbers of neighbours."""
    if not 1 <= k2 <= k1 <= images:
        raise ValueError(f"Expected 1 <= k2 <= k1 <= number of images, {images} (got k1 {k1}, k2 {k2})")
