"""What the pair stage keeps of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cace_pyg.graph import Clues


@dataclass(frozen=True)
class PairOperand:
    """What the pair stage needs of each image: computed once per image, whatever number of pairs it enters.

    It depends on the image and the weights, and holds no weight.

    Attributes:
        compared: what the graph builder compares, ``(image, n, any)``.
        intra: edges within the image, ``(image, n, n)``; ``(image, 0, 0)`` where there is none.
        projected: what the convolution propagates, ``(image, n, any)``.
        individual: what the image contributes to its conditional embedding by itself, ``(image, any)``.
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
