"""Evaluation of a published network's own embedding."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample
from cace_pyg.data.unknown_people import without_unknown_people
from cace_pyg.engine.build import FROZEN, build_model
from cace_pyg.engine.checkpoint import is_checkpoint
from cace_pyg.engine.evaluation import labels_of
from cace_pyg.engine.extraction import extract_embeddings
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.results import FurtherResults, further_results
from cace_pyg.retrieval import Metrics, euclidean_distance, evaluate, evaluate_open_set


def evaluate_published(
    config: Config, query: Sequence[Sample], gallery: Sequence[Sample], k_reciprocal: bool, single_shot: bool
) -> tuple[Metrics, FurtherResults, str]:
    """Rank by the embedding of the network at ``backbone.weights``, see :class:`PublishedEmbedding`.

    Embeddings are compared by direction, as fast-reid does and the strong baseline's best rows do.

    Returns:
        The metrics, what else was asked for, and a description of what was evaluated.

    Raises:
        ValueError: there are no weights, or they do not fit ``backbone.name``.
    """
    settings = config.backbone
    if settings.weights is None:
        raise ValueError("Expected the weights of a network to evaluate (got none); give --backbone.weights PATH")
    if settings.name not in FROZEN and settings.weights != "imagenet" and is_checkpoint(Path(settings.weights)):
        raise ValueError(f"{settings.weights} is a checkpoint of this library; give it as --checkpoint")
    model = build_model(replace(config, embedding=replace(config.embedding, kind="published", pooling="mean")), None)
    device = find_device(config.device)
    model.to(device)
    gallery = without_unknown_people(query, gallery, config.evaluation.unknown_share, config.seed)
    of_query, of_gallery = (extract_embeddings(model, samples, config, device) for samples in (query, gallery))
    embeddings, labels = (of_query, of_gallery), labels_of(query, gallery)
    distance = euclidean_distance(*embeddings)
    further = further_results({"individual": distance}, embeddings, labels, config, k_reciprocal, single_shot)
    further.open_set["individual"] = evaluate_open_set(distance, **labels, same_camera=config.evaluation.same_camera)
    metrics = evaluate(distance, **labels, **config.evaluation.policy())
    return metrics, further, str(model.extractor)
