"""The discrepancy convolution of pairs of images on the blocks of their adjacency, and the pooling that follows.

Both functions take, for each pair, the projected clues of a and b, ``(pair, n, channel)``, and the blocks ``intra_a``,
``inter`` (rows: nodes of a) and ``intra_b``, ``(pair, n, n)``; intra blocks of ``(pair, 0, 0)`` have no edge. One image
a may stand for all pairs: its tensors then are ``(1, n, …)``, and nothing is copied. The caller projects the clues
(``DiscrepancyConv.lin``) and draws the intra blocks, once per image whatever number of pairs it enters. The 2n×2n
matrix is never put together.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cace_pyg.kernels import ReluGram, relu_gram_products
from cace_pyg.nn.degree import DegreeFloor, Mode, Normalisation, check_form, node_degree, normalise_degree, sign_of
from cace_pyg.nn.node_wise import NodeWise


class _Side(NamedTuple):
    """One image of each pair."""

    projected: Tensor
    intra: Tensor
    norm: Normalisation


def pool_blocks(
    projected_a: Tensor,
    projected_b: Tensor,
    intra_a: Tensor,
    inter: Tensor | ReluGram,
    intra_b: Tensor,
    mode: Mode = "discrepancy",
    degree_floor: DegreeFloor = "textbook",
    node_wise: NodeWise | None = None,
) -> tuple[Tensor, Tensor]:
    r"""``mean_i node_wise(DiscrepancyConv(x)_i)`` over the nodes of image a and over those of b, ``(pair, channel)``.

    With the identity (or none) as ``node_wise`` everything after the adjacency is linear and :math:`L` is symmetric, so
    :math:`p^\top (L X) = (L p)^\top X`: the convolution runs on the *pooling vector* (two numbers a node), and one
    weighted sum of the projected clues follows. This is exact with average pooling only. The other forms of
    :class:`NodeWise` are not linear: they take the map path, :func:`convolve_blocks`, which costs ``channel / 2`` times
    the arithmetic.

    Args:
        projected_a, projected_b, intra_a, inter, intra_b: see the module. With the identity, ``inter`` may be a
            :class:`~cace_pyg.kernels.ReluGram` instead, which the fused kernel never puts together (CUDA).
        mode, degree_floor: see :class:`~cace_pyg.nn.DiscrepancyConv`.
        node_wise: between convolution and pooling.

    Raises:
        ValueError: an unknown mode or floor, or a ReluGram with a node-wise function that is not linear.
    """
    if node_wise is not None and node_wise.form != "identity":
        if isinstance(inter, ReluGram):
            raise ValueError(
                f"Expected the inter block itself, (pair, n, n), with node_wise {node_wise.form!r} (got a ReluGram, of "
                "which only products with vectors are known); ReluGram.block() puts it together"
            )
        maps = convolve_blocks(projected_a, projected_b, intra_a, inter, intra_b, mode, degree_floor)
        pooled_a, pooled_b = (node_wise.mean(one) for one in maps)
        return pooled_a, pooled_b
    norm_a, norm_b = _normalise(intra_a, inter, intra_b, mode, degree_floor)
    pooling_a, pooling_b = norm_a.scale / projected_a.size(-2), norm_b.scale / projected_b.size(-2)
    to_a, to_b = _times(inter, pooling_a, pooling_b)
    a, b = _Side(projected_a, intra_a, norm_a), _Side(projected_b, intra_b, norm_b)
    return _pool(a, b, to_b, sign_of(mode)), _pool(b, a, to_a, sign_of(mode))


def convolve_blocks(
    projected_a: Tensor,
    projected_b: Tensor,
    intra_a: Tensor,
    inter: Tensor,
    intra_b: Tensor,
    mode: Mode = "discrepancy",
    degree_floor: DegreeFloor = "textbook",
) -> tuple[Tensor, Tensor]:
    """The convolved nodes of a and of b, ``(pair, n, channel)``: the map path.

    Args:
        projected_a, projected_b, intra_a, inter, intra_b: see the module.
        mode, degree_floor: see :class:`~cace_pyg.nn.DiscrepancyConv`.

    Raises:
        ValueError: an unknown mode or floor.
    """
    norm_a, norm_b = _normalise(intra_a, inter, intra_b, mode, degree_floor)
    scaled_a = (norm_a.scale.unsqueeze(-1) * projected_a).to(projected_a.dtype)
    scaled_b = (norm_b.scale.unsqueeze(-1) * projected_b).to(projected_b.dtype)
    neighbours_a = _neighbours(intra_a, scaled_a, inter, scaled_b)
    neighbours_b = _neighbours(intra_b, scaled_b, inter.mT, scaled_a)
    sign = sign_of(mode)
    return _combine(projected_a, neighbours_a, norm_a, sign), _combine(projected_b, neighbours_b, norm_b, sign)


def _normalise(
    intra_a: Tensor, inter: Tensor | ReluGram, intra_b: Tensor, mode: Mode, floor: DegreeFloor
) -> tuple[Normalisation, Normalisation]:
    check_form(mode, floor)
    to_a, to_b = _sums(inter)
    degree_a = node_degree(intra_a) + to_a if intra_a.size(-1) else to_a
    degree_b = node_degree(intra_b) + to_b if intra_b.size(-1) else to_b
    return normalise_degree(degree_a, mode, floor), normalise_degree(degree_b, mode, floor)


def _neighbours(intra: Tensor, own: Tensor, inter: Tensor, other: Tensor) -> Tensor:
    """What reaches each node of one image, ``(pair, n, channel)``."""
    return torch.baddbmm(intra @ own, inter, other) if intra.size(-1) else torch.bmm(inter, other)


def _pool(own: _Side, other: _Side, crossed: Tensor, sign: float) -> Tensor:
    """Run the convolution on the pooling vector of one image, then weigh the clues of both with the result.

    ``crossed`` is the pooling vector times the inter block, ``(pair, n of the other)``.
    """
    n, scale = own.projected.size(-2), own.norm.scale.unsqueeze(-2)
    on_own = own.norm.self_weight.unsqueeze(-2) / n
    if own.intra.size(-1):
        on_own = on_own + sign * scale * ((scale / n).to(own.intra.dtype) @ own.intra)
    on_other = sign * (other.norm.scale * crossed).unsqueeze(-2)
    weighed = on_own.to(own.projected.dtype) @ own.projected + on_other.to(other.projected.dtype) @ other.projected
    return weighed.squeeze(-2)


def _combine(own: Tensor, neighbours: Tensor, norm: Normalisation, sign: float) -> Tensor:
    """What a node keeps of itself, and its neighbours on top."""
    kept = norm.self_weight.unsqueeze(-1) * own
    return torch.addcmul(kept, norm.scale.unsqueeze(-1), neighbours.to(kept), value=sign).to(own.dtype)


def _sums(inter: Tensor | ReluGram) -> tuple[Tensor, Tensor]:
    """What the inter edges add to the degrees of a and of b."""
    if not isinstance(inter, ReluGram):
        return node_degree(inter), node_degree(inter, -2)
    ones = (x.new_ones(1, x.size(1), dtype=torch.float32) for x in (inter.x_a, inter.x_b))
    return relu_gram_products(inter, *ones)


def _times(inter: Tensor | ReluGram, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The inter block times ``right`` (pair, n_b), and its transpose times ``left`` (pair, n_a)."""
    if isinstance(inter, ReluGram):
        return relu_gram_products(inter, left, right)
    left, right = left.unsqueeze(-2).to(inter.dtype), right.unsqueeze(-2).to(inter.dtype)
    return (right @ inter.mT).squeeze(-2), (left @ inter).squeeze(-2)
