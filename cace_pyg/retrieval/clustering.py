"""Joins pictures into people, by probabilities of some pairs and by constraints on others."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def agglomerate(
    images: int,
    pairs: ArrayLike,
    log_odds: ArrayLike,
    together: ArrayLike | Sequence[tuple[int, int]] = (),
    apart: ArrayLike | Sequence[tuple[int, int]] = (),
    known: ArrayLike | None = None,
    unlisted: float | None = None,
) -> np.ndarray:
    """Join images into people: average linkage on a sparse graph of log-odds, with constraints.

    Two groups are joined while the mean log-odds of the pairs between them is above 0, the highest mean first. For
    another threshold than a probability of ½, subtract its log-odds from all of them. This is greedy contraction for
    correlation clustering (Keuper et al., ICCV 2015) with the mean of the edges instead of their sum, because pairs of
    the same pictures are not independent evidence. Groups with a pair in ``apart`` are never joined. Images in
    ``together``, and the images of a known person, are one group from the beginning. Known people are never joined with
    each other.

    Example: log-odds 3 of (0, 1), 1 of (1, 2), −4 of (0, 2) give [0, 0, 2]: 0 and 1 are joined, then the mean to 2 is
    −1.5. With (0, 1) apart they give [0, 1, 1].

    Time grows with the number of pairs and its logarithm; only groups in a connected component of the pairs above 0 are
    considered.

    Args:
        images: number of images.
        pairs: ``(pair, 2)`` positions, each pair once, in either order.
        log_odds: ``(pair,)``, finite.
        together: ``(pair, 2)``, known to be one person.
        apart: ``(pair, 2)``, known to be two people.
        known: ``(image,)``, integers: the known person of each image, for adding images to earlier ones; below 0:
            unknown. None: all are unknown.
        unlisted: log-odds, at most 0, of each pair that is not listed: if the nearest of each image are listed, other
            pairs are unlikely. None: the mean is that of listed pairs only.

    Returns:
        int64 ``(image,)``: the first image of the same person.

    Raises:
        ValueError: shapes do not fit, positions are out of range, a pair is listed twice or is of one image, log-odds
            are not finite, ``unlisted`` is above 0, or the constraints contradict each other.
    """
    pairs, together, apart = (_pairs(name, given, images) for name, given in
                              (("pairs", pairs), ("together", together), ("apart", apart)))  # fmt: skip
    if unlisted is not None and not -np.inf < unlisted <= 0:
        raise ValueError(f"Expected unlisted as log-odds of at most 0 (got {unlisted})")
    log_odds = np.asarray(log_odds, dtype=float)
    if log_odds.shape != (len(pairs),) or not np.isfinite(log_odds).all():
        raise ValueError(f"Expected finite log-odds of each of {len(pairs)} pairs (got {log_odds.shape}, or infinity)")
    if len(np.unique(np.sort(pairs, 1), axis=0)) < len(pairs):
        raise ValueError("Expected each pair once (got one twice)")
    known = np.full(images, -1) if known is None else np.asarray(known)
    if known.shape != (images,) or known.dtype.kind not in "iu":
        raise ValueError(
            f"Expected known as a whole number for each of {images} images (got {known.dtype} {known.shape})"
        )
    together = np.concatenate([together, pairs_of_known(known)])
    start = connected_images(images, together)
    _check(start, known, apart)
    within = connected_images(images, np.concatenate([pairs[log_odds > 0], together]))[pairs]
    near = (within[:, 0] == within[:, 1]) & (start[pairs[:, 0]] != start[pairs[:, 1]])
    groups = _Groups(
        dict(zip(*(column.tolist() for column in np.unique(start, return_counts=True)), strict=True)),
        np.unique(start[apart], axis=0),
        np.unique(start[known >= 0]),
        unlisted,
    )
    groups.link(start[pairs[near]], log_odds[near])
    groups.join()
    return _first_of_each(np.array([groups.root(group) for group in start.tolist()], dtype=np.int64))


def listed_pairs(index: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs in lists of nearest images, each once.

    Args:
        index: ``(image, k)`` positions; an image is not in its own list.
        distance: to those, ``(image, k)``; the distance of a pair is the same in both lists.

    Returns:
        int64 ``(pair, 2)``, the lower position first, and ``(pair,)``, sorted by both positions.
    """
    images, k = index.shape
    other = index.astype(np.int64).ravel()
    image = np.arange(images).repeat(k)
    code, first = np.unique(np.minimum(image, other) * images + np.maximum(image, other), return_index=True)
    return np.stack([code // max(images, 1), code % max(images, 1)], 1), distance.ravel()[first]


class _Groups:
    """Groups during the joining; each has the number of one of its images.

    Attributes:
        sizes: number of images of each group.
        links: by group and other group, the sum and count of log-odds between them.
        apart: groups that each group must not be joined with.
        known: groups that are a known person.
        into: the group that a joined group became part of.
    """

    def __init__(self, sizes: dict[int, int], apart: np.ndarray, known: np.ndarray, unlisted: float | None):
        self.sizes, self.unlisted = sizes, unlisted
        self.links: dict[int, dict[int, tuple[float, int]]] = {}
        self.apart: dict[int, set[int]] = {}
        self.known: set[int] = set(known.tolist())
        self.into: dict[int, int] = {}
        for a, b in apart.tolist():
            self.apart.setdefault(a, set()).add(b)
            self.apart.setdefault(b, set()).add(a)

    def link(self, pairs: np.ndarray, log_odds: np.ndarray) -> None:
        both, which = np.unique(np.sort(pairs, 1), axis=0, return_inverse=True)
        sums, counts = np.bincount(which.ravel(), log_odds, len(both)), np.bincount(which.ravel(), minlength=len(both))
        for (a, b), total, count in zip(both.tolist(), sums.tolist(), counts.tolist(), strict=True):
            if not self._forbidden(a, b):
                self.links.setdefault(a, {})[b] = self.links.setdefault(b, {})[a] = (total, count)

    def join(self) -> None:
        heap = [self._entry(a, b) for a, linked in self.links.items() for b in linked if a < b]
        heap = [candidate for candidate in heap if candidate[0] < 0]
        heapq.heapify(heap)
        while heap:
            entry = heapq.heappop(heap)
            _, a, b = entry
            if b not in self.links.get(a, {}) or self._entry(a, b) != entry:  # the groups have grown since
                continue
            a, b = (a, b) if len(self.links[a]) >= len(self.links[b]) else (b, a)
            self._merge(a, b)
            for other in self.links[a]:
                if (entry := self._entry(min(a, other), max(a, other)))[0] < 0:
                    heapq.heappush(heap, entry)

    def root(self, group: int) -> int:
        while (above := self.into.get(group, group)) in self.into:
            self.into[group] = group = self.into[above]  # halves the path for the next time
        return above

    def _entry(self, a: int, b: int) -> tuple[float, int, int]:
        total, count = self.links[a][b]
        if self.unlisted is not None:
            pairs = self.sizes[a] * self.sizes[b]
            total, count = total + self.unlisted * (pairs - count), pairs
        return -total / count, a, b

    def _forbidden(self, a: int, b: int) -> bool:
        return b in self.apart.get(a, ()) or (a in self.known and b in self.known)

    def _merge(self, a: int, b: int) -> None:
        """``b`` becomes part of ``a``."""
        self.into[b] = a
        self.sizes[a] += self.sizes.pop(b)
        if b in self.known:
            self.known.add(a)
        strangers = self.apart.pop(b, set())
        for other in strangers:
            self.apart[other].remove(b)
            self.apart[other].add(a)
        if strangers:
            self.apart.setdefault(a, set()).update(strangers)
        del self.links[a][b]
        for other, (total, count) in self.links.pop(b).items():
            if other != a:
                del self.links[other][b]
                before = self.links[a].get(other, (0.0, 0))
                self.links[a][other] = self.links[other][a] = (before[0] + total, before[1] + count)
        for other in [other for other in self.links[a] if self._forbidden(a, other)]:
            del self.links[a][other], self.links[other][a]


def _check(start: np.ndarray, known: np.ndarray, apart: np.ndarray) -> None:
    if (both := start[apart[:, 0]] == start[apart[:, 1]]).any():
        a, b = apart[both][0].tolist()
        raise ValueError(f"images {a} and {b} must be apart, but the pairs in together make them one person")
    both_known = np.unique(np.stack([start, known], 1)[known >= 0], axis=0)
    if (again := both_known[1:, 0] == both_known[:-1, 0]).any():
        a, b = both_known[:-1][again][0, 1], both_known[1:][again][0, 1]
        raise ValueError(f"the pairs in together join the known people {a} and {b}; give both the same number in known")


def pairs_of_known(known: np.ndarray) -> np.ndarray:
    """Pairs ``(pair, 2)`` that connect the images of each known person, see :func:`agglomerate`."""
    images = np.flatnonzero(known >= 0)
    images = images[np.argsort(known[images], kind="stable")]
    pairs = np.stack([images[:-1], images[1:]], 1)
    return pairs[known[pairs[:, 0]] == known[pairs[:, 1]]]


def _pairs(name: str, pairs: ArrayLike | Sequence[tuple[int, int]], images: int) -> np.ndarray:
    found = np.asarray(pairs)
    found = found.reshape(0, 2).astype(np.int64) if not found.size else found
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        raise ValueError(f"Expected {name} as whole numbers (pair, 2) (got {found.dtype} {found.shape})")
    if len(found) and not (found.min() >= 0 and found.max() < images):
        raise ValueError(f"Expected {name} of images 0 to {images - 1} (got {found.min()} to {found.max()})")
    if (found[:, 0] == found[:, 1]).any():
        raise ValueError(
            f"Expected {name} of two images each (got image {found[found[:, 0] == found[:, 1]][0, 0]} twice)"
        )
    return found.astype(np.int64)


def connected_images(images: int, pairs: np.ndarray) -> np.ndarray:
    """For each image, the first one that pairs ``(pair, 2)`` connect it with, possibly itself: int64 ``(image,)``."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(images, images))
    return _first_of_each(connected_components(graph, directed=False)[1])


def _first_of_each(labels: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
