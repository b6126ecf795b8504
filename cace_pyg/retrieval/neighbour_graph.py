"""A set of pictures as one sparse graph: each with its nearest."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch_geometric.data import Data

from cace_pyg.retrieval.two_stage import top_k

_BLOCK = 2**22  # numbers looked at together
_LEAST_SQUARE = 1e-12  # of different images, as in euclidean_distance


@dataclass(frozen=True)
class NeighbourGraph:
    """Each image with its ``k`` nearest among all images, queries and gallery together.

    It grows with the number of images times ``k``, never with its square.

    Attributes:
        embedding: ``(image, channel)``.
        index: int64 ``(image, k)``, nearest first. The first is the image itself; other ties stand in the order of the
            images.
        distance: ``(image, k)``, ascending: what belongs to each place of the list.
        farthest: ``(image,)``, the largest Euclidean distance of each image to any other.
    """

    embedding: Tensor
    index: Tensor
    distance: Tensor
    farthest: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def reranked(self, fused: Tensor) -> "NeighbourGraph":
        """The graph whose lists are ranked again; each place keeps its distance, so that weights keep their scale.

        Example: an image with neighbours [7, 4, 9] at distances [0.1, 0.2, 0.4] and fused distances [0.8, 0.9, 0.3] has
        the neighbours [9, 7, 4] at [0.1, 0.2, 0.4].

        Args:
            fused: other distances of each image to the ``m`` nearest after itself, ``(image, m)``. Places after these
                stay as they are, and so do those of equal distances.

        Raises:
            ValueError: ``m`` is more than the lists have besides the image itself, or a distance is NaN.
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
        """The distance of each image of ``rows`` to that of ``columns``, ``(pair,)``.

        That of its place in the list where it stands there, else the Euclidean one.
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
        """As a graph of PyG: edges from the ``k`` nearest of each image, itself among them, to the image.

        Args:
            k: neighbours; none: all that there are.

        Returns:
            ``x`` the embeddings, ``edge_index`` ``(2, image·k)``, ordered by target, then by nearness, ``edge_weight``
            1 − d²/2: of embeddings of unit length the cosine.
        """
        index, distance = self._nearest(k or self.index.size(1)), self.distance[:, :k]
        target = torch.arange(len(self)).repeat_interleave(index.size(1))
        weight = 1 - distance.flatten().square() / 2
        return Data(self.embedding, torch.stack([index.flatten(), target]), edge_weight=weight)

    def to_csr(self, k: int) -> csr_array:
        """``(image, image)``, 1 where the column is one of the ``k`` nearest of the row, itself among them."""
        images = len(self)
        indptr = np.arange(0, images * k + 1, k, dtype=np.int32)
        near = self._nearest(k).sort(1).values.flatten().numpy().astype(np.int32)
        return csr_array((np.ones(len(near), dtype=np.float32), near, indptr), shape=(images, images))

    def _nearest(self, k: int) -> Tensor:
        if not 1 <= k <= self.index.size(1):
            raise ValueError(f"Expected from 1 to {self.index.size(1)} neighbours, as many as are listed (got {k})")
        return self.index[:, :k]


def nearest_neighbours(embedding: Tensor, k: int) -> NeighbourGraph:
    """The graph of the ``k`` nearest of each image by Euclidean distance, itself counted.

    Distances are made block by block, so memory grows with images · ``k``; time with images² · channels.

    Args:
        embedding: ``(image, channel)``.
        k: of each image, itself among them, at most all images.

    Raises:
        ValueError: ``k`` is out of range, or a distance is NaN.
    """
    if not 1 <= k <= len(embedding):
        raise ValueError(f"Expected k from 1 to the number of images, {len(embedding)} (got {k})")
    squares, index, distance, farthest = embedding.square().sum(1), [], [], []
    with torch.autocast(embedding.device.type, enabled=False):
        for some in torch.arange(len(embedding)).split(max(1, _BLOCK // len(embedding))):
            norms = squares[some, None] + squares  # made anew for each block they would take a third of the time
            block = torch.addmm(norms, embedding[some], embedding.T, alpha=-2).clamp_min_(_LEAST_SQUARE)
            block[torch.arange(len(some)), some] = 0  # nearer than any other
            index.append(top_k(block, k))
            distance.append(block.gather(1, index[-1]).sqrt())
            farthest.append(block.amax(1).sqrt())
    return NeighbourGraph(embedding, torch.cat(index), torch.cat(distance), torch.cat(farthest))


def in_order_of(values: Tensor, ranked_by: Tensor) -> Tensor:
    """The values of each row, dealt out anew: the smallest where ``ranked_by`` is smallest, and so on.

    Example: values [0.1, 0.4, 0.2] ranked by [3, 1, 2] are [0.4, 0.1, 0.2]. Ties stand in their order.

    Args:
        values: ``(row, k)``.
        ranked_by: ``(row, k)``.
    """
    order = ranked_by.argsort(dim=1, stable=True)
    return torch.empty_like(values).scatter_(1, order, values.sort(1).values)
