"""Re-ranking with k-reciprocal neighbours (Zhong et al., CVPR 2017)."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from torch import Tensor

from cace_pyg.retrieval.image_set import one_set
from cace_pyg.retrieval.neighbour_graph import NeighbourGraph, nearest_neighbours
from cace_pyg.retrieval.neighbour_ranking import NeighbourRanking, check_weight, squared_over_farthest

_SHARED = 2**22  # shared entries in memory at once


def k_reciprocal_distance(
    query: Tensor | ArrayLike,
    gallery: Tensor | ArrayLike,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    original: Tensor | ArrayLike | None = None,
    own_position: Tensor | ArrayLike | None = None,
) -> Tensor:
    """Distances after k-reciprocal encoding: (1 − weight)·Jaccard + weight·original.

    Each image becomes a vector of Gaussian weights over its k1-reciprocal neighbours, expanded by those of neighbours
    that share more than two thirds of theirs (Eq. 3–7 of Zhong et al.), and averaged over its k2 nearest. The Jaccard
    distance compares these vectors. The result equals that of the authors' code, but the (query + gallery)² distances
    are never in memory: they are computed block by block, and the vectors are sparse. An image is its own nearest;
    other ties are in the order of query, then gallery.

    Apart from the result, memory grows with the number of images times neighbours; time grows with the square of the
    number of images, (query + gallery)²·channel products.

    Args:
        query: embeddings, ``(query, channel)``.
        gallery: embeddings, ``(gallery, channel)``.
        k1: number of neighbours, below the number of all images.
        k2: neighbours to average over, 1 for none, at most k1.
        weight: of the original distance, in [0, 1] (the authors: 0.3).
        original: ``(query, gallery)`` distances to mix in, such as those of the second stage; None: the squared
            Euclidean ones. They are divided by the largest of each query; for squared Euclidean ones, this is the
            largest over query and gallery together.
        own_position: ``(query,)``, the position of each query itself in the gallery, −1 if it is not there. Such a
            query and its gallery image are one image, not two mutual nearest ones; its distance to itself is undefined.

    Returns:
        ``(query, gallery)`` of 0 to 1 on the CPU, float64 if the embeddings are, else float32.

    Raises:
        ValueError: shapes do not fit, an embedding is not finite, or a number is out of range.
    """
    images = one_set(query, gallery, own_position)
    queries = len(images.place)
    if original is not None and np.shape(original) != (queries, len(images) - images.first):
        raise ValueError(f"Expected original as {(queries, len(images) - images.first)} (got {np.shape(original)})")
    check_weight(weight)
    check_k_reciprocal(k1, k2, len(images))
    graph = nearest_neighbours(images.embedding, k1 + 1)
    vectors = k_reciprocal_encoding(graph, k1, k2)
    given = None if original is None else torch.as_tensor(original)

    def direct(some: slice) -> Tensor:
        if given is None:
            return squared_over_farthest(graph, images, some)
        chosen = given[some].detach().cpu().to(images.embedding.dtype, copy=True)
        own = images.place[some] - images.first
        chosen[own >= 0, own[own >= 0]] = 0
        return chosen / chosen.amax(1, keepdim=True).clamp_min(torch.finfo(chosen.dtype).tiny)

    whole = NeighbourRanking.of(vectors, images, jaccard_distance, direct, weight).whole()
    return whole.to(images.embedding.dtype)


def k_reciprocal_encoding(graph: NeighbourGraph, k1: int, k2: int) -> csr_array:
    """Gaussian weights of each image over its expanded k-reciprocal neighbours, averaged over its ``k2`` nearest.

    Args:
        graph: with lists of ``k1 + 1`` images or more; weights are computed from its distances.
        k1: see :func:`k_reciprocal_distance`.
        k2: see there.

    Returns:
        ``(image, image)``; rows sum to 1.
    """
    near = _reciprocal(graph, k1 + 1)
    nearer = _reciprocal(graph, round(k1 / 2) + 1)
    sizes = np.diff(nearer.indptr)
    shared = csr_array((near @ nearer.T).multiply(near)).tocoo()  # for each image and each of its neighbours
    enough = 3 * shared.data > 2 * sizes[shared.col]
    likes = csr_array((np.ones(enough.sum(), np.float32), (shared.row[enough], shared.col[enough])), shape=near.shape)
    wide = csr_array(near + likes @ nearer)
    rows = np.repeat(np.arange(len(graph)), np.diff(wide.indptr))
    distance = graph.distances_to(torch.from_numpy(rows), torch.from_numpy(wide.indices).long())
    weights = torch.exp(-(distance / graph.farthest[rows]).square()).numpy()
    sums = np.bincount(rows, weights, minlength=len(graph)).astype(weights.dtype)
    vectors = csr_array((weights / sums[rows], wide.indices, wide.indptr), shape=near.shape)
    return vectors if k2 == 1 else csr_array(graph.to_csr(k2) @ vectors) / k2


def _reciprocal(graph: NeighbourGraph, k: int) -> csr_array:
    """1 if two images are among each other's ``k`` nearest."""
    lists = graph.to_csr(k)
    return csr_array(lists.multiply(lists.T.tocsr()))


def jaccard_distance(query: csr_array, gallery: csr_array) -> Tensor:
    """1 − Σ min / Σ max for each two vectors that sum to 1: 1 − m / (2 − m).

    Only entries that both vectors have are computed.

    Args:
        query: ``(query, entry)``.
        gallery: ``(entry, gallery)``.

    Returns:
        float64 ``(query, gallery)``.
    """
    sharing = np.diff(gallery.indptr)[query.indices].astype(np.int64)  # gallery vectors with each entry of each query
    if (total := int(sharing.sum())) > _SHARED and (rows := query.shape[0]) > 1:
        halves = query[: rows // 2], query[rows // 2 :]
        return torch.cat([jaccard_distance(csr_array(half), gallery) for half in halves])
    before = sharing.cumsum() - sharing
    entry = np.arange(total) + np.repeat(gallery.indptr[query.indices] - before, sharing)
    least = np.minimum(np.repeat(query.data, sharing), gallery.data[entry])
    first = np.repeat(np.arange(query.shape[0]) * gallery.shape[1], np.diff(query.indptr))
    place = np.repeat(first, sharing) + gallery.indices[entry]
    shared = np.bincount(place, least, query.shape[0] * gallery.shape[1])
    shared = shared.reshape(query.shape[0], gallery.shape[1])
    return torch.from_numpy(1 - shared / (2 - shared))


def check_k_reciprocal(k1: int, k2: int, images: int) -> None:
    """Raise ``ValueError`` if there are too few images for these numbers of neighbours."""
    if not 1 <= k1 < images or not 1 <= k2 <= k1:
        raise ValueError(f"Expected 1 <= k2 <= k1 < number of images, {images} (got k1 {k1}, k2 {k2})")
