"""Evaluates the rankings of an evaluation as decisions."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from torch import Tensor

from cace_pyg.engine.distances import labels_of, looked_at_pairs
from cace_pyg.engine.evaluation import Evaluation
from cace_pyg.retrieval import Calibration, OpenSet, evaluate_open_set_blocks, reliability_curve


def decisions_of(evaluation: Evaluation) -> dict[str, OpenSet]:
    """The decisions of both stages, and of re-ranking by neighbours if it was asked for. With a calibration, those of
    the second stage include the reliability of its probabilities.

    Empty if the pictures show only one person: then there is nothing to decide.

    Raises:
        ValueError: see :func:`cace_pyg.retrieval.evaluate_open_set`.
    """
    query, gallery = evaluation.query.samples, evaluation.gallery.samples
    if len({sample.pid for sample in (*query, *gallery) if sample.pid >= 0}) < 2:
        return {}
    distances = evaluation.distances
    two_stage = decisions_by(evaluation, distances.decision_blocks(evaluation.fusion_weight))
    found = {
        "individual": decisions_by(evaluation, distances.blocks()),
        "two_stage": _with_reliability(two_stage, evaluation),
    }
    return found | {row.name: decisions_by(evaluation, row.ranking.blocks()) for row in evaluation.neighbours}


def decisions_by(evaluation: Evaluation, blocks: Iterable[Tensor]) -> OpenSet:
    """The decisions of any distances between query and gallery, such as those of k-reciprocal re-ranking."""
    labels = labels_of(evaluation.query.samples, evaluation.gallery.samples)
    return evaluate_open_set_blocks(blocks, **labels, same_camera=evaluation.same_camera)


def _with_reliability(decisions: OpenSet, evaluation: Evaluation) -> OpenSet:
    calibration = evaluation.calibration
    if calibration is None:
        return decisions
    query, gallery = evaluation.query.samples, evaluation.gallery.samples
    pairs = looked_at_pairs(evaluation.distances, query, gallery, evaluation.fusion_weight, evaluation.same_camera)
    people = np.array([query[position].pid for position in pairs.query.tolist()])
    probability = calibration.probability(pairs.distance, pairs.gallery)
    by_query = np.lexsort((pairs.distance, pairs.query))
    nearest = by_query[np.unique(pairs.query[by_query], return_index=True)[1]]
    return replace(
        decisions,
        reliability=reliability_curve(probability, pairs.same, people),
        nearest=reliability_curve(probability[nearest], pairs.same[nearest], people[nearest]),
    )


def drift_warning(calibration: Calibration, drift: float, where: str) -> str:
    """A warning about scores that differ from those of the calibration; "" if they are close enough."""
    if drift <= calibration.drift_limit:
        return ""
    return (
        f"warning: the scores of {where} are not those that the probabilities were learned from (Kolmogorov–Smirnov "
        f"distance {drift:.2f}, expected at most {calibration.drift_limit:.2g}): do not trust them until python -m "
        "cace_pyg.calibrate has learned them again from labelled pictures of these cameras. Fewer clues of a picture "
        "than in the calibration also change scores, and a few hundred pictures of a few people can differ that much "
        "by chance"
    )
