"""The discrepancy convolution of pairs of images on the blocks of their adjacency, and the pooling that follows.

Both functions take, for each pair, the projected clues of a and b, ``(pair, n, channel)``, and the blocks ``intra_a``,
``inter`` (rows: nodes of a) and ``intra_b``, ``(pair, n, n)``; intra blocks of ``(pair, 0, 0)`` have no edges. One
image a may be shared by all pairs: its tensors are then ``(1, n, …)``, and nothing is copied. The caller projects the
clues (``DiscrepancyConv.lin``) and builds the intra blocks, once per image however many pairs it is in. The 2n×2n
matrix is never built.
"""

from typing import Any, NamedTuple

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
    :class:`NodeWise` are not linear. They use :func:`convolve_blocks` on the whole map, which needs ``channel / 2``
    times the arithmetic.

    Args:
        projected_a, projected_b, intra_a, inter, intra_b: see the module. With the identity, ``inter`` may be a
            :class:`~cace_pyg.kernels.ReluGram` instead, whose block the fused kernel never builds (CUDA).
        mode, degree_floor: see :class:`~cace_pyg.nn.DiscrepancyConv`.
        node_wise: between convolution and pooling.

    Raises:
        ValueError: the mode or floor is unknown, or a ReluGram comes with a node-wise function that is not linear.
    """
    if node_wise is not None and node_wise.form != "identity":
        if isinstance(inter, ReluGram):
            raise ValueError(
                f"Expected the inter block itself, (pair, n, n), with node_wise {node_wise.form!r} (got a ReluGram, "
                "which only gives products with vectors); ReluGram.block() computes the block"
            )
        maps = convolve_blocks(projected_a, projected_b, intra_a, inter, intra_b, mode, degree_floor)
        pooled_a, pooled_b = (node_wise.mean(convolved) for convolved in maps)
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
    """The convolved nodes of a and of b, ``(pair, n, channel)``.

    Args:
        projected_a, projected_b, intra_a, inter, intra_b: see the module.
        mode, degree_floor: see :class:`~cace_pyg.nn.DiscrepancyConv`.

    Raises:
        ValueError: the mode or floor is unknown.
    """
    inputs = projected_a, projected_b, intra_a, inter, intra_b
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        convolved_a, convolved_b = _Convolution.apply(*inputs, mode, degree_floor)
        return convolved_a, convolved_b
    norm_a, norm_b = _normalise(intra_a, inter, intra_b, mode, degree_floor)
    a, b = _Side(projected_a, intra_a, norm_a), _Side(projected_b, intra_b, norm_b)
    reached_a, reached_b = _reach(a, _scaled(a, projected_a), inter, b, _scaled(b, projected_b))
    return _combine(a, projected_a, reached_a, mode, degree_floor), _combine(
        b, projected_b, reached_b, mode, degree_floor
    )


class _Convolution(torch.autograd.Function):
    """:func:`convolve_blocks` with an explicit gradient.

    The inter block, the largest tensor of a pair, is used in both degrees and both products. Autograd would allocate a
    gradient of its size for each of the four and add them; here each is added as it is computed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        projected_a: Tensor,
        projected_b: Tensor,
        intra_a: Tensor,
        inter: Tensor,
        intra_b: Tensor,
        mode: Mode,
        degree_floor: DegreeFloor,
    ) -> tuple[Tensor, Tensor]:
        norm_a, norm_b = _normalise(intra_a, inter, intra_b, mode, degree_floor)
        a, b = _Side(projected_a, intra_a, norm_a), _Side(projected_b, intra_b, norm_b)
        reached = _reach(a, _scaled(a, projected_a), inter, b, _scaled(b, projected_b))
        ctx.save_for_backward(projected_a, projected_b, intra_a, inter, intra_b, *norm_a, *norm_b, *reached)
        ctx.form = mode, degree_floor
        return (
            _combine(a, projected_a, reached[0], mode, degree_floor),
            _combine(b, projected_b, reached[1], mode, degree_floor),
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_a: Tensor, gradient_b: Tensor) -> tuple[Tensor | None, ...]:
        x_a, x_b, *blocks, scale_a, self_a, scale_b, self_b, reached_a, reached_b = ctx.saved_tensors
        intra_a, inter, intra_b = (block.to(reached_a.dtype) for block in blocks)  # autocast was for the forward pass
        a = _Side(x_a, intra_a.mT, Normalisation(scale_a, self_a))
        b = _Side(x_b, intra_b.mT, Normalisation(scale_b, self_b))
        sign = sign_of(ctx.form[0])
        back_a, back_b = _scaled(a, gradient_a, reached_a.dtype), _scaled(b, gradient_b, reached_b.dtype)
        returned_a, returned_b = _reach(a, back_a, inter, b, back_b)
        of_degree_a = _degree_gradient(a, gradient_a, reached_a, returned_a, *ctx.form)
        of_degree_b = _degree_gradient(b, gradient_b, reached_b, returned_b, *ctx.form)
        scaled_a, scaled_b = _scaled(a, x_a, reached_a.dtype), _scaled(b, x_b, reached_b.dtype)
        scaled_a = scaled_a.expand_as(back_a)
        of_inter = torch.bmm(back_a, scaled_b.mT)
        of_inter = torch.baddbmm(of_inter, scaled_a, back_b.mT, beta=sign, alpha=sign)
        of_inter += of_degree_a.to(of_inter.dtype).unsqueeze(-1)  # in of_inter's precision, which is four times as fast
        of_inter += of_degree_b.to(of_inter.dtype).unsqueeze(-2)
        of_intra_a = _intra_gradient(a, back_a, scaled_a, of_degree_a, sign)
        of_intra_b = _intra_gradient(b, back_b, scaled_b, of_degree_b, sign)
        of_x_a = _combine(a, gradient_a, returned_a, *ctx.form).sum_to_size(x_a.shape)
        of_x_b = _combine(b, gradient_b, returned_b, *ctx.form)
        gradients = of_x_a, of_x_b, of_intra_a, of_inter, of_intra_b
        inputs = x_a, x_b, *blocks
        return *(value.to(other.dtype) for value, other in zip(gradients, inputs, strict=True)), None, None


