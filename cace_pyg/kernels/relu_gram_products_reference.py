"""What :func:`cace_pyg.kernels.relu_gram_products` computes, in plain torch."""

from torch import Tensor

from cace_pyg.kernels.relu_gram import ReluGram


def relu_gram_products_reference(gram: ReluGram, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """R @ right and Rᵀ @ left by way of the whole block, in the precision of its factors, any of torch's.

    Args:
        gram: R.
        left: ``(pair, n_a)`` or ``(1, n_a)``.
        right: ``(pair, n_b)`` or ``(1, n_b)``.

    Returns:
        ``(pair, n_a)`` and ``(pair, n_b)``.
    """
    block = gram.block()
    left, right = left.to(block.dtype).unsqueeze(-2), right.to(block.dtype).unsqueeze(-1)
    return (block @ right).squeeze(-1), (left @ block).squeeze(-2)
