"""The heads: from pooled clues to an embedding, and from two pooled discrepancies to a verification score."""

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
        """Return the embedding of each pooled vector; it is not normalised, since distances compare directions."""
        return self.batch_norm(self.convolution(pooled))


class VerificationHead(torch.nn.Module):
    """A number for each pair that is added to its distance (our addition; the paper only compares embeddings).

    A difference that changes f(a|b) and f(b|a) in the same way, such as a bag that only one image has, cancels in
    ‖f(a|b) − f(b|a)‖. It does not cancel in the sum of both pooled discrepancies. The head is
    ``MLP(BatchNorm([p_a + p_b, |p_a − p_b|]))`` with one hidden layer, and is symmetric in both images. Its last layer
    starts at zero, so that training starts from the distance without it.

    Args:
        channels: of the pooled discrepancies.
        hidden: units of the hidden layer.

    Shapes: two of ``(pair, channel)`` to ``(pair,)``, of either sign.
    """

    def __init__(self, channels: int, hidden: int = 64):
        super().__init__()
        self.batch_norm = torch.nn.BatchNorm1d(2 * channels)
        first, last = torch.nn.Linear(2 * channels, hidden), torch.nn.Linear(hidden, 1)
        self.layers = torch.nn.Sequential(first, torch.nn.ReLU(), last)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)

    def forward(self, pooled_a: Tensor, pooled_b: Tensor) -> Tensor:
        """Return the number to add to the distance of each pair."""
        features = torch.cat([pooled_a + pooled_b, (pooled_a - pooled_b).abs()], dim=-1)
        return self.layers(self.batch_norm(features)).squeeze(-1)
