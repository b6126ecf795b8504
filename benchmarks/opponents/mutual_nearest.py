"""Mutual nearest neighbours among the clues of two pictures."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues


class MutualNearest(torch.nn.Module):
    r"""The mean cosine of clues that are each other's nearest, the usual cross-check of local features.

    With unit clues :math:`u = \mathrm{normalise}(P x)`, clue i of a and clue j of b match if each is the other's
    nearest; the score is the sum of the cosines of all matches, divided by n. P is linear and trained, as for the other
    matchers.

    Args:
        channels: size of a clue.
        width: channels of the projection.
    """

    def __init__(self, channels: int, width: int = 64):
        super().__init__()
        self.projection = torch.nn.Linear(channels, width, bias=False)

    def keys(self, clues: Clues) -> Tensor:
        """The matcher's input of a picture: unit clues, ``(image, n, width)``."""
        return torch.nn.functional.normalize(self.projection(clues.features), dim=-1)

    def forward(self, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        """The score of each pair, ``(pair,)``, larger for one person; one picture a may be shared by all pairs."""
        similarity = keys_a @ keys_b.mT
        best, counterpart = similarity.max(2)
        back = similarity.amax(1).gather(1, counterpart)  # the highest cosine of that counterpart
        return (best * (best == back)).mean(1)
