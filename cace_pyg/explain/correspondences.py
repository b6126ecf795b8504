"""The model's correspondences next to those of plain similarity (Fig. 5 of the paper)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.engine.checkpoint import load_model
from cace_pyg.engine.extraction import extract_clues
from cace_pyg.explain.pair_view import inter_shares, picture_samples
from cace_pyg.graph import Clues, TopKSimilarity
from cace_pyg.models import CaceNet
from cace_pyg.viz import compared_correspondences


def draw_correspondences(checkpoint: Path, pair: tuple[Path, Path], config: Config, strongest: int = 20) -> Figure:
    """For the clues of a with the largest weights in the model's graph: the partner with the largest weight, and the
    partner that :class:`~cace_pyg.graph.TopKSimilarity` chooses for the same clues.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        pair: the files of a and b.
        config: the checkpoint's, or one with other settings that its weights still fit.
        strongest: how many clues of a.

    Returns:
        The figure of :func:`cace_pyg.viz.correspondences`.

    Raises:
        FileNotFoundError: there is no such picture or checkpoint.
        ValueError: a file is not a picture, or the checkpoint does not fit.
    """
    samples = picture_samples(pair)
    model, _ = load_model(checkpoint, config)
    _, clues = extract_clues(model, samples, replace(config, data=replace(config.data, workers=0)), "cpu")
    learned, similar = compare_partners(model, clues.select(slice(0, 1)), clues.select(slice(1, 2)), strongest)
    name = type(model.pair_stage.builder).__name__
    same = int((learned[:, 1] == similar[:, 1]).sum())
    return compared_correspondences(
        *pair,
        {name: learned, "TopKSimilarity": similar} if name != "TopKSimilarity" else {name: learned},
        clues.grid,
        captions={
            name: f"partner with the largest weight, share in the propagation {_range(100 * learned[:, 2])} %",
            "TopKSimilarity": f"most similar clue, cosine {_range(similar[:, 2])}",
        },
        title=f"a: {pair[0].name}   ·   b: {pair[1].name}\n"
        f"the {len(learned)} clues of a with the largest weights; the same partner for {same} of them",
    )


@torch.no_grad()
def compare_partners(model: CaceNet, a: Clues, b: Clues, strongest: int) -> tuple[np.ndarray, np.ndarray]:
    """The strongest partner in b of the same clues of a, by the model's graph and by similarity.

    Args:
        model: on the CPU, in evaluation mode.
        a: clues of one image.
        b: clues of one image.
        strongest: how many clues of a, those with the strongest edge in the model's graph.

    Returns:
        Rows (clue of a, clue of b, weight) for each, ``(clue, 3)``; weights are shares in the propagation and cosines,
        or 0 if there is no edge.
    """
    blocks = model.pair_stage.blocks(model.pair_stage.prepare(a), model.pair_stage.prepare(b))
    share = inter_shares(blocks, model.pair_stage.settings)[0]
    by_similarity = TopKSimilarity(a.features.size(-1), k=1, weighted=True)
    cosine = by_similarity.inter(by_similarity.prepare(a), by_similarity.prepare(b))[0]
    start = share.amax(-1).topk(min(strongest, len(share))).indices
    return _partners(share, start), _partners(cosine, start)


def _partners(weight: Tensor, start: Tensor) -> np.ndarray:
    most, partner = weight[start].max(-1)
    return torch.stack([start.double(), partner.double(), most.double()], dim=-1).numpy()


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2g} to {values.max():.2g}"
