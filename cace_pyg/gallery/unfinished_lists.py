"""The neighbour lists of a gallery while they are completed, in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cace_pyg.retrieval import euclidean_distance
from cace_pyg.retrieval.two_stage import top_k

_BATCH = 64  # lists per commit
_BLOCK = 2**22  # distances in memory at once
Measure = Callable[[Sequence[int]], Callable[[int, np.ndarray], Tensor]]
"""Takes positions of some pictures; returns a function for the pair stage's distances from one of them to others."""


@dataclass
class UnfinishedLists:
    """The lists of all pictures while they are completed; an empty place has index −1 and an infinite distance.

    Attributes:
        index: ``(picture, candidates)``, nearest first.
        individual: distances.
        conditional: distances of the pair stage; NaN: not computed yet.
        farthest: ``(picture,)``.
        farthest_is: the picture at that distance, ``(picture,)``; −1: gone.
        there: whether a picture has a list, ``(picture,)``.
        lost: whether the list of a picture names one that is gone, ``(picture,)``.
    """

    index: np.ndarray
    individual: np.ndarray
    conditional: np.ndarray
    farthest: np.ndarray
    farthest_is: np.ndarray
    there: np.ndarray
    lost: np.ndarray

    @staticmethod
    def of(row: np.ndarray, records: np.ndarray, where: "Positions", candidates: int) -> "UnfinishedLists":
        """Make them from the records of the pictures ``row``, without neighbours that are gone."""
        pictures = len(where)
        shape = (pictures, candidates)
        lists = UnfinishedLists(
            np.full(shape, -1, np.int32),
            np.full(shape, np.inf, np.float32),
            np.full(shape, np.nan, np.float32),
            np.zeros(pictures, np.float32),
            np.full(pictures, -1),
            np.zeros(pictures, bool),
            np.zeros(pictures, bool),
        )
        near = records["near"]
        listed = np.arange(candidates) < records["count"][:, None]
        index = np.where(listed, where.of(near["key"]), -1)
        individual = np.where(index < 0, np.inf, near["individual"])
        conditional = np.where(index < 0, np.nan, near["conditional"])
        lists.put(row, index, individual, conditional)
        lists.farthest[row], lists.farthest_is[row] = records["farthest"], where.of(records["farthest_key"])
        lists.there[row] = True
        lists.lost[row] = (listed & (index < 0)).any(1) | (lists.farthest_is[row] < 0)
        return lists

    @property
    def full(self) -> int:
        """Neighbours in a complete list."""
        return max(0, min(self.index.shape[1], len(self.index) - 1))

    def put(self, row: np.ndarray, index: np.ndarray, individual: np.ndarray, conditional: np.ndarray) -> None:
        """Store unsorted lists, sorted and cut to the length of the others; ties are in the order of pictures."""
        order = np.lexsort((index, individual), axis=1)[:, : self.index.shape[1]]
        for mine, given in ((self.index, index), (self.individual, individual), (self.conditional, conditional)):
            mine[row, : order.shape[1]] = np.take_along_axis(given, order, 1)

    def to_do(self, asked: bool) -> np.ndarray:
        """Pictures whose list is not complete; ``asked``: it needs the pair stage's distances to be complete."""
        wrong = ~self.there | ((self.index >= 0).sum(1) < self.full) | (self.farthest_is < 0)
        return wrong | self._not_asked() if asked else wrong

    def renew(self, embedding: Tensor, asked: bool) -> np.ndarray:
        """Put the nearest pictures into all lists; returns the pictures whose lists changed, new pictures last."""
        was = self.index.copy(), self.farthest.copy()
        again = ~self.there | self.lost
        self._list_again(embedding, again.nonzero()[0])
        self._enter(embedding, (~again).nonzero()[0], (~self.there).nonzero()[0])
        changed = again | (self.index != was[0]).any(1) | (self.farthest != was[1])
        if asked:
            changed |= self._not_asked()
        rows = changed.nonzero()[0]
        return rows[np.argsort(~self.there[rows], kind="stable")]

    def measured(self, rows: np.ndarray, measure: Measure | None) -> Iterator[np.ndarray]:
        """Compute the pair stage's missing distances in some lists; yields batches of rows that are complete."""
        missing = (self.index[rows] >= 0) & np.isnan(self.conditional[rows])
        a, b = rows[missing.nonzero()[0]].astype(np.int64), self.index[rows][missing].astype(np.int64)
        pairs, pair = np.unique(np.minimum(a, b) * len(self.index) + np.maximum(a, b), return_inverse=True)
        told = self._told_by_the_other(pairs)
        number = np.full(missing.shape, -1)
        number[missing] = pair
        for start in range(0, len(rows), _BATCH):
            some, numbers = rows[start : start + _BATCH], number[start : start + _BATCH]
            if measure is not None:
                wanted = numbers[numbers >= 0]
                unknown = np.unique(wanted[np.isnan(told[wanted])])
                both = np.stack([pairs[unknown] // len(self.index), pairs[unknown] % len(self.index)])
                self._ask(measure, unknown, both, some, told)
            row, place = (numbers >= 0).nonzero()
            self.conditional[some[row], place] = told[numbers[row, place]]
            yield some

    def records(self, keys: np.ndarray, rows: np.ndarray, kind: np.dtype) -> np.ndarray:
        """Some lists as they are stored."""
        found = np.zeros(len(rows), kind)
        index = self.index[rows]
        found["farthest"], found["farthest_key"] = self.farthest[rows], keys[self.farthest_is[rows]]
        found["count"] = (index >= 0).sum(1)
        found["near"]["key"] = np.where(index >= 0, keys[index], 0)
        found["near"]["individual"], found["near"]["conditional"] = self.individual[rows], self.conditional[rows]
        return found

    def _not_asked(self) -> np.ndarray:
        return ((self.index >= 0) & np.isnan(self.conditional)).any(1)

    def _list_again(self, embedding: Tensor, rows: np.ndarray) -> None:
        """Make the lists of some pictures again from all embeddings; known distances of the pair stage are kept."""
        for some in np.array_split(rows, max(1, len(rows) * len(embedding) // _BLOCK)):
            if not len(some):
                continue
            here = np.arange(len(some))
            distance = euclidean_distance(embedding[some], embedding)
            distance[here, some] = -1
            far = distance.max(1)
            self.farthest[some], self.farthest_is[some] = far.values.clamp_min(0).numpy(), far.indices.numpy()
            distance[here, some] = torch.inf
            index, conditional = self.index[some].copy(), self.conditional[some].copy()
            self.index[some], self.individual[some], self.conditional[some] = -1, np.inf, np.nan
            if not self.full:
                continue
            near = top_k(distance, self.full)
            told = np.full(near.shape, np.nan, np.float32)
            if (index >= 0).any():
                before = np.full(distance.shape, np.nan, np.float32)
                row, place = (index >= 0).nonzero()
                before[row, index[row, place]] = conditional[row, place]
                told = np.take_along_axis(before, near.numpy(), 1)
            self.put(some, near.numpy(), distance.gather(1, near).numpy(), told)

    def _enter(self, embedding: Tensor, rows: np.ndarray, fresh: np.ndarray) -> None:
        """Enter new pictures in the lists of others that they are near to, in place of the farthest ones."""
        if not len(fresh):
            return
        column = np.full(len(embedding), -1)
        column[fresh] = np.arange(len(fresh))
        for some in np.array_split(rows, max(1, len(rows) * len(fresh) // _BLOCK)):
            distance = euclidean_distance(embedding[some], embedding[fresh]).numpy()
            if not len(some):
                continue
            far = distance.max(1)
            farther = far > self.farthest[some]
            self.farthest[some[farther]] = far[farther]
            self.farthest_is[some[farther]] = fresh[distance.argmax(1)[farther]]
            listed = np.where(self.index[some] >= 0, column[self.index[some]], -1)
            row, place = (listed >= 0).nonzero()
            distance[row, listed[row, place]] = np.inf  # entered before the process was killed
            entered = (distance < self.individual[some, -1:]).any(1)
            some, distance = some[entered], distance[entered]
            new = np.broadcast_to(fresh, distance.shape)
            new = np.where(np.isinf(distance), -1, new)
            unknown = np.full(distance.shape, np.nan, np.float32)
            self.put(
                some,
                np.hstack([self.index[some], new]),
                np.hstack([self.individual[some], distance]),
                np.hstack([self.conditional[some], unknown]),
            )

    def _told_by_the_other(self, pairs: np.ndarray) -> np.ndarray:
        """The pair stage's distances of pairs, from the list of either picture; NaN: in neither list."""
        told = np.full(len(pairs), np.nan, np.float32)
        for start in range(0, len(pairs), _BLOCK // self.index.shape[1]):
            some = pairs[start : start + _BLOCK // self.index.shape[1]]
            first, second = some // len(self.index), some % len(self.index)
            for owner, other in ((first, second), (second, first)):
                row, place = (self.index[owner] == other[:, None]).nonzero()
                found = self.conditional[owner[row], place]
                told[start + row[~np.isnan(found)]] = found[~np.isnan(found)]
        return told

    def _ask(self, measure: Measure, unknown: np.ndarray, both: np.ndarray, rows: np.ndarray, told: np.ndarray) -> None:
        """Measure the pairs ``both``; one picture of each pair is among ``rows``."""
        if not len(unknown):
            return
        distances = measure(np.unique(both).tolist())
        mine = np.where(np.isin(both[0], rows), both[0], both[1])
        others = both.sum(0) - mine
        for picture in np.unique(mine):
            here = mine == picture
            told[unknown[here]] = distances(int(picture), others[here]).numpy()


class Positions:
    """Positions of pictures, by their keys."""

    def __init__(self, keys: np.ndarray):
        self._order = keys.argsort()
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, wanted: np.ndarray) -> np.ndarray:
        """The positions; −1: no picture has this key."""
        if not len(self):
            return np.full(wanted.shape, -1)
        place = np.searchsorted(self._keys, wanted).clip(max=len(self) - 1)
        return np.where(self._keys[place] == wanted, self._order[place], -1)
