"""CUHK03's single-shot evaluation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

_JUNK, _DISTRACTOR = -1, 0


@dataclass(frozen=True, eq=False)
class SingleShot:
    """The result of a single-shot evaluation.

    Attributes:
        cmc: float64 ``(max_rank,)``, chance that the match is among the first 1, 2, … images.
        num_queries: queries that count; those without a match are left out.
        policy: how it was measured.
    """

    cmc: np.ndarray
    num_queries: int
    policy: str

    def as_dict(self) -> dict[str, float]:
        """Rank-1, 5 and 10, as plain fractions; ranks beyond the curve are left out."""
        return {f"rank{k}": float(self.cmc[k - 1]) for k in (1, 5, 10) if k <= len(self.cmc)}


def evaluate_single_shot(
    distance: Tensor | ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    repeats: int = 100,
    seed: int = 0,
    max_rank: int = 50,
    own_position: ArrayLike | None = None,
) -> SingleShot:
    """The CMC curve when one gallery image of each identity is drawn (Li et al., CVPR 2014), averaged over draws.

    For each query and draw, junk (pid −1) and images with the query's own pid and camera are removed. Then one image of
    every identity is drawn uniformly; distractors (pid 0) are not one identity, so all of them stay. Ties are in
    gallery order. There is only one match, so there is no average precision. ``torchreid`` makes the same number of
    draws, with numpy's global random numbers.

    Args:
        distance: ``(query, gallery)``, smaller is nearer.
        query_pids: ``(query,)``.
        gallery_pids: ``(gallery,)``.
        query_camids: ``(query,)``.
        gallery_camids: ``(gallery,)``.
        repeats: draws for each query.
        seed: of the draws.
        max_rank: length of the curve.
        own_position: ``(query,)``, the position of each query itself in the gallery, where it is removed; −1 if it is
            not there.

    Raises:
        ValueError: the shapes do not fit, a distance is NaN, a number is below 1, or no query has a match.
    """
    distance = np.asarray(distance.detach().cpu().float() if isinstance(distance, Tensor) else distance)
    labels = [np.asarray(given) for given in (query_pids, gallery_pids, query_camids, gallery_camids)]
    _check(distance, labels, repeats, max_rank)
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    rng = np.random.default_rng(seed)
    curves = []
    images = np.arange(len(gallery_pids))
    own = np.full(len(query_pids), -1) if own_position is None else np.asarray(own_position)
    for row, pid, camid, itself in zip(distance, query_pids, query_camids, own, strict=True):
        near = (gallery_pids == pid) & (gallery_camids == camid)
        kept = np.flatnonzero((gallery_pids != _JUNK) & ~near & (images != itself))
        if pid != _DISTRACTOR and (gallery_pids[kept] == pid).any():
            curves.append(_curve(row, kept, gallery_pids[kept], pid, rng, repeats, max_rank))
    if not curves:
        raise ValueError("no query has a match from another camera in the gallery; check pids and camids")
    policy = (
        f"single shot: one gallery image of each identity, {repeats} draws a query, seed {seed}; pid -1: ignored; "
        "pid 0: distractor, each stays; own pid and camera: removed; ties: gallery order; "
        f"queries: {len(curves)} counted, {len(distance) - len(curves)} left out without a match"
    )
    return SingleShot(np.mean(curves, axis=0), len(curves), policy)


def _curve(
    row: np.ndarray,
    kept: np.ndarray,
    pids: np.ndarray,
    pid: int,
    rng: np.random.Generator,
    repeats: int,
    max_rank: int,
) -> np.ndarray:
    """The mean curve of one query over its draws."""
    order = np.argsort(pids, kind="stable")
    values, starts, sizes = np.unique(pids[order], return_index=True, return_counts=True)
    strangers = kept[pids == _DISTRACTOR]
    people = values != _DISTRACTOR
    drawn = starts[people] + (rng.random((repeats, people.sum())) * sizes[people]).astype(np.int64)
    images = np.concatenate([kept[order[drawn]], np.tile(strangers, (repeats, 1))], axis=1)
    match = images[:, np.searchsorted(values[people], pid)][:, None]
    nearer = (row[images] < row[match]) | ((row[images] == row[match]) & (images < match))
    return (nearer.sum(axis=1)[:, None] < np.arange(1, max_rank + 1)).mean(axis=0)


def _check(distance: np.ndarray, labels: list[np.ndarray], repeats: int, max_rank: int) -> None:
    if distance.ndim != 2 or [of_part.shape for of_part in labels] != [(size,) for size in distance.shape] * 2:
        raise ValueError(
            "Expected distance as (query, gallery) with one pid and one camid for each "
            f"(got {distance.shape} and {[of_part.shape for of_part in labels]})"
        )
    if np.isnan(distance).any():
        raise ValueError("Expected distances that are numbers (got NaN); check the embeddings")
    if min(repeats, max_rank) < 1:
        raise ValueError(f"Expected repeats and max_rank of at least 1 (got {repeats} and {max_rank})")
