"""The paper's equations as a direct transcription: what everything else is measured against."""

from typing import Literal

import torch
from torch import Tensor

from cace_pyg.models import ConditionalEmbedding

Diagonals = Literal["vectors", "matrices"]


def as_written(model: ConditionalEmbedding, x_a: Tensor, x_b: Tensor, diagonals: Diagonals = "vectors") -> Tensor:
    """Eq. 2–7 on whole matrices for one pair of images, nothing shared with other pairs, before the encoder.

    Args:
        model: with the paper's attention; its weights are used.
        x_a: clues of image a, ``(n, channel)``.
        x_b: clues of image b.
        diagonals: W, W' and D^-½ are diagonal matrices in the paper. ``vectors`` multiplies rows and columns with
            their diagonals; ``matrices`` makes them matrices and multiplies those, to the letter.

    Returns:
        ``(2, channel)``: the pooled, expanded images a and b, each given the other.
    """
    builder, settings = model.builder, model.settings
    inter = _product(x_a, builder.inter_weight, x_b, diagonals)
    top = torch.cat([_product(x_a, builder.intra_weight, x_a, diagonals), inter], dim=1)
    bottom = torch.cat([inter.T, _product(x_b, builder.intra_weight, x_b, diagonals)], dim=1)
    adjacency = torch.cat([top, bottom]).relu()
    degree = adjacency.sum(1)
    root = torch.where(degree > 0, degree, 1.0).rsqrt() * (degree > 0)
    letter = diagonals == "matrices"
    normalised = root.diag() @ adjacency @ root.diag() if letter else root[:, None] * adjacency * root
    x = torch.cat([x_a, x_b])
    y = (x - normalised @ x) @ model.convolution.lin.weight.T
    if settings.node_wise == "magnitude":
        y = y.abs()
    pooled = y.view(2, len(x_a), -1).mean(1)
    out = model.expansion(pooled)
    return x.view(2, len(x_a), -1).mean(1) + out if settings.residual else out


def _product(x: Tensor, weight: Tensor, y: Tensor, diagonals: Diagonals) -> Tensor:
    return x @ weight.diag() @ y.T if diagonals == "matrices" else (x * weight) @ y.T
