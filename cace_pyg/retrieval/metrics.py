"""mAP, CMC and mINP as the re-identification protocol has them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike



@dataclass(frozen=True)
class Metrics:
    """The result of one ranking; every measure is a fraction, 0 to 1.

    Attributes:
        mAP: mean average precision (step form) over the queries that count.
        cmc: ``(max_rank,)``, share of queries with a match among the first k.
        mINP: mean inverse negative penalty, matches / position of the last match.
        num_queries: queries that count.
        left_out_absent: queries whose identity is nowhere in the gallery.
        left_out_same_camera: queries whose matches were all taken by their own camera.
        policy: how ties, junk, distractors and cameras were handled, in words.
        average_precision: of each query that counts, ``(num_queries,)``.
        query_index: which queries those are, ``(num_queries,)``.
    """

    mAP: float
    cmc: np.ndarray
    mINP: float
    num_queries: int
    left_out_absent: int
    left_out_same_camera: int
    policy: str
    average_precision: np.ndarray
    query_index: np.ndarray

    @property
    def rank1(self) -> float:
        return self._rank(1)

    @property
    def rank5(self) -> float:
        return self._rank(5)

    @property
    def rank10(self) -> float:
        return self._rank(10)

    def as_dict(self) -> dict[str, float]:
        """mAP, rank1, rank5, rank10 and mINP as plain fractions."""
        return {
            "mAP": self.mAP, "rank1": self.rank1, "rank5": self.rank5, "rank10": self.rank10, "mINP": self.mINP
        }  # fmt: skip

    def _rank(self, k: int) -> float:
        return float(self.cmc[min(k, len(self.cmc)) - 1])


def evaluate(
    distance: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    max_rank: int = 50,
    same_camera: Literal["remove", "keep"] = "remove",
) -> Metrics:
    """Evaluate a ranking (Zheng et al., 2015, with the step form of average precision as in torchreid and fast-reid).

    Gallery images with pid −1 are junk and ignored; pid 0 is a distractor, never a match. Gallery images of the
    query's own pid and camera are removed for that query. A query without a match left is left out of the means.
    Ties are broken by gallery order.

    Nothing is sorted but the matches: the position of a match is the number of gallery images that are nearer, or as
    near and earlier.

    Example: distances [0.1, 0.2, 0.3] to pids [7, 5, 7] from a query of pid 7 and other cameras: matches at positions
    1 and 3, average precision (1/1 + 2/3) / 2 = 0.83, Rank-1 1, inverse negative penalty 2/3.

    Args:
        distance: ``(query, gallery)``, smaller is nearer.
        query_pids: ``(query,)``.
        gallery_pids: ``(gallery,)``.
        query_camids: ``(query,)``.
        gallery_camids: ``(gallery,)``.
        max_rank: length of the CMC curve.
        same_camera: ``keep`` is for data without cameras.

    Raises:
        ValueError: shapes that do not fit, NaN, a junk query, or no query that counts.
    """
    distance = np.asarray(distance)
    query_pids, gallery_pids, query_camids, gallery_camids = (
        np.asarray(one) for one in (query_pids, gallery_pids, query_camids, gallery_camids)
    )
    _check(distance, query_pids, gallery_pids, query_camids, gallery_camids, same_camera)
    positions: list[np.ndarray] = []
    counted, absent, taken = [], 0, 0
    for query, row in enumerate(distance):
        same_pid = (gallery_pids == query_pids[query]) & (query_pids[query] != 0)
        own = same_pid & (gallery_camids == query_camids[query]) if same_camera == "remove" else False
        valid = (gallery_pids != -1) & ~np.asarray(own)
        match = same_pid & valid
        if not match.any():
            absent, taken = absent + (not same_pid.any()), taken + bool(same_pid.any())
            continue
        positions.append(_positions(row, valid, np.flatnonzero(match)))
        counted.append(query)
    if not counted:
        raise ValueError(
            f"no query has a match in the gallery: {absent} whose identity is absent from it, {taken} seen only by their "
            "own camera there; check that both come from one data set, or use same_camera='keep' for data without cameras"
        )
    return _summarise(positions, np.asarray(counted), max_rank, absent, taken, same_camera)


def _positions(row: np.ndarray, valid: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Ranks, from 1, of the gallery images ``matches`` among the valid ones, ascending."""
    columns = np.flatnonzero(valid)
    values = row[columns]
    ranks = np.empty(len(matches), dtype=np.int64)
    for i, match in enumerate(matches):
        nearer = np.count_nonzero(values < row[match])
        earlier = np.count_nonzero(values[: np.searchsorted(columns, match)] == row[match])
        ranks[i] = nearer + earlier + 1
    return np.sort(ranks)


def _summarise(positions, counted, max_rank: int, absent: int, taken: int, same_camera: str) -> Metrics:
    precision = np.array([np.mean(np.arange(1, len(p) + 1) / p) for p in positions], dtype=np.float64)
    penalty = np.array([len(p) / p[-1] for p in positions], dtype=np.float64)
    first = np.array([p[0] for p in positions])
    cmc = np.array([np.mean(first <= k) for k in range(1, max_rank + 1)], dtype=np.float64)
    policy = (
        "average precision: step form; pid -1 ignored, pid 0 distractor; "
        f"own pid and camera: {'removed' if same_camera == 'remove' else 'kept'}; ties: gallery order; "
        f"queries: {len(counted)} counted, {absent} absent from the gallery, {taken} seen only by their own camera"
    )
    return Metrics(
        float(precision.mean()), cmc, float(penalty.mean()), len(counted), absent, taken, policy, precision, counted
    )


def _check(distance, query_pids, gallery_pids, query_camids, gallery_camids, same_camera: str) -> None:
    queries, gallery = len(query_pids), len(gallery_pids)
    if distance.shape != (queries, gallery) or len(query_camids) != queries or len(gallery_camids) != gallery:
        raise ValueError(
            f"Expected distance as (query, gallery) with one pid and camid for each (got {distance.shape}, "
            f"{queries} and {len(query_camids)} for queries, {gallery} and {len(gallery_camids)} for the gallery)"
        )
    if same_camera not in ("remove", "keep"):
        raise ValueError(f"Expected same_camera 'remove' or 'keep' (got {same_camera!r})")
    bad = np.flatnonzero(np.isnan(distance).any(axis=1)) if gallery else []
    if len(bad):
        raise ValueError(f"Expected distances that are numbers (got NaN for query {bad[0]} and {len(bad) - 1} more)")
    if (query_pids == -1).any():
        raise ValueError(f"Expected no junk query (got pid -1 at query {int(np.argmax(query_pids == -1))})")
