"""A block of edges described by its factors, and its products in plain torch."""

from typing import NamedTuple

import torch
from torch import Tensor


class ReluGram(NamedTuple):
    r"""The block :math:`R = \mathrm{ReLU}(X_a X_b^\top)^{p}`, zero where it is at most ``threshold``.

    Only a description, which costs nothing: :func:`relu_gram_products` multiplies with R without computing it.

    Attributes:
        x_a: ``(pair, n_a, channel)``, or ``(1, n_a, channel)`` for all pairs. A diagonal weight between the factors,
            W' of the paper, is multiplied into them once per image.
        x_b: ``(pair, n_b, channel)`` or ``(1, n_b, channel)``.
        sharpness: the exponent p, at least 1.
        threshold: an edge of at most this is zero; in the unit of R, at least 0.
    """

    x_a: Tensor
    x_b: Tensor
    sharpness: float = 1.0
    threshold: float = 0.0

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the clues in a product: autocast's if it is on."""
        kind = self.x_a.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.x_a.dtype

    def block(self) -> Tensor:
        """Compute R itself: ``(pair, n_a, n_b)``."""
        edges = (self.x_a @ self.x_b.mT).relu()
        edges = edges if self.sharpness == 1 else edges**self.sharpness
        return torch.where(edges <= self.threshold, 0.0, edges) if self.threshold > 0 else edges


def relu_gram_products_reference(gram: ReluGram, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """R @ right and Rᵀ @ left from the whole block, in the precision of its factors, which may be any of torch's.

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
