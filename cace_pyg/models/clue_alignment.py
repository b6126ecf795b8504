"""Alignment without a convolution: Table 1, "+ Visual Clue Alignment"."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder, PairBlocks
from cace_pyg.models.conditional_settings import ConditionalSettings
from cace_pyg.models.pair_operand import PairOperand, intra_edges, pair_blocks
from cace_pyg.nn import aligned_distance


class ClueAlignment(torch.nn.Module):
    """Stands where :class:`ConditionalEmbedding` does: distances of pairs, but no conditional embeddings.

    Args:
        builder: makes the graph; its inter edges say which clues are compared, and how much each counts.
        settings: see :class:`ConditionalSettings`; of the convolution's nothing is used.

    Raises:
        ValueError: inter edges are switched off.
    """

    engine = "none"
    engine_reason = "aligned clues are compared without a convolution"
    discrepancy_label = "mean 1 − cosine to aligned clues"  # what `discrepancy` gives, for figures

    def __init__(self, builder: GraphBuilder, settings: ConditionalSettings):
        if settings.edges == "intra":
            raise ValueError("conditional.compare aligned_clues needs inter edges (got conditional.edges intra)")
        super().__init__()
        self.builder = builder
        self.settings = settings
        self.density: tuple[Tensor, Tensor] | None = None

    def prepare(self, clues: Clues) -> PairOperand:
        """Everything that depends on one image alone."""
        keys = self.builder.prepare(clues)
        unit = torch.nn.functional.normalize(clues.features, dim=-1)
        return self.restore(keys, unit, own=unit.new_zeros(unit.size(0), 0))

    def restore(self, keys: Clues, nodes: Tensor, own: Tensor) -> PairOperand:
        """What :meth:`prepare` returned, from what of it depends on the image and cannot be computed again."""
        return PairOperand(keys, intra_edges(self.builder, self.settings.edges, keys), nodes, own)

    def distance(self, a: PairOperand, b: PairOperand) -> Tensor:
        """See :func:`cace_pyg.nn.aligned_distance`: ``(pair,)``, 0 to 2."""
        return aligned_distance(a.nodes, b.nodes, self.blocks(a, b).inter)

    def blocks(self, a: PairOperand, b: PairOperand) -> PairBlocks:
        """The adjacency of each pair."""
        blocks = pair_blocks(self.builder, self.settings.edges, a, b)
        if self.training:
            with torch.no_grad():
                self.density = blocks.density()
        return blocks

    def discrepancy(self, a: PairOperand, b: PairOperand) -> Tensor:
        """How far each clue is from those it is aligned with, a mean of 1 − cosine, 0 to 2: ``(pair, 2, n)``.

        0 for a clue without an inter edge.
        """
        inter = self.blocks(a, b).inter
        far = 1 - a.nodes @ b.nodes.mT
        sides = []
        for dim in (-1, -2):
            total = inter.sum(dim)
            sides.append((inter * far).sum(dim) / torch.where(total > 0, total, 1.0))
        return torch.stack(sides, dim=1)
