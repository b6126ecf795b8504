"""Combines several pictures of one person into one entry: a track, or a few pictures that are searched together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Both were chosen on held-out training people of Market-1501, see benchmarks/multi_query.py.
VIEWS = 4  # pictures of a set that the pair stage compares
SOFTNESS = 1.0  # of the minimum over pairs
_LEVEL = 1e-5  # smaller differences are ties: two pictures are equally near to their mean, except for rounding


@dataclass(frozen=True, eq=False)
class PictureSets:
    """Entries of one or several pictures each, in the order of first occurrence.

    Attributes:
        embedding: unit-length mean embeddings, ``(set, channel)``.
        views: int64 ``(set, k)``, positions of the pictures that the pair stage compares, in the order of choice; −1 if
            a set has fewer.
        members: int64 positions of the pictures of each set, ascending.
    """

    embedding: Tensor
    views: Tensor
    members: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.embedding)

    def select(self, index: Sequence[int]) -> "PictureSets":
        """The sets at ``index``."""
        chosen = list(index)
        return PictureSets(
            self.embedding[chosen], self.views[chosen], tuple(self.members[position] for position in chosen)
        )

    def kept(self) -> tuple[Tensor, Tensor]:
        """Positions of the pictures that are views, and ``views`` as positions among those."""
        there = self.views >= 0
        return self.views[there], torch.where(there, there.flatten().cumsum(0).view_as(self.views) - 1, -1)


def form_sets(
    embedding: Tensor,
    labels: Sequence[Hashable],
    quality: Tensor | None = None,
    views: int = VIEWS,
    candidates: Tensor | None = None,
) -> PictureSets:
    """Merge the pictures of each label into one entry.

    The embedding of a set is the mean of its pictures' unit-length embeddings, weighted by their quality
    (:func:`merge_embeddings`); its views are :func:`choose_views`.

    Args:
        embedding: ``(picture, channel)``.
        labels: one for each picture; pictures of equal labels are one set.
        quality: ``(picture,)``, 0 or more, such as a detector's score; NaN: unknown. If it is None, or unknown for one
            picture of a set, all pictures of the set have equal weights.
        views: maximum number of pictures of each set for the pair stage.
        candidates: whether each picture may be a view, ``(picture,)``, at least one in each set; None: all may.

    Raises:
        ValueError: shapes do not fit, ``views`` is below 1, a quality is below 0 or infinite, all qualities of a set
            are 0, or a set has no candidate.
    """
    if embedding.dim() != 2 or len(labels) != len(embedding) or not len(embedding):
        raise ValueError(
            f"Expected embeddings (picture, channel) and a label for each (got {tuple(embedding.shape)} and "
            f"{len(labels)} labels)"
        )
    if views < 1:
        raise ValueError(f"Expected at least one view of a set (got {views})")
    if quality is not None and quality.shape != (len(embedding),):
        raise ValueError(f"Expected a quality for each of {len(embedding)} pictures (got {tuple(quality.shape)})")
    positions: dict[Hashable, list[int]] = {}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    members = tuple(torch.tensor(pictures_of) for pictures_of in positions.values())
    merged = torch.empty(len(members), embedding.size(1), dtype=embedding.dtype)
    chosen = torch.full((len(members), max(1, min(views, max(map(len, members))))), -1)
    unit = torch.nn.functional.normalize(embedding.cpu(), dim=-1)
    for number, pictures in enumerate(members):
        weights = None if quality is None or quality[pictures].isnan().any() else quality[pictures].cpu()
        merged[number] = unit[pictures[0]] if len(pictures) == 1 else merge_embeddings(unit[pictures], weights)
        seen = slice(None) if candidates is None else candidates[pictures]
        if not len(pictures[seen]):
            raise ValueError(f"Expected a picture that may be a view in each set (got none of {len(pictures)} in one)")
        near = pictures[seen]
        if len(near) > 1:
            near = near[choose_views(unit[near], views, None if weights is None else weights[seen])]
        chosen[number, : len(near)] = near
    return PictureSets(merged, chosen, members)


def merge_embeddings(embedding: Tensor, quality: Tensor | None = None) -> Tensor:
    """The direction of the weighted mean of unit vectors: Σ q_i x_i / ‖Σ q_i x_i‖.

    Example: [[1, 0], [0, 1]] with quality [3, 4] give [0.6, 0.8].

    Args:
        embedding: of unit length, ``(picture, channel)``.
        quality: ``(picture,)``; None: equal weights.

    Returns:
        ``(channel,)``, of unit length.

    Raises:
        ValueError: a quality is below 0 or not finite, or all are 0.
    """
    if quality is None:
        return torch.nn.functional.normalize(embedding.sum(0), dim=0)
    _check_quality(quality)
    return torch.nn.functional.normalize((quality.to(embedding.dtype)[:, None] * embedding).sum(0), dim=0)


def choose_views(embedding: Tensor, k: int, quality: Tensor | None = None) -> Tensor:
    """Choose pictures of a set that differ, by farthest-point sampling of their embeddings (Gonzalez, 1985).

    The first is the picture nearest to the mean, or the one with the best quality if qualities differ. Each further one
    has the largest quality · distance to the nearest chosen picture. Ties go to the earlier picture.

    Args:
        embedding: of unit length, ``(picture, channel)``.
        k: how many; all if there are fewer.
        quality: ``(picture,)``; None: equal.

    Returns:
        int64 ``(min(k, picture),)``, in the order of choice.

    Raises:
        ValueError: ``k`` is below 1; see also :func:`merge_embeddings`.
    """
    if k < 1:
        raise ValueError(f"Expected at least one view of a set (got {k})")
    quality = torch.ones(len(embedding)) if quality is None else quality
    _check_quality(quality)
    to_mean = embedding @ merge_embeddings(embedding, quality)
    best = (quality == quality.max()).nonzero().flatten()
    central = to_mean[best] >= to_mean[best].max() - _LEVEL
    chosen = [int(best[central][0])]
    nearest = (embedding - embedding[chosen[0]]).norm(dim=1)
    while len(chosen) < min(k, len(embedding)):
        worth = quality.to(nearest.dtype) * nearest
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        nearest = torch.minimum(nearest, (embedding - embedding[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def set_distance(distance: Tensor, pair: Tensor, pairs: int, softness: float = SOFTNESS) -> Tensor:
    """The distance of two sets from the distances of their pictures: the minimum, or −τ log mean exp(−d/τ).

    With τ = 0 only the nearest pair counts; the larger τ is, the closer it is to the mean of all pairs. Two single
    pictures keep their distance for any τ.

    Example: with τ = 0 the distances [1, 2, 3] of the pairs [0, 0, 1] give [1, 3].

    Args:
        distance: of pairs of pictures, ``(picture pair,)``.
        pair: int64, the pair of sets that each belongs to, ``(picture pair,)``.
        pairs: number of pairs of sets; each has at least one pair of pictures.
        softness: τ, in the unit of the distances.

    Returns:
        ``(pairs,)``.

    Raises:
        ValueError: the shapes do not fit, ``softness`` is below 0, or a pair of sets has no pictures.
    """
    if distance.dim() != 1 or pair.shape != distance.shape or not 0 <= softness < torch.inf:
        raise ValueError(
            f"Expected distances and their pairs of sets as (picture pair,) and a softness of 0 or more (got "
            f"{tuple(distance.shape)}, {tuple(pair.shape)} and {softness})"
        )
    counts = torch.bincount(pair, minlength=pairs) if len(pair) else torch.zeros(pairs)
    if len(counts) != pairs or not bool(counts.all()):
        raise ValueError(f"Expected at least one pair of pictures for each of {pairs} pairs of sets, and no others")
    least = torch.full((pairs,), torch.inf, dtype=distance.dtype).scatter_reduce(0, pair, distance, "amin")
    if softness == 0:
        return least
    shift = least.detach()
    sums = torch.zeros(pairs, dtype=distance.dtype).scatter_add(0, pair, (-(distance - shift[pair]) / softness).exp())
    return shift - softness * (sums / counts).log()


def _check_quality(quality: Tensor) -> None:
    if not (quality.isfinite().all() and (quality >= 0).all() and (quality > 0).any()):
        raise ValueError(
            f"Expected qualities of 0 or more, one of them above 0 (got {quality.tolist()[:8]}); such as a detector's "
            "score"
        )
