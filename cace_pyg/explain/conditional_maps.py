"""Conditional feature maps of a trained model (Fig. 4 of the paper)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.engine.checkpoint import load_model
from cace_pyg.engine.extraction import extract_clues
from cace_pyg.explain.pair_view import picture_samples
from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet
from cace_pyg.read_picture import Picture
from cace_pyg.retrieval import euclidean_distance
from cace_pyg.viz import ConditionalMap, conditional_maps


def draw_conditional_maps(checkpoint: Path, query: Path, gallery: Sequence[Path], config: Config) -> Figure:
    """One query by itself and given each of some gallery images: L2 norm of each clue, and its change.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        query: a picture's file.
        gallery: one to eight pictures' files.
        config: the checkpoint's, or one with other settings that its weights still fit.

    Returns:
        The figure of :func:`cace_pyg.viz.clue_maps`, with the individual and the conditional distance above each
        gallery image.

    Raises:
        FileNotFoundError: there is no such picture or checkpoint.
        ValueError: a file is not a picture, the checkpoint does not fit, or the model has no conditional embeddings.
    """
    samples = picture_samples([query, *gallery])
    model, _ = load_model(checkpoint, config)
    embedding, clues = extract_clues(model, samples, replace(config, data=replace(config.data, workers=0)), "cpu")
    return conditional_maps_figure(model, embedding, clues, [query, *gallery])


@torch.no_grad()
def conditional_maps_figure(model: CaceNet, embedding: Tensor, clues: Clues, pictures: Sequence[Picture]) -> Figure:
    """:func:`draw_conditional_maps` for clues that are known already; the first image is the query.

    Args:
        model: on the CPU, in evaluation mode.
        embedding: unit-length individual embeddings, ``(image, embedding)``.
        clues: of each image.
        pictures: of each image.
    """
    query, gallery = clues.select(slice(0, 1)), clues.select(slice(1, None))
    given_query, given_gallery = (
        _norms(maps, clues.grid) for maps in model.conditional.conditional_maps(query, gallery)
    )
    before = _norms(clues.features, clues.grid)
    individual = euclidean_distance(embedding[:1], embedding[1:])[0]
    conditional = model.pair_stage.distance(model.pair_stage.prepare(query), model.pair_stage.prepare(gallery))
    maps = [
        ConditionalMap(picture, of_query, own_before, own, f"{near:.2f} → {nearer:.2f}")
        for picture, of_query, own_before, own, near, nearer in zip(
            pictures[1:], given_query, before[1:], given_gallery, individual, conditional, strict=True
        )
    ]
    return conditional_maps(pictures[0], before[0], maps, "distance from the query: individual → conditional")


def _norms(features: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """L2 norm of each clue, ``(image, H, W)``."""
    return features.norm(dim=-1).unflatten(-1, grid).numpy()
