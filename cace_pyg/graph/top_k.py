"""Alignment by similarity."""

from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.graph.builder import GraphBuilder
from cace_pyg.graph.clues import Clues
from cace_pyg.graph.gram import upper_gram
from cace_pyg.graph.sparsify import strongest


class TopKSimilarity(GraphBuilder):
    """Every clue is connected with the clues it resembles most (Table 2, "Top-K Similarity").

    With k = 1 this is the rule of AlignedReID (Zhang et al. 2017): the pixel of highest cosine similarity in the other
    image. The rule is not symmetric, so there is an edge if either end chose the other. Within an image a clue chooses
    among the other clues.

    Args:
        channels: size of a clue; the graph does not depend on it.
        k: how many clues of each image a clue chooses; all if there are fewer.
        weighted: the weight of an edge is its similarity (at least 0), so that gradients reach the clues; False: it is
            1.

    Raises:
        ValueError: ``k`` below 1.
    """

    def __init__(self, channels: int, k: int = 1, weighted: bool = False):
        if k < 1:
            raise ValueError(f"Expected graph.k of at least 1 (got {k})")
        super().__init__()
        self.k = k
        self.weighted = weighted

    def prepare(self, clues: Clues) -> Clues:
        """The clues scaled to unit length."""
        return replace(clues, features=torch.nn.functional.normalize(clues.features, dim=-1))

    def intra(self, prepared: Clues) -> Tensor:
        x = prepared.features
        itself = torch.eye(x.size(1), dtype=torch.bool, device=x.device)
        chosen = self._edges((x @ x.mT).masked_fill(itself, -torch.inf))
        return chosen.masked_fill(itself, 0.0)

    def inter(self, prepared_a: Clues, prepared_b: Clues) -> Tensor:
        return self._edges(prepared_a.features @ prepared_b.features.mT)

    def among(self, prepared: Clues) -> Tensor:
        return self._edges(upper_gram(prepared.features))

    def _edges(self, similarity: Tensor) -> Tensor:
        weight = similarity.relu() if self.weighted else torch.ones_like(similarity)
        return torch.where(strongest(similarity.detach(), self.k), weight, 0.0)
