"""How much the second stage should weigh."""

from typing import NamedTuple

from torch import Tensor

from cace_pyg.retrieval.metrics import evaluate
from cace_pyg.retrieval.two_stage import rerank

_WEIGHTS = tuple(step / 10 for step in range(11))


class FusionChoice(NamedTuple):
    """The chosen weight, and (weight, mAP, Rank-1) of every weight tried."""

    weight: float
    curve: tuple[tuple[float, float, float], ...]


def choose_fusion_weight(
    distance: Tensor,
    index: Tensor,
    conditional: Tensor,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    weights: tuple[float, ...] = _WEIGHTS,
) -> FusionChoice:
    """The weight with the best mAP, on identities that are in no test; ties go to the smaller weight.

    The first three arguments are those of :func:`cace_pyg.retrieval.rerank`, the labels those of
    :func:`cace_pyg.retrieval.evaluate`.
    """
    curve = []
    for weight in sorted(weights):
        fused = rerank(distance, index, conditional, weight)
        metrics = evaluate(fused, query_pids, gallery_pids, query_camids, gallery_camids)
        curve.append((weight, metrics.mAP, metrics.rank1))
    best = max(curve, key=lambda row: (row[1], -row[0]))
    return FusionChoice(best[0], tuple(curve))
