"""Products of the clues of all pairs of a batch, each pair once."""

from typing import Any

import torch
from torch import Tensor


def upper_gram(x: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""The products :math:`X_a W X_b^\top` of all images a ≤ b of a batch, with W diagonal: one Gram matrix's blocks.

    The weighted clues are computed for one image at a time and not stored, and the backward pass adds into one
    gradient. So apart from the result, nothing larger than the clues is in memory.

    Args:
        x: clues, ``(image, n, channel)``.
        weight: the diagonal of W, ``(channel,)``; None: the identity.

    Returns:
        ``(pair, n, n)`` in the order of ``torch.triu_indices(images, images)``: (0, 0), (0, 1), …, (1, 1), ….
    """
    return _UpperGram.apply(x, x.new_ones(()) if weight is None else weight)


class _UpperGram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        images, n = x.shape[:2]
        gram = x.new_empty(images * (images + 1) // 2, n, n)
        for a, row in enumerate(gram.split(row_lengths(images))):
            torch.bmm((x[a] * weight).expand(len(row), -1, -1), x[a:].mT, out=row)
        return gram

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = torch.zeros_like(x), torch.zeros_like(weight)
        for a, row in enumerate(gradient.split(row_lengths(len(x)))):
            of_weighted = row.transpose(0, 1).flatten(1) @ x[a:].flatten(0, 1)
            of_weight += (of_weighted * x[a]).sum_to_size(of_weight.shape)
            of_x[a].addcmul_(of_weighted, weight)
            of_x[a:].baddbmm_(row.mT, (x[a] * weight).expand(len(row), -1, -1))
        return of_x, of_weight


def row_lengths(images: int) -> list[int]:
    """The number of images b ≥ a for each image a: the row lengths of a triangle, B, B − 1, …, 1."""
    return list(range(images, 0, -1))
