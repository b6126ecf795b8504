"""mAP, CMC and mINP by the re-identification protocol."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

_JUNK, _DISTRACTOR = -1, 0
_BLOCK = 64  # queries at once: some megabytes of distances


@dataclass(frozen=True, eq=False)
class Metrics:
    """The result of one ranking; every measure is a fraction, 0 to 1.

    Attributes:
        mAP: mean average precision over the queries that count.
        cmc: float64 ``(max_rank,)``, share of queries with a match among the first 1, 2, … images.
        mINP: mean inverse negative penalty: number of matches / position of the last one (Ye et al., 2021).
        num_queries: queries that count.
        left_out_absent: queries whose identity is nowhere in the gallery.
        left_out_same_camera: queries whose matches were all removed, since they are from the query's own camera.
        policy: how average precision, junk, distractors, cameras, ties and queries without a match were handled.
        average_precision: float64 ``(num_queries,)``, of each query that counts, for bootstraps and paired tests.
        first_match: int64 ``(num_queries,)``, the position of the first match of each, from 1.
        query_index: int64 ``(num_queries,)``, which queries count, ascending.
    """

    mAP: float
    cmc: np.ndarray
    mINP: float
    num_queries: int
    left_out_absent: int
    left_out_same_camera: int
    policy: str
    average_precision: np.ndarray
    first_match: np.ndarray
    query_index: np.ndarray

    @property
    def rank1(self) -> float:
        """Share of queries whose nearest image is a match."""
        return float(self.cmc[0])

    @property
    def rank5(self) -> float:
        """Share of queries with a match among the 5 nearest images."""
        return float(self.cmc[4])

    @property
    def rank10(self) -> float:
        """Share of queries with a match among the 10 nearest images."""
        return float(self.cmc[9])

    def as_dict(self) -> dict[str, float]:
        """The five measures that papers print, as plain fractions."""
        return {name: float(getattr(self, name)) for name in ("mAP", "rank1", "rank5", "rank10", "mINP")}


def evaluate(
    distance: Tensor | ArrayLike,
    query_pids: Tensor | ArrayLike,
    gallery_pids: Tensor | ArrayLike,
    query_camids: Tensor | ArrayLike,
    gallery_camids: Tensor | ArrayLike,
    max_rank: int = 50,
    same_camera: Literal["remove", "keep"] = "remove",
    average_precision: Literal["step", "trapezoid"] = "step",
    own_position: Tensor | ArrayLike | None = None,
) -> Metrics:
    """Evaluate a ranking by the protocol of Market-1501 (Zheng et al., 2015).

    Gallery images with pid −1 are junk and completely ignored; pid 0 is a distractor, which is ranked but never a
    match. Gallery images with the query's own pid *and* camera are removed. A query without any match left is excluded
    from the means and reported. Ties are in gallery order. Average precision is the mean of the precision at each
    match; Market's own script takes the area of trapezoids under the precision-recall curve, which is never larger.

    Only the matches are sorted: the position of a match is the number of gallery images that are nearer, or equally
    near and earlier.

    Example: a query of pid 7 with distances [0.1, 0.2, 0.3] to images of pids [7, 5, 7] from other cameras has its
    matches at positions 1 and 3: average precision (1/1 + 2/3) / 2 = 0.83, Rank-1 1, inverse negative penalty 2/3.

    Args:
        distance: ``(query, gallery)``, smaller is nearer; on any device.
        query_pids: ``(query,)``.
        gallery_pids: ``(gallery,)``.
        query_camids: ``(query,)``.
        gallery_camids: ``(gallery,)``.
        max_rank: length of the CMC curve, at least 10.
        same_camera: ``"remove"`` is the protocol; ``"keep"`` is for data without cameras.
        average_precision: ``"step"``, as in ``torchreid`` and ``fast-reid``, or ``"trapezoid"``, as in the script that
            Market-1501's authors distribute.
        own_position: ``(query,)``, the position of each query itself in the gallery, −1 if it is not there. It is
            removed there, whatever ``same_camera`` says: with one set of pictures as query and gallery, leave-one-out
            is ``own_position=range(images)``.

    Raises:
        ValueError: the shapes do not fit, a distance is NaN, a query is junk, no query counts (the message says why),
            or another argument is out of range.
    """
    labels = query_pids, gallery_pids, query_camids, gallery_camids
    return evaluate_blocks([distance], *labels, max_rank, same_camera, average_precision, own_position)


def evaluate_blocks(
    blocks: Iterable[Tensor | ArrayLike],
    query_pids: Tensor | ArrayLike,
    gallery_pids: Tensor | ArrayLike,
    query_camids: Tensor | ArrayLike,
    gallery_camids: Tensor | ArrayLike,
    max_rank: int = 50,
    same_camera: Literal["remove", "keep"] = "remove",
    average_precision: Literal["step", "trapezoid"] = "step",
    own_position: Tensor | ArrayLike | None = None,
) -> Metrics:
    """:func:`evaluate` for a distance matrix that comes in blocks of rows, and is never in memory as a whole.

    Args:
        blocks: the rows of all queries in order, ``(some queries, gallery)`` each.
        query_pids: see :func:`evaluate`, as for all others.
        gallery_pids: see there.
        query_camids: see there.
        gallery_camids: see there.
        max_rank: see there.
        same_camera: see there.
        average_precision: see there.
        own_position: see there.
    """
    labels = [as_numpy(given) for given in (query_pids, gallery_pids, query_camids, gallery_camids)]
    check_labels(labels, max_rank, same_camera, average_precision)
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    known = np.flatnonzero(gallery_pids != _JUNK)
    same_pid = _positions_by_pid(gallery_pids[known])
    camids = gallery_camids[known]
    own = own_positions(own_position, len(query_pids), len(gallery_pids), known)
    ranks, counted, absent, removed = [], [], 0, 0
    for query, row in enumerate(all_rows(blocks, known, labels)):
        same = same_pid.get(int(query_pids[query]), known[:0])
        same = same[same != own[query]]
        near = (camids[same] == query_camids[query]) & (same_camera == "remove")
        removed += int(near.sum())
        if not near.all():
            itself = own[query : query + 1]
            ranks.append(_ranks(row, same[~near], np.concatenate([same[near], itself[itself >= 0]])))
            counted.append(query)
        absent += not len(same)
    left_out = absent, len(query_pids) - len(counted) - absent
    if not counted:
        raise ValueError(nothing_counts(*left_out))
    cameras = f"removed ({removed} times)" if same_camera == "remove" else "kept"
    if own_position is not None:
        cameras += f"; the query itself: left out of the gallery ({(own >= 0).sum()} times)"
    return _summarise(ranks, counted, left_out, max_rank, cameras, average_precision)


def as_numpy(values: Tensor | ArrayLike) -> np.ndarray:
    """A numpy array on the CPU; types that numpy does not have become float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy has no bfloat16
    return np.asarray(values)


