"""The discrepancy convolution followed by average pooling over each image, without the pair's feature map."""

import torch
from torch import Tensor

from cace_pyg.kernels import ReluGram, relu_gram_products
from cace_pyg.nn.degree import (
    DegreeFloor,
    Mode,
    Normalisation,
    check_form,
    node_degree,
    normalise_degree,
    sign_of,
)
from cace_pyg.nn.node_wise import NodeWise


class PooledDiscrepancy(torch.nn.Module):
    r"""``mean_i node_wise(DiscrepancyConv(x)_i)`` over the nodes of image a and over those of image b.

    With ``node_wise="identity"`` everything after the adjacency is linear and :math:`L` is symmetric, so
    :math:`p^\top (L X) = (L p)^\top X`: the convolution runs on the *pooling vector* (two numbers a node), and one
    weighted sum of the projected clues follows. This is exact with average pooling only. The other forms of
    :class:`NodeWise` are not linear: they take the map path, block by block in the projected space, which costs
    ``channel / 2`` times the arithmetic of the pooled one but never builds the 2n×2n matrix.

    It has no parameters but those of ``node_wise``: the caller projects the clues (``DiscrepancyConv.lin``) and
    computes the intra blocks, once per image whatever number of pairs it enters.

    Shapes:
        - **input:** projected clues ``(pair, n, channel)`` of a and b, blocks ``intra_a`` ``(pair, n, n)``,
          ``inter`` ``(pair, n, n)`` (rows: nodes of a), ``intra_b`` ``(pair, n, n)``. One image a may stand for all
          pairs: its tensors then are ``(1, n, …)``, and nothing is copied. With the identity, ``inter`` may be a
          :class:`~cace_pyg.kernels.ReluGram` instead, which the fused kernel never puts together (CUDA).
        - **output:** two tensors ``(pair, channel)``
    """

    def __init__(
        self, mode: Mode = "discrepancy", degree_floor: DegreeFloor = "textbook", node_wise: NodeWise | None = None
    ):
        check_form(mode, degree_floor)
        super().__init__()
        self.mode = mode
        self.degree_floor = degree_floor
        self.node_wise = node_wise or NodeWise()

    def forward(
        self, projected_a: Tensor, projected_b: Tensor, intra_a: Tensor, inter: Tensor | ReluGram, intra_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the pooled images a and b, each given the other (see the class)."""
        if self.node_wise.form != "identity":
            if isinstance(inter, ReluGram):
                raise ValueError(
                    f"Expected the inter block itself, (pair, n, n), with node_wise {self.node_wise.form!r} (got a "
                    "ReluGram, of which only products with vectors are known); ReluGram.block() puts it together"
                )
            maps = self.convolve(projected_a, projected_b, intra_a, inter, intra_b)
            map_a, map_b = (self.node_wise(one) for one in maps)
            return map_a.mean(-2), map_b.mean(-2)
        norm_a, norm_b = self._normalise(intra_a, inter, intra_b)
        pooling_a, pooling_b = norm_a.scale / projected_a.size(-2), norm_b.scale / projected_b.size(-2)
        to_a, to_b = _times(inter, pooling_a, pooling_b)
        pooled_a = self._pool(projected_a, projected_b, intra_a, to_b, norm_a, norm_b)
        pooled_b = self._pool(projected_b, projected_a, intra_b, to_a, norm_b, norm_a)
        return pooled_a, pooled_b

    def convolve(
        self, projected_a: Tensor, projected_b: Tensor, intra_a: Tensor, inter: Tensor, intra_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The map path up to the node-wise function: the convolved nodes of a and of b, ``(pair, n, channel)``."""
        norm_a, norm_b = self._normalise(intra_a, inter, intra_b)
        scaled_a = (norm_a.scale.unsqueeze(-1) * projected_a).to(projected_a.dtype)
        scaled_b = (norm_b.scale.unsqueeze(-1) * projected_b).to(projected_b.dtype)
        neighbours_a = torch.baddbmm(intra_a @ scaled_a, inter, scaled_b)
        neighbours_b = torch.baddbmm(intra_b @ scaled_b, inter.mT, scaled_a)
        return self._combine(projected_a, neighbours_a, norm_a), self._combine(projected_b, neighbours_b, norm_b)

    def _normalise(
        self, intra_a: Tensor, inter: Tensor | ReluGram, intra_b: Tensor
    ) -> tuple[Normalisation, Normalisation]:
        to_a, to_b = _sums(inter)
        norm_a = normalise_degree(node_degree(intra_a) + to_a, self.mode, self.degree_floor)
        norm_b = normalise_degree(node_degree(intra_b) + to_b, self.mode, self.degree_floor)
        return norm_a, norm_b

    def _pool(
        self,
        own: Tensor,
        other: Tensor,
        intra: Tensor,
        crossed: Tensor,
        norm: Normalisation,
        norm_other: Normalisation,
    ) -> Tensor:
        """Run the convolution on the pooling vector of one image, then weigh the clues of both with the result.

        ``crossed`` is the pooling vector times the inter block, ``(pair, n of the other)``.
        """
        sign, n = sign_of(self.mode), own.size(-2)
        pooling = (norm.scale.unsqueeze(-2) / n).to(intra.dtype)
        on_own = norm.self_weight.unsqueeze(-2) / n + sign * norm.scale.unsqueeze(-2) * (pooling @ intra)
        on_other = sign * (norm_other.scale * crossed).unsqueeze(-2)
        return (on_own.to(own.dtype) @ own + on_other.to(other.dtype) @ other).squeeze(-2)

    def _combine(self, own: Tensor, neighbours: Tensor, norm: Normalisation) -> Tensor:
        """What a node keeps of itself, and its neighbours on top."""
        kept = norm.self_weight.unsqueeze(-1) * own
        convolved = torch.addcmul(kept, norm.scale.unsqueeze(-1), neighbours.to(kept), value=sign_of(self.mode))
        return convolved.to(own.dtype)


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
