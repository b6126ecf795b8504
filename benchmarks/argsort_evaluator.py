"""The usual evaluation: sort every row, then loop over the queries."""

import numpy as np


def argsort_evaluation(
    distance: np.ndarray,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    max_rank: int = 50,
    lists: bool = False,
    kind: str | None = None,
) -> tuple[float, np.ndarray, float]:
    """mAP, CMC and mINP by sorting, as in the plain-numpy code of torchreid (which has no mINP).

    Args:
        distance: ``(query, gallery)``; the gallery has no junk.
        query_pids: ``(query,)``.
        gallery_pids: ``(gallery,)``; pid 0 is a distractor, which never matches.
        query_camids: ``(query,)``.
        gallery_camids: ``(gallery,)``.
        max_rank: length of the CMC curve.
        lists: compute the precision at each position with a Python list, as torchreid does; else one numpy division.
        kind: of the sort, as in ``np.argsort``; ``"stable"`` leaves ties in gallery order.
    """
    order = np.argsort(distance, axis=1, kind=kind)
    matches = gallery_pids[order] == query_pids[:, None]
    curves, precisions, penalties = [], [], []
    for query in range(len(distance)):
        own = matches[query] & (gallery_camids[order[query]] == query_camids[query])
        hits = matches[query][~own]
        if not hits.any():
            continue
        found = hits.cumsum()
        curves.append(found[:max_rank] > 0)
        precisions.append((_precision(found, lists) * hits).sum() / found[-1])
        penalties.append(found[-1] / (np.flatnonzero(hits)[-1] + 1))
    return float(np.mean(precisions)), np.mean(curves, axis=0), float(np.mean(penalties))


def _precision(found: np.ndarray, lists: bool) -> np.ndarray:
    if lists:
        return np.asarray([count / (place + 1.0) for place, count in enumerate(found)])
    return found / np.arange(1, len(found) + 1)
