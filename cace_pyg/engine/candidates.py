"""Which gallery pictures the second stage looks at, when what it finds decides where it looks next."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cace_pyg.retrieval import distance_blocks, top_k

_AT_A_TIME = 10  # pictures between which the course is set again; fewer set it better, more are measured faster
_STEPS = 4, 10  # at least, where few pictures are looked at, and at most
_TOGETHER = 256  # queries whose individual distances are computed at once


def nearest_in_gallery(gallery: Tensor, count: int) -> Tensor:
    """The ``count`` nearest of each gallery picture by the individual embedding, itself left out.

    Args:
        gallery: embeddings of unit length, ``(gallery, embedding)``.
        count: more than there are others means all.

    Returns:
        int64 ``(gallery, min(count, gallery - 1))``, nearest first.
    """
    found = []
    for rows, block in distance_blocks(gallery, gallery):
        itself = torch.arange(rows.start, rows.stop)
        block[torch.arange(len(block)), itself] = torch.inf
        found.append(top_k(block, min(count, max(1, len(gallery) - 1))))
    return torch.cat(found)[:, : len(gallery) - 1]


def follow_neighbours(
    query: Tensor,
    gallery: Tensor,
    nearest: Tensor,
    neighbours: Tensor | Callable[[int], list[int]],
    weight: float,
    measure: Callable[[Sequence[Tensor]], Tensor],
    own_position: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Adaptive re-ranking (MacAvaney, Tonellotto and Macdonald, CIKM 2022, who rank texts).

    A network that never saw these cameras puts most pictures of a person far down a query's list, where the second
    stage never comes. But it puts them near each other. So the second stage looks at the first of the list, and then at
    the gallery's neighbours of what it has found: those of the picture that is nearest by the fused distance first,
    then those of the next. Where they come to an end, the list goes on.

    Args:
        query: individual embeddings of unit length, ``(query, embedding)``.
        gallery: ``(gallery, embedding)``.
        nearest: the first stage's list of each query, nearest first, ``(query, k)``; ``k`` pictures are looked at.
        neighbours: of each gallery picture, nearest first, ``(gallery, any)``, see :func:`nearest_in_gallery`; or what
            gives those of one, by its position.
        weight: of the conditional distance in the fused one.
        measure: from a list of gallery positions for each query to the pair stage's distances, one after another.
        own_position: where a query itself stands in the gallery, −1 where it does not; nobody follows it there.

    Returns:
        Positions looked at, ``(query, k)``, in that order, and the conditional distances of these pairs.
    """
    wanted, follows = nearest.size(1), neighbours.tolist().__getitem__ if isinstance(neighbours, Tensor) else neighbours
    own = [-1] * len(query) if own_position is None else own_position.tolist()
    lists = [_Looked(row, position) for row, position in zip(nearest.tolist(), own, strict=True)]
    at_a_time = max(min(_AT_A_TIME, -(-wanted // _STEPS[0])), -(-wanted // _STEPS[1]))
    while lists and len(lists[0].looked) < wanted:
        count = min(at_a_time, wanted - len(lists[0].looked))
        new = torch.tensor([one.next(follows, count) for one in lists])
        conditional = measure([*new]).view(new.shape)
        individual = torch.cat(
            [
                (one[:, None].double() - gallery[near].double()).norm(dim=2)
                for one, near in zip(query.split(_TOGETHER), new.split(_TOGETHER), strict=True)
            ]
        )
        fused = (1 - weight) * individual + weight * conditional.double()
        for one, row, found in zip(lists, fused.tolist(), conditional.tolist(), strict=True):
            one.take(row, found)
    return (
        torch.tensor([one.looked for one in lists]).view(nearest.shape),
        torch.tensor([one.conditional for one in lists]).view(nearest.shape),
    )


class _Looked:
    """What one query has looked at."""

    def __init__(self, nearest: list[int], own: int):
        self.nearest = nearest
        self.own = own
        self.seen: set[int] = set()
        self.looked: list[int] = []
        self.fused: list[float] = []
        self.conditional: list[float] = []

    def next(self, follows: Callable[[int], list[int]], count: int) -> list[int]:
        """The next ``count`` gallery positions; neighbours of no more pictures are asked for than it takes."""
        chosen: list[int] = []
        for position in self._in_turn(follows):
            if position not in self.seen:
                self.seen.add(position)
                chosen.append(position)
                if len(chosen) == count:
                    break
        self.looked += chosen
        return chosen

    def _in_turn(self, follows: Callable[[int], list[int]]) -> Iterator[int]:
        for place in sorted(range(len(self.fused)), key=self.fused.__getitem__):
            yield from (position for position in follows(self.looked[place]) if position != self.own)
        yield from self.nearest

    def take(self, fused: list[float], conditional: list[float]) -> None:
        self.fused += fused
        self.conditional += conditional
