"""Checks before a training, to fail early."""

from pathlib import Path

import torch

from cace_pyg.config import Config
from cace_pyg.data.matches import count_matches
from cace_pyg.data.sample import Splits
from cace_pyg.engine.build import FROZEN
from cace_pyg.engine.neighbour_rows import configured_choice
from cace_pyg.engine.neighbours import check_reranking
from cace_pyg.models import CaceNet
from cace_pyg.retrieval.metrics import nothing_counts


def check_settings(config: Config) -> None:
    """Check the settings before anything is made or downloaded.

    Raises:
        ValueError: there is nothing to train, there is no such folder or compiler, or settings contradict each other.
    """
    if config.joint_phase.epochs == config.pair_phase.epochs == 0:
        raise ValueError("there is nothing to train: joint_phase.epochs and pair_phase.epochs are both 0")
    if config.embedding.kind == "published" and (config.joint_phase.epochs or config.loss.pairwise_weight):
        raise ValueError(
            f"Expected no joint phase with embedding.kind published, which is not trained (got joint_phase.epochs "
            f"{config.joint_phase.epochs}, loss.pairwise_weight {config.loss.pairwise_weight}); give "
            "--joint_phase.epochs 0 and --loss.pairwise_weight 0, or --embedding.kind trained"
        )
    if config.evaluation.standardise_cameras and (
        config.loss.pairwise_weight or (config.pair_phase.epochs and config.pair_phase.clues == "fresh")
    ):
        raise ValueError(
            "Expected pair_phase.clues cached and loss.pairwise_weight 0 with evaluation.standardise_cameras, whose "
            f"statistics are those of a network that does not change (got pair_phase.clues {config.pair_phase.clues}, "
            f"loss.pairwise_weight {config.loss.pairwise_weight})"
        )
    folder = config.evaluation.clues_on_disk
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(
            f"Expected evaluation.clues_on_disk to be a folder (got {folder}, which does not exist); make it, or leave "
            "the option out"
        )
    if config.compile is not None and config.backbone.name in FROZEN:
        raise ValueError(
            f"torch cannot compile a network of {config.backbone.name}, which has its own runtime (got compile "
            f"{config.compile!r}); leave --compile out"
        )
    backend = config.compile
    if backend is not None and backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        known = [name for name in known if "TESTING" not in name]
        raise ValueError(f"Expected compile to be null or one of {', '.join(known)} (got {backend!r})")
    if config.loss.pairwise_weight > 0 and config.conditional.compare == "aligned_clues":
        raise ValueError(
            "aligned clues have no conditional embeddings, which the pairwise losses of the joint phase compare; give "
            "--loss.pairwise_weight 0 and train the attention in the pair phase"
        )


def check_matches(splits: Splits, config: Config) -> None:
    """Raise ``ValueError`` if no query has a match in the gallery: after all epochs there would be no result."""
    counted, *left_out = count_matches(splits.query, splits.gallery, config.evaluation.same_camera)
    if not counted:
        raise ValueError(nothing_counts(*left_out))


def check_neighbours(splits: Splits, config: Config) -> None:
    """Raise ``ValueError`` if query and gallery have too few pictures for the configured number of neighbours."""
    choice = configured_choice(config, 0.0)
    if choice is not None:
        check_reranking(choice.individual, len({sample.path for sample in (*splits.query, *splits.gallery)}))


def check_trainable(model: CaceNet, config: Config, identities: int, device: torch.device) -> None:
    """Raise errors now that would otherwise come epochs later.

    Args:
        model: as it will be trained.
        config: the run's.
        identities: number of training identities.
        device: that it will be trained on.

    Raises:
        ValueError: the numbers of classes and identities differ, the pair phase has nothing to train, or there are
            pairwise losses but no conditional embeddings.
        RuntimeError: the pair stage's backend does not run on the device.
        FileNotFoundError, ValueError: see the graph builder.
    """
    if model.classifier is not None and model.classifier.out_features != identities:
        raise ValueError(
            f"Expected a model for the {identities} training identities (got num_identities "
            f"{model.classifier.out_features}); those that data.hold_out keeps for validation are not trained on"
        )
    if config.loss.pairwise_weight > 0:
        _ = model.conditional  # raises an error if there is none
    _check_pair_branch(model, config)
    _check_graph(model, config)
    model.pair_stage.check_device(device)


def _check_pair_branch(model: CaceNet, config: Config) -> None:
    if config.pair_phase.epochs > 0 and not model.pair_branch():
        raise ValueError(
            f"the pair phase has nothing to train: {type(model.pair_stage.builder).__name__} has no weights, and "
            "aligned clues are compared without a convolution; give --pair_phase.epochs 0 and a weight, such as "
            "--evaluation.fusion 0.5"
        )


@torch.no_grad()
def _check_graph(model: CaceNet, config: Config) -> None:
    """Build the graph of an empty picture, so that a builder that cannot do it fails before anything is trained."""
    was_training, device = model.training, next(model.parameters()).device
    size = (config.data.height, config.data.width)
    picture = torch.zeros(1, 3, *size, device=device), torch.zeros(1, *size, dtype=torch.uint8, device=device)
    clues = model.eval()(*picture).clues
    model.pair_stage.builder(clues, clues)
    if config.evaluation.gallery_clues is not None:
        model.pair_stage.keep_clues(model.pair_stage.prepare(clues), config.evaluation.gallery_clues)
    model.train(was_training)
