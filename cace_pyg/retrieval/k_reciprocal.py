"""Re-ranking with k-reciprocal neighbours (Zhong et al., CVPR 2017)."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from cace_pyg.retrieval.distance import euclidean_distance
from cace_pyg.retrieval.two_stage import top_k

_BLOCK = 2**22  # numbers looked at together


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

    Each image becomes a vector of Gaussian weights over its k1-reciprocal neighbours, widened by those of neighbours
    which share more than two thirds of theirs (Eq. 3–7 of Zhong et al.), averaged over its k2 nearest; the Jaccard
    distance compares those vectors. The result is that of the authors' code, but the (query + gallery)² distances
    never exist: they are made block by block, and the vectors are kept sparse. An image is its own nearest; other ties
    stand in the order of query, then gallery.

    Memory, beside the result, grows with the number of images and of their neighbours, not with its square; time with
    its square, (query + gallery)²·channel products.

    Args:
        query: embeddings, ``(query, channel)``.
        gallery: embeddings, ``(gallery, channel)``.
        k1: neighbours looked at, below the number of all images.
        k2: neighbours to average over, 1 for none, at most k1.
        weight: of the original distance, in [0, 1] (the authors: 0.3).
        original: ``(query, gallery)`` distances to mix with, such as those of the second stage; none: the squared
            Euclidean ones. Either way each query's are divided by its largest; for its own squared ones, that over
            query and gallery together.
        own_position: ``(query,)``, where each query itself stands in the gallery, −1 where it does not. Such an image
            is one image, not two that are each other's nearest; what its distance to itself is, is left open.

    Returns:
        ``(query, gallery)`` of 0 to 1 on the CPU, float64 if the embeddings are, else float32.

    Raises:
        ValueError: shapes do not fit, an embedding is not finite, or a number is out of range.
    """
    query, gallery = torch.as_tensor(query).detach().cpu(), torch.as_tensor(gallery).detach().cpu()
    dtype = torch.float64 if torch.float64 in (query.dtype, gallery.dtype) else torch.float32
    _check(query, gallery, weight, original)
    given = None if original is None else torch.as_tensor(original)
    own = torch.full((len(query),), -1) if own_position is None else torch.as_tensor(own_position)
    strangers = own < 0
    images = torch.cat([query[strangers].to(dtype), gallery.to(dtype)])
    first = int(strangers.sum())  # of the gallery
    place = torch.where(strangers, strangers.cumsum(0) - 1, own + first)  # of each query among the images
    _check_k(k1, k2, len(images))
    neighbours, farthest = _neighbours(images, k1 + 1)
    vectors = _encode(images, neighbours, farthest, k1)
    if k2 > 1:
        vectors = (_lists(neighbours[:, :k2]) @ vectors) / k2
    distance = _jaccard(csr_array(vectors[place.numpy()]), csc_array(vectors[first:])).to(dtype)
    rows = max(1, _BLOCK // len(gallery))
    for start in range(0, len(query), rows):
        some = slice(start, start + rows)
        if given is None:
            direct = euclidean_distance(images[place[some]], images[first:]).square()
            direct /= farthest[place[some], None]
        else:
            direct = given[some].detach().cpu().to(dtype, copy=True)
            direct[own[some] >= 0, own[some][own[some] >= 0]] = 0
            direct = direct / direct.amax(1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)
        distance[some] = (1 - weight) * distance[some] + weight * direct
    return distance


def _neighbours(images: Tensor, k: int) -> tuple[np.ndarray, Tensor]:
    """The ``k`` nearest of each image, itself first, and its largest squared distance."""
    rows = max(1, _BLOCK // len(images))
    index, farthest = [], []
    for start in range(0, len(images), rows):
        squared = euclidean_distance(images[start : start + rows], images).square()
        squared[torch.arange(len(squared)), torch.arange(start, start + len(squared))] = 0  # nearer than any other
        index.append(top_k(squared, k))
        farthest.append(squared.amax(1))
    return torch.cat(index).numpy(), torch.cat(farthest)


def _lists(neighbours: np.ndarray) -> csr_array:
    """``(image, image)``: 1 where the column is a neighbour of the row."""
    images, k = neighbours.shape
    indptr = np.arange(0, images * k + 1, k)
    return csr_array((np.ones(images * k, dtype=np.float32), neighbours.ravel(), indptr), shape=(images, images))


def _reciprocal(neighbours: np.ndarray) -> csr_array:
    """1 where two images are in each other's lists."""
    lists = _lists(neighbours)
    return csr_array(lists.multiply(lists.T))


def _encode(images: Tensor, neighbours: np.ndarray, farthest: Tensor, k1: int) -> csr_array:
    """Gaussian weights of each image over its widened k-reciprocal neighbours; rows sum to 1."""
    near = _reciprocal(neighbours)
    nearer = _reciprocal(neighbours[:, : round(k1 / 2) + 1])
    sizes = nearer.sum(axis=1)
    shared = csr_array((near @ nearer.T).multiply(near)).tocoo()  # of an image, with each of its neighbours
    enough = 3 * shared.data > 2 * sizes[shared.col]
    likes = csr_array((shared.data[enough] > 0, (shared.row[enough], shared.col[enough])), shape=near.shape)
    wide = csr_array(near + likes.astype(np.float32) @ nearer).tocoo()
    squared = _squared_distances(images, wide.row, wide.col) / farthest[wide.row]
    vectors = csr_array((torch.exp(-squared).numpy(), (wide.row, wide.col)), shape=near.shape)
    vectors.data /= np.repeat(vectors.sum(axis=1), np.diff(vectors.indptr))
    return vectors


def _squared_distances(images: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    some = max(1, _BLOCK // images.size(1))
    parts = [
        (images[rows[i : i + some]] - images[columns[i : i + some]]).square().sum(1) for i in range(0, len(rows), some)
    ]
    return torch.cat(parts)


def _jaccard(query: csr_array, gallery: csc_array) -> Tensor:
    """1 − Σ min / Σ max of each two rows, which sum to 1 each: 1 − m / (2 − m)."""
    distance = np.empty((query.shape[0], gallery.shape[0]), dtype=query.dtype)
    for row in range(len(distance)):
        own = slice(query.indptr[row], query.indptr[row + 1])
        least = np.zeros(gallery.shape[0])
        for column, value in zip(query.indices[own], query.data[own], strict=True):
            entries = slice(gallery.indptr[column], gallery.indptr[column + 1])
            least[gallery.indices[entries]] += np.minimum(gallery.data[entries], value)
        distance[row] = 1 - least / (2 - least)
    return torch.from_numpy(distance)


def _check(query: Tensor, gallery: Tensor, weight: float, original: Tensor | ArrayLike | None) -> None:
    if query.dim() != 2 or gallery.dim() != 2 or query.size(1) != gallery.size(1) or not len(query) * len(gallery):
        raise ValueError(
            "Expected embeddings as (query, channel) and (gallery, channel) with the same channels "
            f"(got {tuple(query.shape)} and {tuple(gallery.shape)})"
        )
    for name, one in (("query", query), ("gallery", gallery)):
        if not one.isfinite().all():
            raise ValueError(f"Expected finite embeddings (got NaN or infinity in row {_first_bad(one)} of {name})")
    if not 0 <= weight <= 1:
        raise ValueError(f"Expected weight in [0, 1] (got {weight})")
    if original is not None and np.shape(original) != (len(query), len(gallery)):
        raise ValueError(f"Expected original as {(len(query), len(gallery))} (got {np.shape(original)})")


def _check_k(k1: int, k2: int, images: int) -> None:
    if not 1 <= k1 < images or not 1 <= k2 <= k1:
        raise ValueError(f"Expected 1 <= k2 <= k1 < number of images, {images} (got k1 {k1}, k2 {k2})")


def _first_bad(embeddings: Tensor) -> int:
    return int((~embeddings.isfinite()).any(1).nonzero()[0])
