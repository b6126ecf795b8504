"""Chooses the weight of the second stage."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from cace_pyg.retrieval.metrics import evaluate
from cace_pyg.retrieval.two_stage import rerank

_WEIGHTS = tuple(step / 10 for step in range(11))


class FusionChoice(NamedTuple):
    """The chosen weight, and the results of all weights."""

    weight: float
    curve: tuple[tuple[float, float, float], ...]  # (weight, mAP, Rank-1), fractions, ascending in the weight


def choose_fusion_weight(
    distance: Tensor | ArrayLike,
    index: Tensor | ArrayLike,
    conditional: Tensor | ArrayLike,
    query_pids: Tensor | ArrayLike,
    gallery_pids: Tensor | ArrayLike,
    query_camids: Tensor | ArrayLike,
    gallery_camids: Tensor | ArrayLike,
    weights: Sequence[float] = _WEIGHTS,
    same_camera: Literal["remove", "keep"] = "remove",
    own_position: Tensor | ArrayLike | None = None,
) -> FusionChoice:
    """The weight of the conditional distance with the best mAP; among equally good weights, the smallest.

    Give held-out identities, never those that will be tested: a weight chosen on the test set biases its result.

    Args:
        distance: see :func:`cace_pyg.retrieval.rerank`, as for ``index`` and ``conditional``.
        index: see there.
        conditional: see there.
        query_pids: see :func:`cace_pyg.retrieval.evaluate`, as for the other labels.
        gallery_pids: see there.
        query_camids: see there.
        gallery_camids: see there.
        weights: the weights to try, in [0, 1].
        same_camera: see there.
        own_position: see there.

    Raises:
        ValueError: no weight is given; see also :func:`rerank` and :func:`evaluate`.
    """
    if not len(weights):
        raise ValueError("Expected at least one fusion weight to try (got none)")
    labels = (query_pids, gallery_pids, query_camids, gallery_camids)
    curve = []
    for weight in sorted(weights):
        fused = rerank(distance, index, conditional, weight)
        metrics = evaluate(fused, *labels, same_camera=same_camera, own_position=own_position)
        curve.append((float(weight), metrics.mAP, metrics.rank1))
    best, _, _ = max(curve, key=lambda row: row[1])  # the first, so the smallest, of equals
    return FusionChoice(best, tuple(curve))
