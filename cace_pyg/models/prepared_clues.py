"""What the pair stage keeps of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cace_pyg.graph import Clues


@dataclass(frozen=True)
class PreparedClues:
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

    def select(self, index: Tensor | slice) -> "PreparedClues":
        """The images at ``index``."""
        return PreparedClues(self.keys.select(index), self.intra[index], self.nodes[index], self.own[index], self.tail)

    def to(self, device: torch.device | str) -> "PreparedClues":
        """The same on ``device``."""
        intra, nodes, own = (one.to(device) for one in (self.intra, self.nodes, self.own))
        return PreparedClues(
            self.keys.to(device), intra, nodes, own, None if self.tail is None else self.tail.to(device)
        )

    @staticmethod
    def concatenate(several: list["PreparedClues"]) -> "PreparedClues":
        """All images of ``several``, in order; they come from one model."""
        keys = Clues.concatenate([one.keys for one in several])
        intra, nodes, own = (torch.cat([getattr(one, name) for one in several]) for name in ("intra", "nodes", "own"))
        return PreparedClues(keys, intra, nodes, own, several[0].tail)
