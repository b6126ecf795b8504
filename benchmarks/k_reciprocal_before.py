"""An earlier implementation of k-reciprocal re-ranking, for comparison."""

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from cace_pyg.retrieval import euclidean_distance

_BLOCK = 2**22


def k_reciprocal_before(query: Tensor, gallery: Tensor, k1: int = 20, k2: int = 6, weight: float = 0.3) -> Tensor:
    """The result of :func:`cace_pyg.retrieval.k_reciprocal_distance`."""
    images = torch.cat([query, gallery])
    first = len(query)
    neighbours, farthest = _neighbours(images, k1 + 1)
    vectors = _encode(images, neighbours, farthest, k1)
    if k2 > 1:
        vectors = (_lists(neighbours[:, :k2]) @ vectors) / k2
    distance = _jaccard(csr_array(vectors[:first]), csc_array(vectors[first:])).to(images.dtype)
    rows = max(1, _BLOCK // len(gallery))
    for start in range(0, first, rows):
        some = slice(start, min(start + rows, first))
        direct = euclidean_distance(images[some], images[first:]).square() / farthest[some, None]
        distance[some] = (1 - weight) * distance[some] + weight * direct
    return distance


def _neighbours(images: Tensor, k: int) -> tuple[np.ndarray, Tensor]:
    rows = max(1, _BLOCK // len(images))
    index, farthest = [], []
    for start in range(0, len(images), rows):
        squared = euclidean_distance(images[start : start + rows], images).square()
        squared[torch.arange(len(squared)), torch.arange(start, start + len(squared))] = 0
        index.append(_nearest(squared, k))
        farthest.append(squared.amax(1))
    return torch.cat(index).numpy(), torch.cat(farthest)


def _nearest(distance: Tensor, k: int) -> Tensor:
    farthest = distance.topk(k, largest=False).values[:, -1:]
    nearer, level = distance < farthest, distance == farthest
    wanted = k - nearer.sum(1, keepdim=True)
    taken = nearer | (level & (level.cumsum(1) <= wanted))
    index = taken.nonzero()[:, 1].view(-1, k)
    return index.gather(1, distance.gather(1, index).argsort(dim=1, stable=True))


def _lists(neighbours: np.ndarray) -> csr_array:
    images, k = neighbours.shape
    indptr = np.arange(0, images * k + 1, k)
    return csr_array((np.ones(images * k, dtype=np.float32), neighbours.ravel(), indptr), shape=(images, images))


def _reciprocal(neighbours: np.ndarray) -> csr_array:
    lists = _lists(neighbours)
    return csr_array(lists.multiply(lists.T))


def _encode(images: Tensor, neighbours: np.ndarray, farthest: Tensor, k1: int) -> csr_array:
    near = _reciprocal(neighbours)
    nearer = _reciprocal(neighbours[:, : round(k1 / 2) + 1])
    sizes = nearer.sum(axis=1)
    shared = csr_array((near @ nearer.T).multiply(near)).tocoo()
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
    distance = np.empty((query.shape[0], gallery.shape[0]), dtype=query.dtype)
    for row in range(len(distance)):
        own = slice(query.indptr[row], query.indptr[row + 1])
        least = np.zeros(gallery.shape[0])
        for column, value in zip(query.indices[own], query.data[own], strict=True):
            entries = slice(gallery.indptr[column], gallery.indptr[column + 1])
            least[gallery.indices[entries]] += np.minimum(gallery.data[entries], value)
        distance[row] = 1 - least / (2 - least)
    return torch.from_numpy(distance)
