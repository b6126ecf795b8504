"""The pair stage's input of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cace_pyg.graph import Clues


@dataclass(frozen=True)
class PairOperand:
    """What the pair stage needs of each image; computed once per image, however many pairs it is in.

    It depends on the image and the model's weights, but contains no weights.

    Attributes:
        compared: what the graph builder compares, ``(image, n, any)``.
        intra: edges within the image, ``(image, n, n)``; ``(image, 0, 0)`` if there are none.
        projected: what the convolution propagates, ``(image, n, any)``.
        individual: the image's own contribution to its conditional embedding, ``(image, any)``.
    """

    compared: Clues
    intra: Tensor
    projected: Tensor
    individual: Tensor

    def __len__(self) -> int:
        return len(self.compared)

    def select(self, index: Tensor | slice) -> "PairOperand":
        """The images at ``index``."""
        chosen = self.compared.select(index)
        return PairOperand(chosen, self.intra[index], self.projected[index], self.individual[index])

    def to(self, device: torch.device | str) -> "PairOperand":
        """The same on ``device``."""
        return PairOperand(
            self.compared.to(device), self.intra.to(device), self.projected.to(device), self.individual.to(device)
        )

    @staticmethod
    def concatenate(several: list["PairOperand"]) -> "PairOperand":
        """All images of ``several``, in order; they come from one model."""
        return PairOperand(
            Clues.concatenate([operand.compared for operand in several]),
            torch.cat([operand.intra for operand in several]),
            torch.cat([operand.projected for operand in several]),
            torch.cat([operand.individual for operand in several]),
        )
