"""The equations as a direct transcription, one pair at a time: what everything else is measured against."""

from typing import Literal

import torch
from torch import Tensor

from cace_pyg.models import ConditionalEmbedding

Diagonals = Literal["vectors", "matrices"]


def as_written(model: ConditionalEmbedding, x_a: Tensor, x_b: Tensor, diagonals: Diagonals = "matrices") -> Tensor:
    """Eq. 2–7 on whole matrices for one pair of images, nothing shared with other pairs, before the encoder.

    Args:
        model: with the paper's attention; its weights are used.
        x_a: clues of image a, ``(n, channel)``.
        x_b: clues of image b.
        diagonals: W, W' and D^-½ are diagonal matrices in the paper. ``matrices`` multiplies them so; ``vectors``
            scales rows and columns instead.

    Returns:
        ``(2, channel)``: the pooled, expanded images a and b, each given the other.
    """
    builder = model.builder
    inter = _product(x_a, builder.inter_weight, x_b, diagonals)
    top = torch.cat([_product(x_a, builder.intra_weight, x_a, diagonals), inter], dim=1)
    bottom = torch.cat([inter.T, _product(x_b, builder.intra_weight, x_b, diagonals)], dim=1)
    return _convolved(model, torch.cat([x_a, x_b]), torch.cat([top, bottom]).relu(), diagonals)


def released_pair(model: ConditionalEmbedding, x_a: Tensor, x_b: Tensor, diagonals: Diagonals = "matrices") -> Tensor:
    """The same with the released attention: the ReLU of the cosine of one projection, without self-loops."""
    x = torch.cat([x_a, x_b])
    key = torch.nn.functional.normalize(model.builder.projection(x), dim=-1)
    between = torch.ones(len(x), len(x)) - torch.eye(len(x))
    return _convolved(model, x, (key @ key.T).relu() * between, diagonals)


def _product(x: Tensor, weight: Tensor, y: Tensor, diagonals: Diagonals) -> Tensor:
    return x @ weight.diag() @ y.T if diagonals == "matrices" else (x * weight) @ y.T


def _convolved(model: ConditionalEmbedding, x: Tensor, adjacency: Tensor, diagonals: Diagonals) -> Tensor:
    """Eq. 7 and what follows up to the encoder, ``(2, channel)``."""
    degree = adjacency.sum(1)
    root = torch.where(degree > 0, degree, 1.0).rsqrt() * (degree > 0)
    as_matrices = diagonals == "matrices"
    normalised = root.diag() @ adjacency @ root.diag() if as_matrices else root[:, None] * adjacency * root
    y = (x - normalised @ x) @ model.convolution.lin.weight.T
    if model.settings.node_wise == "magnitude":
        y = y.abs()
    out = model.expansion(y.view(2, len(x) // 2, -1).mean(1))
    return x.view(2, len(x) // 2, -1).mean(1) + out if model.settings.residual else out
