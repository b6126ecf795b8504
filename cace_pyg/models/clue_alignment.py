"""Alignment without a convolution: Table 1, "+ Visual Clue Alignment"."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder, PairBlocks
from cace_pyg.models.pair_operand import PairOperand
from cace_pyg.models.pair_stage import ConditionalSettings, PairStage
from cace_pyg.nn import aligned_distance


class ClueAlignment(PairStage):
    """A pair stage that compares aligned clues: distances of pairs, but no conditional embeddings.

    Args:
        builder: makes the graph; its inter edges determine which clues are compared, and how much each pair counts.
        settings: see :class:`ConditionalSettings`; those of the convolution are not used.

    Raises:
        ValueError: inter edges are switched off.
    """

    backend = "none"
    backend_reason = "aligned clues are compared without a convolution"
    discrepancy_label = "mean 1 − cosine to aligned clues"

    def __init__(self, builder: GraphBuilder, settings: ConditionalSettings):
        if settings.edges == "intra":
            raise ValueError("conditional.compare aligned_clues needs inter edges (got conditional.edges intra)")
        super().__init__(builder, settings)

    def prepare(self, clues: Clues) -> PairOperand:
        unit = torch.nn.functional.normalize(clues.features, dim=-1)
        return self.restore(self.builder.prepare(clues), unit, individual=unit.new_zeros(unit.size(0), 0))

    def distance(self, a: PairOperand, b: PairOperand) -> Tensor:
        """See :func:`cace_pyg.nn.aligned_distance`: ``(pair,)``, 0 to 2."""
        a, b = a.expanded(), b.expanded()
        return self.distance_of(self.blocks(a, b), a, b)

    def distance_of(self, blocks: PairBlocks, a: PairOperand, b: PairOperand) -> Tensor:
        return aligned_distance(a.projected, b.projected, blocks.inter)

    def discrepancy(self, a: PairOperand, b: PairOperand) -> Tensor:
        """How much each clue differs from those it is aligned with, a mean of 1 − cosine, 0 to 2: ``(pair, 2, n)``.

        0 for a clue without inter edges.
        """
        inter = self.blocks(a, b).inter
        far = 1 - a.projected @ b.projected.mT
        sides = []
        for dim in (-1, -2):
            total = inter.sum(dim)
            sides.append((inter * far).sum(dim) / torch.where(total == 0, 1.0, total))
        return torch.stack(sides, dim=1)
