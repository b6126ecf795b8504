"""Query-adaptive convolution, as a head on frozen clues."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues


class QAConv(torch.nn.Module):
    r"""Matches each clue of a picture with its best counterpart in the other picture (Liao and Shao, ECCV 2020).

    With unit clues :math:`u = \mathrm{normalise}(P x)`, the best matches are :math:`m_i = \max_j u_i \cdot v_j` of the
    clues of a, and likewise of those of b. The score is
    :math:`\mathrm{BN}(w \cdot \mathrm{BN}(m_a) + w \cdot \mathrm{BN}(m_b))`: one BatchNorm over all matches, one weight
    for each position of the map, shared by both pictures, and one BatchNorm over the scores. As in version 1.3 of the
    authors' code, the weights start at 1/n.

    The authors' network learns a 3×3 convolution before it; here the clues are frozen, and the projection P is linear.

    Args:
        channels: size of a clue.
        n: clues per picture.
        width: channels of the projection.
    """

    def __init__(self, channels: int, n: int, width: int = 64):
        super().__init__()
        self.projection = torch.nn.Linear(channels, width, bias=False)
        self.match_norm = torch.nn.BatchNorm1d(1)
        self.weight = torch.nn.Linear(n, 1)
        self.score_norm = torch.nn.BatchNorm1d(1)
        torch.nn.init.constant_(self.weight.weight, 1 / n)

    def keys(self, clues: Clues) -> Tensor:
        """The matcher's input of a picture: unit clues, ``(image, n, width)``."""
        return torch.nn.functional.normalize(self.projection(clues.features), dim=-1)

    def forward(self, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        """The score of each pair, ``(pair,)``, larger for one person; one picture a may be shared by all pairs."""
        similarity = keys_a @ keys_b.mT
        matches = torch.stack([similarity.amax(2), similarity.amax(1)], dim=1).flatten(0, 1)  # (2·pair, n)
        weighed = self.weight(self.match_norm(matches.unsqueeze(1)).squeeze(1))
        return self.score_norm(weighed.view(-1, 2).sum(1, keepdim=True)).squeeze(1)
