"""What the pair stage keeps of an image, and the graph that it draws between two of them."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cace_pyg.graph import Clues, GraphBuilder, PairBlocks


@dataclass(frozen=True)
class PairOperand:
    """What the pair stage needs of each image: computed once per image, whatever number of pairs it enters.

    Attributes:
        keys: what the graph builder compares, ``(image, n, any)``.
        intra: edges within the image, ``(image, n, n)``.
        nodes: what the convolution propagates, ``(image, n, any)``.
        own: what the image contributes to its conditional embedding by itself, ``(image, any)``.
        tail: what is linear after the pooling, ``(embedding, channel)``, one for all images; none: the nodes are
            projected so far already.
    """

    keys: Clues
    intra: Tensor
    nodes: Tensor
    own: Tensor
    tail: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, index: Tensor | slice) -> "PairOperand":
        """The images at ``index``."""
        return PairOperand(self.keys.select(index), self.intra[index], self.nodes[index], self.own[index], self.tail)

    def to(self, device: torch.device | str) -> "PairOperand":
        """The same on ``device``."""
        intra, nodes, own = (one.to(device) for one in (self.intra, self.nodes, self.own))
        return PairOperand(self.keys.to(device), intra, nodes, own, None if self.tail is None else self.tail.to(device))

    @staticmethod
    def concatenate(several: list["PairOperand"]) -> "PairOperand":
        """All images of ``several``, in order; they come from one model."""
        keys = Clues.concatenate([one.keys for one in several])
        intra, nodes, own = (torch.cat([getattr(one, name) for one in several]) for name in ("intra", "nodes", "own"))
        return PairOperand(keys, intra, nodes, own, several[0].tail)


Edges = Literal["all", "intra", "inter"]


def intra_edges(builder: GraphBuilder, edges: Edges, keys: Clues) -> Tensor:
    """Edges within each image, ``(image, n, n)``; zero where only inter edges are wanted."""
    images, n = keys.features.shape[:2]
    return keys.features.new_zeros(images, n, n) if edges == "inter" else builder.intra(keys)


def pair_blocks(builder: GraphBuilder, edges: Edges, a: PairOperand, b: PairOperand) -> PairBlocks:
    """The adjacency of each pair; one image a may stand for all. Zero between images where only intra is wanted."""
    inter = b.intra.new_zeros(b.intra.shape) if edges == "intra" else builder.inter(a.keys, b.keys)
    return PairBlocks(a.intra, inter, b.intra)
