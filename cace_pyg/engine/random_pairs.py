"""Scores of pairs drawn at random, which need no labels: what a drift of cameras is seen by."""

import torch
from torch import Tensor

from cace_pyg.models import CaceNet, PairOperand

_ITSELF = 1e-3  # distance below which an image was drawn with itself


@torch.no_grad()
def random_scores(
    model: CaceNet,
    a: tuple[Tensor, PairOperand],
    b: tuple[Tensor, PairOperand],
    weight: float,
    pairs_per_batch: int,
    device: torch.device | str,
    pairs: int = 1000,
    seed: int = 0,
) -> Tensor:
    """Fused distances of pairs of an image of ``a`` and another of ``b``, drawn with replacement.

    Args:
        model: in evaluation mode, on ``device``.
        a: unit-length individual embeddings and the pair stage's input of some images.
        b: the same of others, or of the same.
        weight: of the conditional distance.
        pairs_per_batch: pairs a forward pass.
        device: of the model.
        pairs: how many to draw.
        seed: of the draw.

    Returns:
        ``(pair,)``, float64, on the CPU; without pairs of an image and itself, which are at distance 0.
    """
    draw = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(len(embedding), (pairs,), generator=draw) for embedding, _ in (a, b))
    individual = (a[0][first].double() - b[0][second].double()).norm(dim=1)
    if weight > 0:
        conditional = [
            model.pair_stage.distance(a[1].select(one).to(device), b[1].select(other).to(device)).cpu().double()
            for one, other in zip(first.split(pairs_per_batch), second.split(pairs_per_batch), strict=True)
        ]
        fused = (1 - weight) * individual + weight * torch.cat(conditional)
    else:
        fused = individual
    return fused[individual > _ITSELF]