def _normalise(
    intra_a: Tensor, inter: Tensor | ReluGram, intra_b: Tensor, mode: Mode, floor: DegreeFloor
) -> tuple[Normalisation, Normalisation]:
    check_form(mode, floor)
    to_a, to_b = _sums(inter)
    degree_a = node_degree(intra_a) + to_a if intra_a.size(-1) else to_a
    degree_b = node_degree(intra_b) + to_b if intra_b.size(-1) else to_b
    return normalise_degree(degree_a, mode, floor), normalise_degree(degree_b, mode, floor)


def _scaled(side: _Side, nodes: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """D^-½ times ``nodes``, rounded again if the nodes have fewer bits than the degrees."""
    nodes = nodes if dtype is None else nodes.to(dtype)
    return side.norm.scale.to(nodes.dtype).unsqueeze(-1) * nodes


def _reach(a: _Side, nodes_a: Tensor, inter: Tensor, b: _Side, nodes_b: Tensor) -> tuple[Tensor, Tensor]:
    """The adjacency times ``nodes``: the sum of neighbours of each node of a and of b, ``(pair, n, channel)``."""
    nodes_a = nodes_a.expand(inter.size(0), -1, -1)
    if not b.intra.size(-1):
        return torch.bmm(inter, nodes_b), torch.bmm(inter.mT, nodes_a)
    return (
        torch.baddbmm(a.intra @ nodes_a, inter, nodes_b),
        torch.baddbmm(b.intra @ nodes_b, inter.mT, nodes_a),
    )


def _combine(side: _Side, own: Tensor, reached: Tensor, mode: Mode, floor: DegreeFloor) -> Tensor:
    """The weighted node itself plus or minus the sum of its neighbours."""
    kept = own if floor == "textbook" else side.norm.self_weight.to(own.dtype).unsqueeze(-1) * own
    return torch.addcmul(kept, side.norm.scale.to(own.dtype).unsqueeze(-1), reached.to(own.dtype), value=sign_of(mode))


def _degree_gradient(
    side: _Side, gradient: Tensor, reached: Tensor, returned: Tensor, mode: Mode, floor: DegreeFloor
) -> Tensor:
    """The gradient of each node's degree, ``(pair, n)``; ``returned`` is the gradient of the scaled clues."""
    norm, wide = side.norm, side.norm.scale.dtype
    if floor == "textbook":  # of d^-½, -½·d^-1½
        of_scale = (gradient * reached).sum(-1, dtype=wide) + (returned * side.projected).sum(-1, dtype=wide)
        return -0.5 * sign_of(mode) * norm.scale**3 * of_scale
    if mode == "smooth":
        return torch.zeros_like(returned[..., 0], dtype=wide)
    return norm.scale**2 * (gradient * side.projected).sum(-1, dtype=wide)


def _intra_gradient(side: _Side, back: Tensor, scaled: Tensor, of_degree: Tensor, sign: float) -> Tensor:
    """The gradient of the edges within an image."""
    if not side.intra.size(-1):
        return torch.zeros_like(side.intra)
    return torch.baddbmm(of_degree.to(back.dtype).unsqueeze(-1), back, scaled.mT, alpha=sign).sum_to_size(
        side.intra.shape
    )


def _pool(own: _Side, other: _Side, crossed: Tensor, sign: float) -> Tensor:
    """Run the convolution on the pooling vector of one image, then weight the clues of both with the result.

    ``crossed`` is the pooling vector times the inter block, ``(pair, n of the other)``.
    """
    n, scale = own.projected.size(-2), own.norm.scale.unsqueeze(-2)
    on_own = own.norm.self_weight.unsqueeze(-2) / n
    if own.intra.size(-1):
        on_own = on_own + sign * scale * ((scale / n).to(own.intra.dtype) @ own.intra)
    on_other = sign * (other.norm.scale * crossed).unsqueeze(-2)
    weighed = on_own.to(own.projected.dtype) @ own.projected + on_other.to(other.projected.dtype) @ other.projected
    return weighed.squeeze(-2)


def _sums(inter: Tensor | ReluGram) -> tuple[Tensor, Tensor]:
    """The contribution of the inter edges to the degrees of a and of b."""
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
