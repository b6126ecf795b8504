"""Evaluates a published network's own embedding."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample
from cace_pyg.data.unknown_people import without_unknown_people
from cace_pyg.engine.build import FROZEN, build_model
from cace_pyg.engine.checkpoint import is_checkpoint
from cace_pyg.engine.distances import labels_of
from cace_pyg.engine.evaluation import tell_standardised
from cace_pyg.engine.extraction import camera_statistics, extract_entries
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.neighbour_rows import configured_choice, neighbour_rows
from cace_pyg.engine.neighbours import find_neighbours
from cace_pyg.engine.results import single_shots
from cace_pyg.retrieval import (
    Metrics,
    OpenSet,
    SingleShot,
    euclidean_distance,
    evaluate,
    evaluate_blocks,
    evaluate_open_set_blocks,
)


def evaluate_published(
    config: Config, query: Sequence[Sample], gallery: Sequence[Sample], single_shot: bool
) -> tuple[dict[str, Metrics], dict[str, SingleShot], dict[str, OpenSet], str]:
    """Rank by the embedding of the network at ``backbone.weights``, see :class:`PublishedEmbedding`.

    Embeddings are compared by cosine, as in fast-reid and in the strong baseline's best rows.

    Returns:
        The metrics by name, including those of re-ranking by neighbours if it is asked for; the single-shot curves by
        name; the decisions by name; and a description of what was evaluated.

    Raises:
        ValueError: there are no weights, they do not fit ``backbone.name``, or neighbours should be chosen on held-out
            identities, but the network may have seen all of them.
    """
    settings = config.backbone
    if settings.weights is None:
        raise ValueError("Expected the weights of a network to evaluate (got none); give --backbone.weights PATH")
    if settings.name not in FROZEN and settings.weights != "imagenet" and is_checkpoint(Path(settings.weights)):
        raise ValueError(f"{settings.weights} is a checkpoint of this library; give it as --checkpoint")
    if config.neighbours.tune:
        raise ValueError(
            "neighbours.tune chooses on identities held out of training, but a published network may have seen any; "
            "leave it out, and give the settings"
        )
    model = build_model(replace(config, embedding=replace(config.embedding, kind="published", pooling="mean")), None)
    device = find_device(config.device)
    model.to(device)
    gallery = without_unknown_people(query, gallery, config.evaluation.unknown_share, config.seed)
    known = camera_statistics(model, gallery, config, device)
    entries = [extract_entries(model, samples, config, device, known) for samples in (query, gallery)]
    labels, policy = labels_of(*(side.samples for side in entries)), config.evaluation.policy()
    of_query, of_gallery = (side.embedding for side in entries)
    distance = euclidean_distance(of_query, of_gallery)
    rows = {"individual": tell_standardised(evaluate(distance, **labels, **policy), config)}
    decide = partial(evaluate_open_set_blocks, **labels, same_camera=config.evaluation.same_camera)
    decisions = {"individual": decide([distance])}
    choice = configured_choice(config, 0.0)
    if choice is not None:
        near = find_neighbours(of_query, of_gallery, labels["own_position"], choice.individual.k1)
        for row in neighbour_rows(near, choice, 0.0, partial(evaluate_blocks, **labels, **policy)):
            rows[row.name], decisions[row.name] = tell_standardised(row.metrics, config), decide(row.ranking.blocks())
    curves = single_shots({"individual": distance}, labels, config.seed) if single_shot else {}
    return rows, curves, decisions, str(model.extractor)
