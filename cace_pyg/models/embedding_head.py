"""From pooled clues to an embedding."""

import torch
from torch import Tensor


class EmbeddingHead(torch.nn.Module):
    """The encoder of CACE-Net after global average pooling: a 1×1 convolution (§3.2), then BatchNorm.

    On a pooled 1×1 map the convolution is a linear layer. The paper prints no normalisation; the authors' code has
    the BatchNorm, and without it training from scratch is far slower. ``batch_norm=False`` is the paper.

    Args:
        channels: size of a pooled clue.
        out_channels: size of the embedding (the authors' code: 768).
        batch_norm: normalise the embedding over the batch.

    Shapes: ``(…, channels)`` to ``(…, out_channels)``.
    """

    def __init__(self, channels: int, out_channels: int, batch_norm: bool = True):
        super().__init__()
        self.convolution = torch.nn.Linear(channels, out_channels, bias=not batch_norm)
        self.batch_norm = torch.nn.BatchNorm1d(out_channels) if batch_norm else torch.nn.Identity()

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the embedding of each pooled vector; its length is free, distances compare directions."""
        return self.batch_norm(self.convolution(pooled))
