"""TransMatcher's decoder, on frozen clues."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues


class TransMatcher(torch.nn.Module):
    """Levels of clues, each matched by its own layer; the sum of their scores (Liao and Shao, NeurIPS 2021).

    The first level is the projected clues; each further one is a transformer encoder layer's output for the one before.

    Differences from the authors' code, besides the frozen clues: clues of the first level have unit length (clue
    dropout changes their lengths in training); the prior is symmetric, so that the score does not depend on which
    picture comes first; all layers are 64 channels wide instead of 512, with hidden layers four times as wide, as
    there; and there are two layers instead of three.

    Args:
        channels: size of a clue.
        n: clues per picture.
        width: channels of each level.
        layers: number of levels.
    """

    def __init__(self, channels: int, n: int, width: int = 64, layers: int = 2):
        super().__init__()
        self.projection = torch.nn.Linear(channels, width)
        self.encoder = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(width, 1, 4 * width, dropout=0.0, batch_first=True)
            for _ in range(layers - 1)
        )
        self.decoder = torch.nn.ModuleList(MatchingLayer(n, width) for _ in range(layers))
        self.score_norm = torch.nn.BatchNorm1d(1)

    def keys(self, clues: Clues) -> Tensor:
        """The matcher's input of a picture: the projected clues of all levels, ``(image, n, layers · width)``."""
        levels = [torch.nn.functional.normalize(self.projection(clues.features), dim=-1)]
        for layer in self.encoder:
            levels.append(layer(levels[-1]))
        return torch.cat([layer.projection(level) for layer, level in zip(self.decoder, levels, strict=True)], dim=-1)

    def forward(self, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        """The score of each pair, ``(pair,)``, larger for one person; one picture a may be shared by all pairs."""
        of_a, of_b = (keys.chunk(len(self.decoder), dim=-1) for keys in (keys_a, keys_b))
        score = sum(layer(*level) for layer, *level in zip(self.decoder, of_a, of_b, strict=True))
        return self.score_norm(score).squeeze(1)


class MatchingLayer(torch.nn.Module):
    r"""Query-key similarity, a learned prior on the positions of counterparts, maxima both ways, and a small network.

    Without softmax and values: :math:`S_{ij} = (q_i \cdot k_j) \, σ(P_{ij})`, with q and k from one projection. The
    maxima over j for each i, and over i for each j, are vectors of n numbers, which pass through BatchNorm, a linear
    layer, BatchNorm, ReLU and a linear layer; both results are added, and normalised over the batch.

    Args:
        n: clues per picture.
        width: channels of a level.
    """

    def __init__(self, n: int, width: int):
        super().__init__()
        self.projection = torch.nn.Linear(width, width)
        self.prior = torch.nn.Parameter(torch.zeros(n, n))  # the authors' is nearly 0 initially
        self.match_norm = torch.nn.BatchNorm1d(1)
        self.hidden = torch.nn.Linear(n, 4 * width)
        self.hidden_norm = torch.nn.BatchNorm1d(4 * width)
        self.last = torch.nn.Linear(4 * width, 1)
        self.score_norm = torch.nn.BatchNorm1d(1)
        for layer in (self.projection, self.hidden, self.last):
            torch.nn.init.xavier_uniform_(layer.weight)

    def forward(self, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        """The score of each pair, ``(pair, 1)``, from projected clues ``(pair, n, width)``."""
        similarity = keys_a @ keys_b.mT * ((self.prior + self.prior.mT) / 2).sigmoid()
        matches = torch.stack([similarity.amax(2), similarity.amax(1)], dim=1).flatten(0, 1)  # (2·pair, n)
        matches = self.match_norm(matches.unsqueeze(1)).squeeze(1)
        scores = self.last(self.hidden_norm(self.hidden(matches)).relu())
        return self.score_norm(scores.view(-1, 2).sum(1, keepdim=True))
