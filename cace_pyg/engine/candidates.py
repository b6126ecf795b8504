"""Chooses gallery pictures for the second stage: good matches lead to their neighbours in the gallery."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cace_pyg.retrieval import distance_blocks
from cace_pyg.retrieval.two_stage import top_k_of_blocks

_AT_A_TIME = 10  # pictures of a query per step; small steps choose better, large ones are measured faster
_STEPS = 4, 10  # fewest and most steps
_TOGETHER = 256  # queries whose individual distances are computed at once


def nearest_in_gallery(gallery: Tensor, count: int) -> Tensor:
    """The ``count`` nearest neighbours of each gallery picture by the individual embedding, without the picture itself.

    Args:
        gallery: embeddings of unit length, ``(gallery, embedding)``.
        count: number of neighbours; if the gallery has fewer other pictures, all of them.

    Returns:
        int64 ``(gallery, min(count, gallery - 1))``, nearest first.
    """

    def others() -> Iterator[Tensor]:
        for rows, block in distance_blocks(gallery, gallery):
            block[torch.arange(len(block)), torch.arange(rows.start, rows.stop)] = torch.inf
            yield block

    found = top_k_of_blocks(others(), len(gallery), min(count, max(1, len(gallery) - 1)))
    return found[:, : len(gallery) - 1]


def follow_neighbours(
    query: Tensor,
    gallery: Tensor,
    nearest: Tensor,
    neighbours: Tensor | Callable[[int], list[int]],
    weight: float,
    measure: Callable[[Sequence[Tensor]], Tensor],
    own_position: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Adaptive re-ranking (MacAvaney, Tonellotto and Macdonald, CIKM 2022, for texts).

    A network that never saw these cameras ranks most pictures of a person too low for the second stage. But it places
    them near each other. So the second stage compares the first pictures of the query's list, and then the gallery
    neighbours of the pictures it has compared: first those of the picture with the smallest fused distance, then those
    of the next. When no neighbours are left, it continues with the query's list.

    Args:
        query: individual embeddings of unit length, ``(query, embedding)``.
        gallery: ``(gallery, embedding)``.
        nearest: the first stage's list of each query, nearest first, ``(query, k)``; ``k`` pictures are compared.
        neighbours: of each gallery picture, nearest first, ``(gallery, any)``, see :func:`nearest_in_gallery`; or a
            function from the position of a gallery picture to its neighbours.
        weight: of the conditional distance in the fused distance.
        measure: takes a list of gallery positions for each query, and returns the pair stage's distances of all pairs,
            query by query.
        own_position: the position of each query itself in the gallery, −1 if it is not there. It is not followed.

    Returns:
        Positions of the compared pictures in the order of comparison, ``(query, k)``, and the conditional distances of
        these pairs.
    """
    wanted, follows = nearest.size(1), neighbours.tolist().__getitem__ if isinstance(neighbours, Tensor) else neighbours
    own = [-1] * len(query) if own_position is None else own_position.tolist()
    lists = [_Looked(row, position) for row, position in zip(nearest.tolist(), own, strict=True)]
    at_a_time = max(min(_AT_A_TIME, -(-wanted // _STEPS[0])), -(-wanted // _STEPS[1]))
    while lists and len(lists[0].positions) < wanted:
        count = min(at_a_time, wanted - len(lists[0].positions))
        new = torch.tensor([looked.next(follows, count) for looked in lists])
        conditional = measure([*new]).view(new.shape)
        individual = torch.cat(
            [
                (embedding[:, None].double() - gallery[near].double()).norm(dim=2)
                for embedding, near in zip(query.split(_TOGETHER), new.split(_TOGETHER), strict=True)
            ]
        )
        fused = (1 - weight) * individual + weight * conditional.double()
        for looked, row, found in zip(lists, fused.tolist(), conditional.tolist(), strict=True):
            looked.take(row, found)
    return (
        torch.tensor([looked.positions for looked in lists]).view(nearest.shape),
        torch.tensor([looked.conditional for looked in lists]).view(nearest.shape),
    )


class _Looked:
    """The gallery pictures that a query was compared with."""

    def __init__(self, nearest: list[int], own: int):
        self.nearest = nearest
        self.own = own
        self.seen: set[int] = set()
        self.positions: list[int] = []
        self.fused: list[float] = []
        self.conditional: list[float] = []

    def next(self, follows: Callable[[int], list[int]], count: int) -> list[int]:
        """The next ``count`` gallery positions; asks for neighbours of as few pictures as possible."""
        chosen: list[int] = []
        for position in self._in_turn(follows):
            if position not in self.seen:
                self.seen.add(position)
                chosen.append(position)
                if len(chosen) == count:
                    break
        self.positions += chosen
        return chosen

    def _in_turn(self, follows: Callable[[int], list[int]]) -> Iterator[int]:
        for place in sorted(range(len(self.fused)), key=self.fused.__getitem__):
            yield from (position for position in follows(self.positions[place]) if position != self.own)
        yield from self.nearest

    def take(self, fused: list[float], conditional: list[float]) -> None:
        self.fused += fused
        self.conditional += conditional
