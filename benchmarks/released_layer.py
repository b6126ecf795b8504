"""The pair layer of the authors' released code, written again from its description."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models import ConditionalEmbedding


def released_layer(model: ConditionalEmbedding, clues: Clues) -> Tensor:
    """All B² ordered pairs at once, self-pairs included, with whole matrices and diagonal ones multiplied as full.

    Attention: the ReLU of the cosine of one projection, without self-loops. Convolution: X + o(N(D − A)N g(X)) with
    N = D^-½ where the degree exceeds 1e-3, else 1, detached. Each ordered pair's map is built on its own, so a pair
    is computed twice, and of the second image nothing is kept.

    Args:
        model: with the released attention, ``residual``, ``node_wise="identity"``, ``degree_floor="released"``.
        clues: of a batch.

    Returns:
        ``(image a, image b, channel)``: the pooled clues of a given b, before the encoder.
    """
    images, n, channels = clues.features.shape
    first, second = torch.cartesian_prod(torch.arange(images), torch.arange(images)).T
    x = torch.cat([clues.features[first], clues.features[second]], dim=1)  # (pair, 2n, channel)
    key = torch.nn.functional.normalize(model.builder.projection(x), dim=-1)
    adjacency = (key @ key.mT).relu().masked_fill(_self_loops(n), 0.0)
    degree = adjacency.sum(-1)
    root = torch.where(degree > 1e-3, degree, 1.0).rsqrt().detach().diag_embed()
    laplacian = root @ (degree.diag_embed() - adjacency) @ root
    y = x + model.expansion(laplacian @ model.convolution.lin(x))
    return y[:, :n].mean(1).view(images, images, channels)


def _self_loops(n: int) -> Tensor:
    return torch.eye(2 * n, dtype=torch.bool)
