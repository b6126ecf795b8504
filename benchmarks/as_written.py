"""The equations as written, with a model's weights, and the usual baselines; nothing is shared between pairs."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models import ConditionalEmbedding
from cace_pyg.nn import reference


def as_written(model: ConditionalEmbedding, x_a: Tensor, x_b: Tensor) -> Tensor:
    """One pair of images before the encoder, on whole matrices, the diagonal ones W, W' and D^-½ multiplied too.

    Args:
        model: with either form of the attention, uncut; its weights are used.
        x_a: clues of image a, ``(n, channel)``.
        x_b: clues of image b.

    Returns:
        ``(2, channel)``: the pooled, expanded images a and b, each given the other.
    """
    x, theta = torch.cat([x_a, x_b]), model.convolution.lin.weight
    if model.builder.form == "paper":
        adjacency = reference.paper_adjacency(x_a, x_b, model.builder.intra_weight, model.builder.inter_weight)
    else:
        adjacency = reference.released_adjacency(x, model.builder.projection.weight)
    convolved = reference.convolve(x, adjacency, theta, model.convolution.mode, model.convolution.degree_floor)
    return _pooled(model, x, convolved)


def scaled(model: ConditionalEmbedding, x_a: Tensor, x_b: Tensor) -> Tensor:
    """Eq. 7 with scaled rows and columns instead of products with diagonal matrices."""
    x = torch.cat([x_a, x_b])
    if model.builder.form == "paper":
        inter = (x_a * model.builder.inter_weight) @ x_b.T
        top = torch.cat([(x_a * model.builder.intra_weight) @ x_a.T, inter], dim=1)
        bottom = torch.cat([inter.T, (x_b * model.builder.intra_weight) @ x_b.T], dim=1)
        adjacency = torch.cat([top, bottom]).relu()
    else:
        adjacency = reference.released_adjacency(x, model.builder.projection.weight)
    degree = adjacency.sum(1)
    root = torch.where(degree > 0, degree, 1.0).rsqrt() * (degree > 0)
    return _pooled(model, x, (x - (root[:, None] * adjacency * root) @ x) @ model.convolution.lin.weight.T)


def released_layer(model: ConditionalEmbedding, clues: Clues) -> Tensor:
    """The pair layer of the authors' released code: all B² ordered pairs at once, self-pairs included.

    X + o(N(D − A)N g(X)) on whole matrices, including products with the diagonal ones. Each ordered pair's map is
    computed separately, so every pair is computed twice, and the second image's result is discarded.

    Args:
        model: with the released attention, ``residual``, ``node_wise="identity"``, ``degree_floor="released"``.
        clues: of a batch.

    Returns:
        ``(image a, image b, channel)``: the pooled clues of a given b, before the encoder.
    """
    images, n, channels = clues.features.shape
    first, second = torch.cartesian_prod(torch.arange(images), torch.arange(images)).T
    x = torch.cat([clues.features[first], clues.features[second]], dim=1)  # (pair, 2n, channel)
    adjacency = reference.released_adjacency(x, model.builder.projection.weight)
    convolved = reference.propagation(adjacency, degree_floor="released") @ model.convolution.lin(x)
    maps = reference.expand(convolved, model.expansion.weight, x)
    return maps[:, :n].mean(1).view(images, images, channels)


def _pooled(model: ConditionalEmbedding, x: Tensor, convolved: Tensor) -> Tensor:
    pooled = reference.pool(reference.node_wise(convolved, model.node_wise.form))
    expansion = getattr(model.expansion, "weight", None)  # the identity in the literal form
    return reference.expand(pooled, expansion, reference.pool(x) if model.settings.residual else None)
