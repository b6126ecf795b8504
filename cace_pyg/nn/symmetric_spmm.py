"""A sparse matrix product whose gradient stays sparse."""

import torch
from torch import Tensor


def symmetric_spmm(matrix: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """``matrix @ x`` with gradients to the matrix's values, in time and memory of the edges.

    Torch's own way back through a CSR tensor builds the dense |V|×|V| matrix, for a batch of graphs one block-diagonal
    one. Here the gradient of an edge (i, j) is the product of two rows, taken at the edges only
    (``torch.sparse.sampled_addmm``), and that of ``x`` is the same product again, since the matrix is symmetric.

    Args:
        matrix: symmetric torch CSR tensor ``(node, node)``.
        values: the values of ``matrix``, through which gradients flow, ``(edge)``.
        x: ``(node, channel)``.

    Returns:
        ``(node, channel)``.
    """
    return _SymmetricSpmm.apply(matrix.detach(), values, x)


class _SymmetricSpmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matrix: Tensor, values: Tensor, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        ctx.save_for_backward(x)
        return matrix @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        (x,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_values, of_x = None, None
        if ctx.needs_input_grad[1]:
            of_values = torch.sparse.sampled_addmm(ctx.matrix, gradient, x.T, beta=0.0).values()
        if ctx.needs_input_grad[2]:
            of_x = ctx.matrix @ gradient
        return None, of_values, of_x