def own_positions(own: Tensor | ArrayLike | None, queries: int, gallery: int, known: np.ndarray) -> np.ndarray:
    """The position of each query among the ``known`` gallery images; −1 if it is not there."""
    if own is None:
        return np.full(queries, -1)
    own = as_numpy(own)
    if own.shape != (queries,) or own.dtype.kind not in "iu" or not ((own >= -1) & (own < gallery)).all():
        raise ValueError(
            f"Expected own_position as a position from 0 to {gallery - 1}, or -1, for each of {queries} queries "
            f"(got {own.dtype} {own.shape})"
        )
    among_known = np.full(gallery + 1, -1)  # the last entry is for -1
    among_known[known] = np.arange(len(known))
    return among_known[own]


def _positions_by_pid(pids: np.ndarray) -> dict[int, np.ndarray]:
    """The positions of each pid, ascending; without distractors, which never match."""
    order = np.argsort(pids, kind="stable")
    values, starts = np.unique(pids[order], return_index=True)
    runs = np.split(order, starts[1:])
    return {int(pid): run for pid, run in zip(values, runs, strict=False) if pid != _DISTRACTOR}


def all_rows(
    blocks: Iterable[Tensor | ArrayLike], known: np.ndarray, labels: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """The rows of all blocks; checks that there are as many as queries."""
    seen = 0
    for block in map(as_numpy, blocks):
        whole = (seen + len(block) if block.ndim else 0, *block.shape[1:])
        if block.ndim != 2 or block.shape[1] != len(labels[1]) or whole[0] > len(labels[0]):
            raise ValueError(_misfit(whole if block.ndim == 2 else block.shape, labels))
        yield from _rows(block, known, seen)
        seen += len(block)
    if seen != len(labels[0]):
        raise ValueError(_misfit((seen, len(labels[1])), labels))


def _rows(distance: np.ndarray, known: np.ndarray, first: int) -> Iterator[np.ndarray]:
    """The distances from each query to the gallery without junk, checked for NaN; ``first`` numbers the first query."""
    for start in range(0, len(distance), _BLOCK):
        block = distance[start : start + _BLOCK]
        nan = np.isnan(block).any(axis=1)
        if nan.any():
            raise ValueError(
                f"Expected distances that are numbers (got NaN for query {first + start + int(nan.argmax())}); "
                "check its embedding and those of the gallery"
            )
        # Rows that are scattered in memory (transposed, or block[:, known]) would be slow to read again and again.
        yield from block.take(known, axis=1) if len(known) < block.shape[1] else np.ascontiguousarray(block)


def _ranks(row: np.ndarray, matches: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Positions in the ranking, from 1 and ascending, of ``matches`` once ``removed`` are gone."""
    values, gone = row[matches], row[removed]
    level_and_earlier = (gone == values[:, None]) & (removed < matches[:, None])
    gone_before = ((gone < values[:, None]) | level_and_earlier).sum(axis=1)
    before = [
        np.count_nonzero(row[:match] <= value) + np.count_nonzero(row[match:] < value)
        for match, value in zip(matches, values, strict=True)
    ]
    return np.sort(1 + np.asarray(before) - gone_before)


def _average_precision(ranks: np.ndarray, form: str) -> float:
    """The average precision of one query with matches at ``ranks``, ascending from 1."""
    precision = np.arange(1, len(ranks) + 1) / ranks
    if form == "step":
        return precision.mean()
    # Recall rises at a match; the trapezoid's other side is the precision one position before it, 1 before the first.
    before = np.where(ranks == 1, 1.0, np.arange(len(ranks)) / np.maximum(ranks - 1, 1))
    return ((before + precision) / 2).mean()


def _summarise(
    ranks: list[np.ndarray], counted: list[int], left_out: tuple[int, int], max_rank: int, cameras: str, form: str
) -> Metrics:
    precision = np.array([_average_precision(places, form) for places in ranks])
    penalty = np.array([len(places) / places[-1] for places in ranks])
    first = np.array([places[0] for places in ranks])
    policy = (
        f"average precision: {form} form; pid -1: ignored; pid 0: distractor, never a match; own pid and camera: "
        f"{cameras}; ties: gallery order; queries: {len(counted)} counted, "
        f"left out {left_out[0]} absent from the gallery, {left_out[1]} seen only by their own camera"
    )
    return Metrics(
        mAP=float(precision.mean()),
        cmc=(first[:, None] <= np.arange(1, max_rank + 1)).mean(axis=0),
        mINP=float(penalty.mean()),
        num_queries=len(counted),
        left_out_absent=left_out[0],
        left_out_same_camera=left_out[1],
        policy=policy,
        average_precision=precision,
        first_match=first,
        query_index=np.array(counted),
    )


def nothing_counts(absent: int, same_camera: int) -> str:
    """The message for an evaluation without a single match: why, and what helps."""
    message = (
        f"no query has a match in the gallery: {absent} whose identity is absent from it, {same_camera} seen only by "
        "their own camera there"
    )
    if absent:
        message += "; check that query and gallery are parts of one data set, with the same pids"
    if same_camera:
        message += (
            "; check the camids; for data without cameras leave them out, or give same_camera keep "
            "(--evaluation.same_camera keep)"
        )
    return message


def _misfit(shape: tuple[int, ...], labels: Sequence[np.ndarray]) -> str:
    if len(shape) != 2:
        return f"Expected distance as (query, gallery) (got shape {shape})"
    counts = [len(of_part) if of_part.ndim == 1 else of_part.shape for of_part in labels]
    return (
        f"Expected distance as (query, gallery) with one pid and one camid for each (got {shape}, "
        f"{counts[0]} and {counts[2]} for queries, {counts[1]} and {counts[3]} for the gallery)"
    )


def check_labels(
    labels: Sequence[np.ndarray], max_rank: int = 50, same_camera: str = "remove", average_precision: str = "step"
) -> None:
    """Raise ``ValueError`` unless these are pids of query and gallery, their camids, and :func:`evaluate`'s options."""
    if (
        any(of_part.ndim != 1 for of_part in labels)
        or labels[0].shape != labels[2].shape
        or labels[1].shape != labels[3].shape
    ):
        counts = [len(of_part) if of_part.ndim == 1 else of_part.shape for of_part in labels]
        raise ValueError(
            f"Expected one pid and one camid for each query and each gallery image (got {counts[0]} and {counts[2]} "
            f"for queries, {counts[1]} and {counts[3]} for the gallery)"
        )
    if (labels[0] == _JUNK).any():
        query = int(np.argmax(labels[0] == _JUNK))
        raise ValueError(
            f"Expected queries of known identity (got pid -1 at query {query}, which is junk); leave it out"
        )
    if max_rank < 10:
        raise ValueError(f"Expected max_rank of at least 10, since Rank-10 is read from it (got {max_rank})")
    if same_camera not in ("remove", "keep"):
        raise ValueError(f"Expected same_camera 'remove' or 'keep' (got {same_camera!r})")
    if average_precision not in ("step", "trapezoid"):
        raise ValueError(f"Expected average_precision 'step' or 'trapezoid' (got {average_precision!r})")
