"""Settings of a run that cannot work, whatever the pictures are."""

from pathlib import Path

import torch

from cace_pyg.config import Config


def check_settings(config: Config) -> None:
    """Refuse them before anything is made or downloaded.

    Raises:
        ValueError: there is nothing to train, no such folder or compiler, or settings that do not go together.
    """
    if config.train.epochs == config.pair_phase.epochs == 0:
        raise ValueError("there is nothing to train: train.epochs and pair_phase.epochs are both 0")
    folder = config.evaluation.clues_on_disk
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(
            f"Expected evaluation.clues_on_disk to be a folder (got {folder}, where there is none); make it, or leave "
            "the option out"
        )
    backend = config.train.compile
    if backend is not None and backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise ValueError(f"Expected train.compile to be null or one of {', '.join(known)} (got {backend!r})")
    if config.loss.pairwise_weight > 0 and config.conditional.compare == "aligned_clues":
        raise ValueError(
            "aligned clues have no conditional embeddings, which the pairwise losses of the joint phase compare; give "
            "--loss.pairwise_weight 0 and train the attention in the pair phase"
        )
