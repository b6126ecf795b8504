"""Chooses the fusion weight and learns the calibration on held-out people."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample
from cace_pyg.engine.distances import Distances, labels_of, looked_at_pairs, measure, random_scores, second_stage
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.engine.extraction import Extraction
from cace_pyg.models import CaceNet
from cace_pyg.progress import write_line
from cace_pyg.retrieval import Calibration, Metrics, choose_fusion_weight, evaluate, fit_calibration
from cace_pyg.retrieval.calibration import Form
from cace_pyg.retrieval.fusion import FusionChoice


class Validation(NamedTuple):
    """The fusion weight with the best mAP, individual metrics, and a calibration (None: too few pairs)."""

    choice: FusionChoice
    individual: Metrics
    calibration: Calibration | None


def validate_pairs(
    model: CaceNet, query: Sequence[Sample], gallery: Sequence[Sample], config: Config, device: torch.device | str
) -> Validation:
    """Choose the fusion weight on held-out people, and calibrate with it, or with the weight in the configuration."""
    of_query, of_gallery, distances = measure(model, query, gallery, config, device)
    labels = labels_of(query, gallery)
    same_camera = config.evaluation.same_camera
    individual = distances.individual()
    pairs = distances.index, distances.conditional
    choice = choose_fusion_weight(individual, *pairs, **labels, same_camera=same_camera)
    metrics = evaluate(individual, **labels, same_camera=same_camera)
    weight = fusion_weight_of(config, choice.weight)  # as in searches
    if config.evaluation.gallery_neighbours and weight > 0:  # calibrate on the pairs that a search compares
        distances = second_stage(model, of_query, of_gallery, config, device, weight=weight)
    try:
        calibration = calibrate(model, of_query, of_gallery, distances, weight, config, device)
    except ValueError as error:
        write_line(f"warning: no calibration: {error}")
        calibration = None
    return Validation(choice, metrics, calibration)


def calibrate_on(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    weight: float,
    device: torch.device | str,
    form: Form = "logistic",
) -> Calibration:
    """Calibrate the fused distances of a model on the people of a query and a gallery set.

    Raises:
        ValueError: see :func:`cace_pyg.retrieval.fit_calibration`.
    """
    measured = measure(model, query, gallery, config, device, weight=weight)
    return calibrate(model, *measured, weight, config, device, form)


def calibrate(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    distances: Distances,
    weight: float,
    config: Config,
    device: torch.device | str,
    form: Form = "logistic",
) -> Calibration:
    """:func:`calibrate_on`, from the result of :func:`cace_pyg.engine.distances.measure`."""
    pairs = looked_at_pairs(distances, query.samples, gallery.samples, weight, config.evaluation.same_camera)
    scores = random_scores(model, query, gallery, weight, config.evaluation.pairs_per_batch, device)
    pids = [sample.pid for sample in query.samples]
    return fit_calibration(pairs.distance, pairs.same, pairs.query, pids, scores, pairs.gallery, weight, form)
