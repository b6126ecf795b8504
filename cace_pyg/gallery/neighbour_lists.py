"""Re-ranks a query by the kept neighbours of the gallery's pictures."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from cace_pyg.config import KReciprocalSettings
from cace_pyg.retrieval import euclidean_distance
from cace_pyg.retrieval.k_reciprocal import jaccard_distance
from cace_pyg.retrieval.neighbour_graph import in_order_of
from cace_pyg.retrieval.two_stage import top_k


@dataclass(frozen=True)
class NeighbourLists:
    """The complete neighbour lists of all pictures of a gallery, in memory.

    Attributes:
        embedding: of unit length, ``(picture, channel)``.
        index: ``(picture, k)``, nearest first by the individual embedding, without the picture itself.
        individual: their individual distances.
        conditional: their distances by the pair stage; zeros if the weight is 0.
        farthest: the largest individual distance from each picture to another, ``(picture,)``.
        weight: of the conditional distance.
        candidates: pictures in a list, if the gallery has that many.
    """

    embedding: Tensor
    index: np.ndarray
    individual: np.ndarray
    conditional: np.ndarray
    farthest: np.ndarray
    weight: float
    candidates: int

    def __len__(self) -> int:
        return len(self.index)

    def fused(self) -> np.ndarray:
        """Distances of both stages, ``(picture, k)``, in the order of :attr:`index`."""
        return (1 - self.weight) * self.individual + self.weight * self.conditional

    @cached_property
    def ranked(self) -> np.ndarray:
        """Each picture itself, then its neighbours by the fused distance, ``(picture, 1 + k)``."""
        order = self._order(self.individual, self.conditional)
        return np.hstack([np.arange(len(self), dtype=self.index.dtype)[:, None], _along(self.index, order)])

    @cached_property
    def places(self) -> np.ndarray:
        """Distances that belong to :attr:`ranked`, ascending, ``(picture, 1 + k)``."""
        return np.hstack([np.zeros((len(self), 1), np.float32), self.individual])

    def nearest(self, query: Tensor) -> np.ndarray:
        """Positions of the pictures in the list of a query, which the second stage has to compare.

        Args:
            query: embedding, ``(1, channel)``.
        """
        return top_k(euclidean_distance(query, self.embedding), self.candidates)[0].numpy()

    def rerank(
        self,
        query: Tensor,
        looked_at: np.ndarray,
        conditional: np.ndarray,
        wanted: np.ndarray,
        settings: KReciprocalSettings,
    ) -> Tensor:
        """Distances from a query to some pictures after k-reciprocal re-ranking (Zhong et al., 2017).

        The paper ranks queries and gallery as one set. Here the set is this one query and the gallery. The query is
        inserted into the lists of the pictures that the second stage has compared it with.

        Args:
            query: embedding, ``(1, channel)``.
            looked_at: positions of the pictures that the second stage has compared, with all those of :meth:`nearest`.
            conditional: the second stage's distances to them, ``(looked_at,)``; zeros if the weight is 0.
            wanted: positions of the pictures whose distances to return, ``(wanted,)``.
            settings: of the re-ranking.

        Returns:
            ``(wanted,)``, 0 to 1, float32.

        Raises:
            ValueError: the gallery has too few pictures for this number of neighbours, or its lists are too short.
        """
        check_neighbours(settings, self.candidates)
        if settings.k1 >= len(self):
            raise ValueError(
                f"Expected k_reciprocal.k1 below the number of pictures, {len(self)} (got {settings.k1}); add more "
                "pictures, or search without neighbours"
            )
        distance = euclidean_distance(query, self.embedding)[0]
        found = _WithQuery.of(self, query, distance.numpy(), looked_at, conditional)
        vectors = found.encode(np.append(wanted, len(self)), settings)
        jaccard = jaccard_distance(csr_array(vectors[-1:]), csr_array(vectors[:-1].T.tocsr()))[0].float()
        original = self._original(distance, looked_at, conditional)[wanted]
        return (1 - settings.original_weight) * jaccard + settings.original_weight * original

    def _original(self, distance: Tensor, looked_at: np.ndarray, conditional: np.ndarray) -> Tensor:
        """Squared individual distances divided by the largest; the second stage reorders those that it compared."""
        squared = distance.square() / distance.max().square()
        if self.weight > 0:
            near = squared[looked_at][None]
            told = torch.from_numpy(conditional).float()
            fused = (1 - self.weight) * distance[looked_at] + self.weight * told
            squared[looked_at] = in_order_of(near, fused[None])[0]
        return squared

    def _order(self, individual: np.ndarray, conditional: np.ndarray) -> np.ndarray:
        if self.weight == 0:
            return np.broadcast_to(np.arange(individual.shape[1]), individual.shape)
        return ((1 - self.weight) * individual + self.weight * conditional).argsort(1, kind="stable")


@dataclass(frozen=True)
class _WithQuery:
    """The lists with a query inserted as the last picture; only the lists that it changes are rebuilt.

    Attributes:
        lists: of the gallery.
        query: embedding, ``(1, channel)``.
        own: for each picture, the row of ``ranked`` and ``places`` that is its list; −1: the gallery's list.
        ranked: ``(changed, 1 + k)``.
        places: ``(changed, 1 + k)``.
        farthest: ``(picture + 1,)``.
    """

    lists: NeighbourLists
    query: Tensor
    own: np.ndarray
    ranked: np.ndarray
    places: np.ndarray
    farthest: np.ndarray

    @staticmethod
    def of(
        lists: NeighbourLists, query: Tensor, distance: np.ndarray, looked_at: np.ndarray, conditional: np.ndarray
    ) -> "_WithQuery":
        last, told = len(lists), np.full(len(lists), np.nan, np.float32)
        told[looked_at] = conditional
        near = top_k(torch.from_numpy(distance)[None], lists.candidates)[0].numpy()
        if np.isnan(told[near]).any():
            raise ValueError("Expected the second stage to have compared all pictures in the list of the query")
        index = _before(np.full(len(looked_at), last), lists.index[looked_at])
        individual = _before(distance[looked_at], lists.individual[looked_at])
        other = _before(told[looked_at], lists.conditional[looked_at])
        order = individual.argsort(1, kind="stable")[:, : len(near)]  # the farthest entry of a full list is dropped
        index = np.vstack([_along(index, order), near])
        individual = np.vstack([_along(individual, order), distance[near]])
        other = np.vstack([_along(other, order), told[near]])
        rows = np.append(looked_at, last)
        own = np.full(last + 1, -1)
        own[rows] = np.arange(len(rows))
        ranked = np.hstack([rows[:, None], _along(index, lists._order(individual, other))])
        places = np.hstack([np.zeros((len(rows), 1), np.float32), individual])
        farthest = np.append(np.maximum(lists.farthest, distance), distance.max())
        return _WithQuery(lists, query, own, ranked, places, farthest)

    def encode(self, pictures: np.ndarray, settings: KReciprocalSettings) -> csr_array:
        """The :func:`cace_pyg.retrieval.k_reciprocal.k_reciprocal_encoding` of some pictures."""
        nearest = self._ranked(pictures, settings.k2)
        needed, where = np.unique(nearest, return_inverse=True)
        vectors = self._weights(needed, settings.k1)
        if settings.k2 == 1:
            return csr_array(vectors[where.ravel()])
        return csr_array(_matrix(where.reshape(nearest.shape), len(needed)) @ vectors) / settings.k2

    def _weights(self, pictures: np.ndarray, k1: int) -> csr_array:
        """Gaussian weights over the expanded reciprocal neighbours of some pictures; rows sum to 1."""
        near = self._reciprocal(pictures, k1 + 1)
        known, where = np.unique(near.indices, return_inverse=True)
        nearer = self._reciprocal(known, round(k1 / 2) + 1)
        friends = csr_array((np.ones_like(near.data), where.ravel(), near.indptr), shape=(len(pictures), len(known)))
        shared = csr_array((near @ nearer.T).multiply(friends)).tocoo()
        enough = 3 * shared.data > 2 * np.diff(nearer.indptr)[shared.col]
        ones = np.ones(enough.sum(), np.float32)
        likes = csr_array((ones, (shared.row[enough], shared.col[enough])), shape=friends.shape)
        wide = csr_array(near + likes @ nearer)
        row = np.repeat(np.arange(len(pictures)), np.diff(wide.indptr))
        distance = self._distance(pictures, row, wide.indices)
        weights = np.exp(-np.square(distance / self.farthest[pictures][row]))
        sums = np.bincount(row, weights, minlength=len(pictures)).astype(weights.dtype)
        return csr_array((weights / sums[row], wide.indices, wide.indptr), shape=wide.shape)

    def _reciprocal(self, pictures: np.ndarray, k: int) -> csr_array:
        """1 where two pictures are among each other's ``k`` nearest, ``(pictures, picture)``."""
        near = self._ranked(pictures, k)
        others = np.unique(near)
        back = self._ranked(others, k)[np.searchsorted(others, near)]
        both = (back == pictures[:, None, None]).any(2)
        indptr = np.append(0, both.sum(1).cumsum())
        ones = np.ones(indptr[-1], np.float32)
        found = csr_array((ones, near[both], indptr), shape=(len(pictures), len(self.lists) + 1))
        found.sort_indices()
        return found

    def _distance(self, pictures: np.ndarray, row: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Distances from ``pictures[row]`` to others: the one in the list if there is one, else the Euclidean one."""
        last, whole = len(self.lists), self.ranked.shape[1]
        ranked = self._rows(self.lists.ranked, self.ranked, pictures, whole)
        places = self._rows(self.lists.places, self.places, pictures, whole)
        keys = np.arange(len(pictures))[:, None] * (last + 1) + ranked
        order = keys.argsort(1)
        keys, sorted_places = _along(keys, order).ravel(), _along(places, order).ravel()
        wanted = row * (last + 1) + other
        place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        found = sorted_places[place]
        absent = (keys[place] != wanted).nonzero()[0]
        a, b = self._embedding(pictures[row[absent]]), self._embedding(other[absent])
        found[absent] = (a - b).norm(dim=1).numpy()
        return found

    def _ranked(self, pictures: np.ndarray, k: int) -> np.ndarray:
        return self._rows(self.lists.ranked, self.ranked, pictures, k)

    def _rows(self, kept: np.ndarray, changed: np.ndarray, pictures: np.ndarray, k: int) -> np.ndarray:
        own = self.own[pictures]
        as_kept = own < 0
        found = changed[np.where(as_kept, 0, own), :k]
        if as_kept.any():
            found[as_kept] = kept[pictures[as_kept], :k]
        return found

    def _embedding(self, pictures: np.ndarray) -> Tensor:
        found = self.lists.embedding[np.minimum(pictures, len(self.lists) - 1)]
        found[pictures == len(self.lists)] = self.query[0]
        return found


def check_neighbours(settings: KReciprocalSettings, candidates: int) -> None:
    """Raise ``ValueError`` if lists of this many candidates are too short for the neighbours that re-ranking uses."""
    if settings.k1 > candidates:
        raise ValueError(
            f"Expected k_reciprocal.k1 of at most neighbours.candidates, {candidates} (got {settings.k1}); a gallery's "
            "lists are not longer: train with more neighbours.candidates, or with a smaller k_reciprocal.k1"
        )


def _before(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.hstack([column[:, None].astype(rows.dtype), rows])


def _along(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.take_along_axis(rows, order, 1)


def _matrix(index: np.ndarray, columns: int) -> csr_array:
    """1 where a row names a column."""
    rows, k = index.shape
    return csr_array((np.ones(rows * k, np.float32), index.ravel(), np.arange(0, rows * k + 1, k)), (rows, columns))
