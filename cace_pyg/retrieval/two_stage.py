"""Rankings, and the second stage, which re-ranks the top k of the first (CACE-Net, §3.5)."""

from collections.abc import Callable, Iterable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cace_pyg.retrieval.distance import distance_blocks


def rank(distance: Tensor | ArrayLike) -> Tensor:
    """Gallery positions for each query, nearest first; ties are in gallery order.

    Example: the distances [[0.3, 0.1, 0.3]] give [[1, 0, 2]].

    Args:
        distance: ``(query, gallery)``, smaller is nearer.

    Returns:
        int64 ``(query, gallery)``.

    Raises:
        ValueError: ``distance`` is not a matrix, or contains NaN.
    """
    distance = torch.as_tensor(distance)
    if distance.dim() != 2:
        raise ValueError(f"Expected distance as (query, gallery) (got {tuple(distance.shape)})")
    if distance.isnan().any():
        query = int(distance.isnan().any(1).nonzero()[0])
        raise ValueError(f"Expected distances that are numbers (got NaN for query {query}); check its embedding")
    return torch.argsort(distance, dim=1, stable=True)


_BLOCK = 2**22  # distances in memory at once
_LARGEST = 2.0**40  # up to here, distances stay different when an integer is added


def top_k(distance: Tensor | ArrayLike, k: int) -> Tensor:
    """Gallery positions of the ``k`` nearest of each query, nearest first; ties are in gallery order.

    The first ``k`` columns of :func:`cace_pyg.retrieval.rank`, without ranking the rest.

    Args:
        distance: ``(query, gallery)``, smaller is nearer.
        k: how many; the whole gallery if it is smaller.

    Returns:
        int64 ``(query, min(k, gallery))``.

    Raises:
        ValueError: ``k`` is below 1, ``distance`` is not a matrix or has no columns, or contains NaN.
    """
    distance = torch.as_tensor(distance)
    return top_k_of_blocks([distance], len(distance) if distance.dim() else 0, k)


def top_k_of_blocks(blocks: Iterable[Tensor], queries: int, k: int) -> Tensor:
    """:func:`top_k` of a matrix that comes in blocks of rows, and is never in memory as a whole.

    Args:
        blocks: the rows of all queries in order, ``(some queries, gallery)`` each.
        queries: number of all rows.
        k: see :func:`top_k`.
    """
    if k < 1:
        raise ValueError(f"Expected top_k of at least 1 (got {k})")
    found, first = torch.empty(queries, 0, dtype=torch.int64), 0
    for block in blocks:
        if block.dim() != 2 or not block.size(1):
            raise ValueError(f"Expected distance as (query, gallery) with a gallery (got {tuple(block.shape)})")
        for part in block.split(_rows_at_a_time(block)):
            near = _nearest(part, min(k, part.size(1)), first)
            if not first:  # made once: small results between the blocks would keep their memory from being used again
                found = near.new_empty(queries, near.size(1))
            found[first : first + len(part)] = near
            first += len(part)
    return found


def rerank(
    distance: Tensor | ArrayLike, index: Tensor | ArrayLike, conditional: Tensor | ArrayLike, weight: float
) -> Tensor:
    """Distances that rank the top k by the fused distance, followed by all others in their old order.

    The fused distance is (1 − weight)·individual + weight·conditional; the paper sorts by the conditional distance
    alone, weight 1. Ties are in gallery order. If the others would not stay behind, an integer is added that is
    constant for the query. If this would round two of them to the same number (possible in float64, or below 1e-8),
    they are replaced by their ranks.

    Example: individual [0.1, 0.2, 0.9], top 2 at [0, 1] with conditional [1.4, 0.3], weight 1, give [1.4, 0.3, 2.9]:
    the ranking is 1, 0, 2.

    Args:
        distance: individual distances, ``(query, gallery)``.
        index: gallery positions of the top k, ``(query, k)``, from :func:`top_k`.
        conditional: conditional distances to those, ``(query, k)``.
        weight: of the conditional distance, in [0, 1].

    Returns:
        float64 ``(query, gallery)``, a new tensor.

    Raises:
        ValueError: the shapes do not fit, the weight is outside [0, 1], a distance is not finite, or ``index`` names an
            image twice or outside the gallery.
    """
    distance, index, conditional = (torch.as_tensor(given) for given in (distance, index, conditional))
    _check(distance, index, conditional, weight)
    reranked = distance.detach().to(torch.float64, copy=True)
    fused = (1 - weight) * reranked.gather(1, index) + weight * conditional.detach().to(torch.float64)
    rows = _rows_at_a_time(distance)
    for block, block_index, block_fused in zip(*(table.split(rows) for table in (reranked, index, fused)), strict=True):
        block.copy_(_with_top_first(block, block_index, block_fused))
    return reranked


