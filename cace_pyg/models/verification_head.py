"""Whether two images show one person, from what their clues differ in."""

import torch
from torch import Tensor


class VerificationHead(torch.nn.Module):
    """A number for each pair that is added to its distance (our addition; the paper compares embeddings alone).

    What both images differ by alike, a bag that only one of them has, moves f(a|b) and f(b|a) alike, and
    ‖f(a|b) − f(b|a)‖ does not see it. The sum of both pooled discrepancies does. The head is
    MLP(BatchNorm([p_a + p_b, |p_a − p_b|])) with one hidden layer, the same whichever image comes first. Its last layer
    starts at zero, so that training starts from the distance without it.

    Args:
        channels: of the pooled discrepancies.
        hidden: units of the hidden layer.

    Shapes: two of ``(pair, channel)`` to ``(pair,)``, of either sign.
    """

    def __init__(self, channels: int, hidden: int = 64):
        super().__init__()
        self.batch_norm = torch.nn.BatchNorm1d(2 * channels)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2 * channels, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
        )
        torch.nn.init.zeros_(self.layers[-1].weight)
        torch.nn.init.zeros_(self.layers[-1].bias)

    def forward(self, pooled_a: Tensor, pooled_b: Tensor) -> Tensor:
        """Return what to add to the distance of each pair."""
        features = torch.cat([pooled_a + pooled_b, (pooled_a - pooled_b).abs()], dim=-1)
        return self.layers(self.batch_norm(features)).squeeze(-1)
