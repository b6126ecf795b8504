"""The nearest neighbours of a set of pictures as a sparse graph."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch_geometric.data import Data

from cace_pyg.retrieval.two_stage import top_k

_BLOCK = 2**22  # numbers in memory at once
_LEAST_SQUARE = 1e-12  # smallest squared distance of different images, as in euclidean_distance


@dataclass(frozen=True)
class NeighbourGraph:
    """Each image with its ``k`` nearest among all images, queries and gallery together.

    Its size is the number of images times ``k``, never the square.

    Attributes:
        embedding: ``(image, channel)``.
        index: int64 ``(image, k)``, nearest first. The first is the image itself; other ties are in the order of the
            images.
        distance: ``(image, k)``, ascending: the distance at each position of the list.
        farthest: ``(image,)``, the largest Euclidean distance of each image to any other.
    """

    embedding: Tensor
    index: Tensor
    distance: Tensor
    farthest: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def reranked(self, fused: Tensor) -> "NeighbourGraph":
        """The graph with lists in another order; each position keeps its distance, so weights keep their scale.

        Example: an image with neighbours [7, 4, 9] at distances [0.1, 0.2, 0.4] and fused distances [0.8, 0.9, 0.3] has
        the neighbours [9, 7, 4] at [0.1, 0.2, 0.4].

        Args:
            fused: other distances from each image to its ``m`` nearest, without itself, ``(image, m)``. Later positions
                are unchanged, and equal distances keep their order.

        Raises:
            ValueError: the lists have fewer than ``m`` images besides the image itself, or a distance is NaN.
        """
        if fused.dim() != 2 or len(fused) != len(self) or fused.size(1) >= self.index.size(1) or fused.isnan().any():
            raise ValueError(
                f"Expected fused distances to at most {self.index.size(1) - 1} neighbours of {len(self)} images, none "
                f"of them NaN (got {tuple(fused.shape)})"
            )
        last = 1 + fused.size(1)
        near = self.index[:, 1:last].gather(1, fused.argsort(dim=1, stable=True))
        return replace(self, index=torch.cat([self.index[:, :1], near, self.index[:, last:]], 1))

    def distances_to(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The distance from each image of ``rows`` to that of ``columns``, ``(pair,)``.

        This is the distance in the list if the image is in the list, else the Euclidean one.
        """
        ordered, order = self.index.sort(1)
        first = torch.arange(len(self))[:, None] * len(self)
        keys, wanted = (first + ordered).flatten(), rows * len(self) + columns
        place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        found = self.distance.gather(1, order).flatten()[place]
        absent = (keys[place] != wanted).nonzero().flatten()
        for some in absent.split(max(1, _BLOCK // self.embedding.size(1))):
            found[some] = (self.embedding[rows[some]] - self.embedding[columns[some]]).norm(dim=1)
        return found

    def to_data(self, k: int | None = None) -> Data:
        """A PyG graph with edges from the ``k`` nearest of each image, including itself, to the image.

        Args:
            k: number of neighbours; None: all.

        Returns:
            ``x`` are the embeddings, ``edge_index`` ``(2, image·k)`` is sorted by target, then by distance, and
            ``edge_weight`` is 1 − d²/2, which for embeddings of unit length is the cosine.
        """
        index, distance = self._nearest(k or self.index.size(1)), self.distance[:, :k]
        target = torch.arange(len(self)).repeat_interleave(index.size(1))
        weight = 1 - distance.flatten().square() / 2
        return Data(self.embedding, torch.stack([index.flatten(), target]), edge_weight=weight)

    def to_csr(self, k: int) -> csr_array:
        """``(image, image)``, 1 if the column is one of the ``k`` nearest of the row, including itself."""
        images = len(self)
        indptr = np.arange(0, images * k + 1, k, dtype=np.int32)
        near = self._nearest(k).sort(1).values.flatten().numpy().astype(np.int32)
        return csr_array((np.ones(len(near), dtype=np.float32), near, indptr), shape=(images, images))

    def _nearest(self, k: int) -> Tensor:
        if not 1 <= k <= self.index.size(1):
            raise ValueError(f"Expected from 1 to {self.index.size(1)} neighbours, as many as are listed (got {k})")
        return self.index[:, :k]


def nearest_neighbours(embedding: Tensor, k: int) -> NeighbourGraph:
    """The graph of the ``k`` nearest of each image by Euclidean distance, including itself.

    Distances are computed block by block, so memory grows with images · ``k``, and time with images² · channels.

    Args:
        embedding: ``(image, channel)``.
        k: neighbours of each image, including itself; at most all images.

    Raises:
        ValueError: ``k`` is out of range, or a distance is NaN.
    """
    if not 1 <= k <= len(embedding):
        raise ValueError(f"Expected k from 1 to the number of images, {len(embedding)} (got {k})")
    images, squares = len(embedding), embedding.square().sum(1)
    # small results made one by one between the blocks would keep the memory of all blocks from being used again
    index, distance = embedding.new_empty(images, k, dtype=torch.int64), embedding.new_empty(images, k)
    farthest = embedding.new_empty(images)
    with torch.autocast(embedding.device.type, enabled=False):
        for some in torch.arange(images).split(max(1, _BLOCK // images)):
            norms = squares[some, None] + squares  # computed again for each block they would take a third of the time
            block = torch.addmm(norms, embedding[some], embedding.T, alpha=-2).clamp_min_(_LEAST_SQUARE)
            block[torch.arange(len(some)), some] = 0  # nearer than any other
            index[some] = near = top_k(block, k)
            distance[some] = block.gather(1, near).sqrt()
            farthest[some] = block.amax(1).sqrt()
    return NeighbourGraph(embedding, index, distance, farthest)


def in_order_of(values: Tensor, ranked_by: Tensor) -> Tensor:
    """The values of each row, reordered: the smallest goes where ``ranked_by`` is smallest, and so on.

    Example: values [0.1, 0.4, 0.2] ranked by [3, 1, 2] are [0.4, 0.1, 0.2]. Ties keep their order.

    Args:
        values: ``(row, k)``.
        ranked_by: ``(row, k)``.
    """
    order = ranked_by.argsort(dim=1, stable=True)
    return torch.empty_like(values).scatter_(1, order, values.sort(1).values)
