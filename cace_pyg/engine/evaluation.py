"""Two-stage evaluation (§3.5 of the paper), and the rules for weighting the stages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, overload

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample, Splits
from cace_pyg.data.unknown_people import without_unknown_people
from cace_pyg.engine.distances import Distances, labels_of, measure, random_scores
from cace_pyg.engine.extraction import Extraction, camera_statistics, extract_entries
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.moved_to import moved_to
from cace_pyg.engine.neighbour_rows import (
    NeighbourChoice,
    NeighbourRow,
    choose_neighbours,
    configured_choice,
    measure_neighbours,
    neighbour_rows,
)
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import (
    Calibration,
    Metrics,
    distance_blocks,
    evaluate_blocks,
)


@dataclass(frozen=True)
class Evaluation:
    """The result of both stages on one query and gallery set.

    ``backend`` says what computed the second stage, and why; ``same_camera`` is the protocol's setting;
    ``calibration`` belongs to this fusion weight, and ``drift`` is how far the scores are from those it was learned
    from; ``neighbours`` are the rows of re-ranking by neighbours, if it was asked for.
    """

    query: Extraction
    gallery: Extraction
    distances: Distances
    fusion_weight: float
    individual: Metrics
    two_stage: Metrics
    backend: str
    same_camera: Literal["remove", "keep"]
    calibration: Calibration | None = None
    drift: float | None = None
    neighbours: tuple[NeighbourRow, ...] = ()

    def stages(self) -> dict[str, Metrics]:
        """The metrics of both stages and of re-ranking by neighbours, by name."""
        found = {"individual": self.individual, "two_stage": self.two_stage}
        return found | {row.name: row.metrics for row in self.neighbours}


def evaluate_individual(
    model: CaceNet, query: Sequence[Sample], gallery: Sequence[Sample], config: Config, device: torch.device | str
) -> Metrics:
    """The first stage alone."""
    known = camera_statistics(model, gallery, config, device)
    of_query, of_gallery = (extract_entries(model, samples, config, device, known) for samples in (query, gallery))
    blocks = (block for _, block in distance_blocks(of_query.embedding, of_gallery.embedding))
    return evaluate_blocks(
        blocks, **labels_of(of_query.samples, of_gallery.samples), same_camera=config.evaluation.same_camera
    )


def evaluate_two_stage(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    weight: float,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    calibration: Calibration | None = None,
    choice: NeighbourChoice | None = None,
) -> Evaluation | None:
    """Rank ``gallery`` for every query by individual distance, then re-rank the top k with the conditional distance.

    With several ranks, all take part in extraction and pairs; the first returns the result, the others None. Neighbours
    are re-ranked by ``choice``; None: as the configuration says.
    """
    extracted_query, extracted_gallery, distances = measure(model, query, gallery, config, device, ranks, weight)
    if calibration is not None and calibration.weight != weight:
        calibration = None
    drift = None
    if calibration is not None:
        pairs = config.evaluation.pairs_per_batch
        drift = calibration.drift(
            random_scores(model, extracted_query, extracted_gallery, weight, pairs, device, ranks)
        )
    labels = labels_of(extracted_query.samples, extracted_gallery.samples)
    choice = choice or configured_choice(config, weight)
    neighbours = None
    if choice is not None:
        measured = extracted_query, extracted_gallery, distances
        neighbours = measure_neighbours(model, *measured, config, choice, weight, device, ranks)
    if ranks.rank > 0:
        return None
    entries = extracted_query, extracted_gallery
    protocol = partial(_evaluate_entries, entries, config, **labels, **config.evaluation.policy())
    individual, two_stage = protocol(distances.blocks()), protocol(distances.blocks(weight))
    backend = f"{model.pair_stage.backend} ({model.pair_stage.backend_reason})"
    same_camera = config.evaluation.same_camera
    evaluation = Evaluation(
        extracted_query,
        extracted_gallery,
        distances,
        weight,
        individual,
        two_stage,
        backend,
        same_camera,
        calibration,
        drift,
    )
    if choice is None or neighbours is None:
        return evaluation
    return replace(evaluation, neighbours=neighbour_rows(neighbours, choice, weight, protocol))


def _evaluate_entries(
    entries: tuple[Extraction, Extraction], config: Config, blocks: Iterable[Tensor], **protocol: Any
) -> Metrics:
    """The metrics; if entries are tracks, or cameras were standardised, the policy says so."""
    metrics = tell_standardised(evaluate_blocks(blocks, **protocol), config)
    if all(extraction.views is None for extraction in entries):
        return metrics
    of_query, of_gallery = (len(extraction.embedding) for extraction in entries)
    return replace(metrics, policy=f"{metrics.policy}; track against track: {of_query} over {of_gallery}")


def tell_standardised(metrics: Metrics, config: Config) -> Metrics:
    """The metrics, with a policy that says so if cameras were standardised."""
    if not config.evaluation.standardise_cameras:
        return metrics
    return replace(metrics, policy=f"{metrics.policy}; features: standardised by the gallery's pictures of each camera")


def resolve_fusion_weight(fusion: str | float, chosen: float | None) -> float:
    """The weight that ``evaluation.fusion`` means, given the one chosen on held-out identities in training.

    Raises:
        ValueError: ``auto`` if no weight was chosen, or a weight outside [0, 1].
    """
    if fusion == "paper":
        return 1.0
    if fusion == "auto":
        if chosen is None:
            raise ValueError(
                "evaluation.fusion auto needs a weight chosen on held-out identities, and this run had none "
                "(data.hold_out 0, or no pair branch trained); give --evaluation.fusion paper or a number in [0, 1]"
            )
        return chosen
    if not 0 <= float(fusion) <= 1:
        raise ValueError(f"Expected evaluation.fusion auto, paper or a number in [0, 1] (got {fusion})")
    return float(fusion)


@overload
def evaluate_model(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    fusion_weight: float | None = None,
    *,
    held_out: Splits | None = None,
    calibration: Calibration | None = None,
) -> Evaluation: ...


@overload
def evaluate_model(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    fusion_weight: float | None,
    fabric: Fabric | None,
    held_out: Splits | None = None,
    calibration: Calibration | None = None,
) -> Evaluation | None: ...


def evaluate_model(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    fusion_weight: float | None = None,
    fabric: Fabric | None = None,
    held_out: Splits | None = None,
    calibration: Calibration | None = None,
) -> Evaluation | None:
    """Both stages, with the fusion weight that the configuration asks for.

    Args:
        model: what ranks; it is put into evaluation mode, and is back on its own device afterwards.
        query: query pictures.
        gallery: gallery pictures.
        config: the run's.
        fusion_weight: the weight chosen on held-out identities in training, for ``evaluation.fusion auto``.
        fabric: of all ranks that take part, of which the first returns the result; None: only this process.
        calibration: what fused distances mean, from the checkpoint; ignored if it belongs to another weight.
        held_out: query and gallery of identities held out of training, for ``neighbours.tune``.

    Raises:
        ValueError: ``neighbours.tune`` without held-out identities, or see :func:`resolve_fusion_weight`.
    """
    weight = fusion_weight_of(config, fusion_weight)
    device = fabric.device if fabric else find_device(config.device)
    ranks = Ranks(fabric.global_rank, fabric.world_size) if fabric else Ranks()
    gallery = without_unknown_people(query, gallery, config.evaluation.unknown_share, config.seed)
    with moved_to(model, device):
        choice = None
        if config.neighbours.tune:
            chosen_on = ((), ()) if held_out is None else (held_out.query, held_out.gallery)
            choice = choose_neighbours(model, *chosen_on, config, weight, device, ranks)
        return evaluate_two_stage(model, query, gallery, config, weight, device, ranks, calibration, choice)


def fusion_weight_of(config: Config, chosen: float | None) -> float:
    """The weight of the conditional distance that a run's configuration asks for.

    Without a trained pair branch the second stage has no information, so its weight is 0 unless a number is given.

    Args:
        config: the run's.
        chosen: the weight chosen on held-out identities in training.

    Raises:
        ValueError: see :func:`resolve_fusion_weight`.
    """
    untrained = config.evaluation.fusion == "auto" and not trains_pairs(config)
    return 0.0 if untrained else resolve_fusion_weight(config.evaluation.fusion, chosen)


def trains_pairs(config: Config) -> bool:
    """Whether a run of this configuration trains its pair branch."""
    return config.loss.pairwise_weight > 0 or config.pair_phase.epochs > 0


def check_fusion(config: Config) -> None:
    """Raise ``ValueError`` if ``evaluation.fusion`` asks for a weight that this run cannot choose."""
    if config.evaluation.fusion != "auto":
        resolve_fusion_weight(config.evaluation.fusion, None)
    elif trains_pairs(config) and config.data.hold_out == 0:
        raise ValueError(
            "evaluation.fusion auto chooses its weight on held-out identities, but data.hold_out is 0; "
            "hold some out, or give --evaluation.fusion paper or a number in [0, 1]"
        )