def rerank_pairs(
    query: Tensor,
    gallery: Tensor,
    score: Callable[[int, Tensor], Tensor],
    k: int = 100,
    weight: float = 0.5,
) -> Tensor:
    """Two stages with any pair model: rank by the embeddings, then re-rank the ``k`` nearest of each query by both.

    Example: ``rerank_pairs(query, gallery, lambda i, near: model(pictures[i], [others[j] for j in near]))``.

    Args:
        query: individual embeddings, ``(query, channel)``, compared by Euclidean distance; of unit length for cosines.
        gallery: ``(gallery, channel)``.
        score: takes the position of a query and those of its nearest gallery images, int64 ``(k,)``, nearest first, and
            returns the pair model's distances of these pairs, ``(k,)``, smaller is nearer.
        k: gallery images to compare; all if there are fewer.
        weight: of the pair model's distance, in [0, 1]; the other distance has the rest, so both should have the same
            scale.

    Returns:
        float64 ``(query, gallery)``, see :func:`rerank`; :func:`cace_pyg.retrieval.evaluate` takes it.

    Raises:
        ValueError: ``score`` returns another shape; see also :func:`rerank`.
    """
    individual = torch.cat([block for _, block in distance_blocks(query, gallery)])
    index = top_k(individual, k)
    pairs = individual.new_empty(index.shape)
    for position, near in enumerate(index):
        found = torch.as_tensor(score(position, near))
        if found.shape != near.shape:
            raise ValueError(
                f"Expected score to return a distance for each of {len(near)} pairs, ({len(near)},) (got "
                f"{tuple(found.shape)} for query {position})"
            )
        pairs[position] = found.detach()
    return rerank(individual, index, pairs, weight)


def _rows_at_a_time(distance: Tensor) -> int:
    return max(1, _BLOCK // distance.size(1))


def _nearest(distance: Tensor, k: int, first_query: int) -> Tensor:
    """The top k of some queries; ``first_query`` is the number of the first of them."""
    if distance.isnan().any():
        query = first_query + int(distance.isnan().any(1).nonzero()[0])
        raise ValueError(f"Expected distances that are numbers (got NaN for query {query}); check its embedding")
    values, index = distance.topk(min(k + 1, distance.size(1)), largest=False)
    index = index[:, :k].sort(1).values
    if values.size(1) > k:
        # topk picks any of those that are tied with the last one
        level = values[:, k - 1] == values[:, k]
        if level.any():
            index[level] = _first_of_level(distance[level], values[level, k - 1 : k], k)
    return index.gather(1, distance.gather(1, index).argsort(dim=1, stable=True))


def _first_of_level(distance: Tensor, farthest: Tensor, k: int) -> Tensor:
    """The ``k`` nearest, ascending; among those tied with the farthest, the first in gallery order."""
    nearer, level = distance < farthest, distance == farthest
    wanted = k - nearer.sum(1, keepdim=True)
    taken = nearer | (level & (level.cumsum(1) <= wanted))
    return taken.nonzero()[:, 1].view(-1, k)


def _with_top_first(individual: Tensor, index: Tensor, fused: Tensor) -> Tensor:
    last = fused.amax(1, keepdim=True)
    others = individual.scatter(1, index, torch.inf)
    nearest = others.amin(1, keepdim=True)  # infinite if the top k is the whole gallery
    shift = torch.where(nearest > last, 0.0, (last - nearest).ceil() + 1)
    moved = others + shift
    for query in (moved - shift != others).any(1).nonzero().flatten():
        _, order = others[query].unique(return_inverse=True)
        moved[query] = last[query] + 1 + order
    return moved.scatter(1, index, fused)


def _check(distance: Tensor, index: Tensor, conditional: Tensor, weight: float) -> None:
    if not 0 <= weight <= 1:
        raise ValueError(f"Expected a fusion weight in [0, 1] (got {weight})")
    if distance.dim() != 2 or index.dim() != 2 or len(index) != len(distance) or index.shape != conditional.shape:
        raise ValueError(
            f"Expected index and conditional as (query, k) with distance {tuple(distance.shape)} as (query, gallery) "
            f"(got {tuple(index.shape)} and {tuple(conditional.shape)}); take index from top_k"
        )
    ordered = index.sort(1).values
    if (
        not index.size(1)
        or not ((ordered >= 0) & (ordered < distance.size(1))).all()
        or (ordered.diff(dim=1) == 0).any()
    ):
        raise ValueError(
            f"Expected index to name different images of the gallery's {distance.size(1)} for each query, one or more "
            "(got an image twice, one outside the gallery, or none); take index from top_k"
        )
    for name, values in (("distance", distance), ("conditional", conditional)):
        if not (values.abs() < _LARGEST).all():
            query = int((~(values.abs() < _LARGEST)).any(1).nonzero()[0])
            raise ValueError(
                f"Expected {name} to hold finite distances below 2^40 (got {values[query].tolist()[:5]}… at query "
                f"{query}); check the embeddings"
            )
