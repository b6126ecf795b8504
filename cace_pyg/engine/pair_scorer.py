"""The second stage on tensors with names."""

import torch
from torch import Tensor

from cace_pyg.engine.exported_clues import ExportedClues
from cace_pyg.models import CaceNet


class PairScorer(torch.nn.Module):
    """The distance of one query to many gallery images, see :meth:`CaceNet.pair_distance`.

    Args:
        model: in evaluation mode.
        clues: which parts of the prepared clues come in.

    Shapes: the clues of the query, each ``(1, …)``, and of the gallery images, each ``(pair, …)``, to ``(pair,)``.
    """

    def __init__(self, model: CaceNet, clues: ExportedClues):
        super().__init__()
        self.model = model
        self.clues = clues

    def forward(self, query: dict[str, Tensor], gallery: dict[str, Tensor]) -> Tensor:
        """Return the distance of each pair."""
        return self.model.pair_distance(self.clues.prepared(query), self.clues.prepared(gallery))
