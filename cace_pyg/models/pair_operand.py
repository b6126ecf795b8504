"""The pair stage's input of an image."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cace_pyg.graph import Clues


class Merged(NamedTuple):
    """How the clues of some images were merged into fewer, see :func:`cace_pyg.models.keep_clues`.

    Attributes:
        group: which of the kept clues stands for each clue of the map, ``(image, n)`` integers.
        grid: (H, W) of the map, n = H·W.
    """

    group: Tensor
    grid: tuple[int, int]

    def sizes(self, kept: int) -> Tensor:
        """The number of clues that each of the ``kept`` clues stands for, ``(image, kept)``; 0 for an empty group."""
        group = self.group.long()
        return torch.zeros(len(group), kept, device=group.device).scatter_add_(1, group, torch.ones_like(group).float())


@dataclass(frozen=True)
class PairOperand:
    """What the pair stage needs of each image; computed once per image, however many pairs it is in.

    It depends on the image and the model's weights, but contains no weights.

    Attributes:
        compared: what the graph builder compares, ``(image, n, any)``.
        intra: edges within the image, ``(image, n, n)``; ``(image, 0, 0)`` if there are none.
        projected: what the convolution propagates, ``(image, n, any)``.
        individual: the image's own contribution to its conditional embedding, ``(image, any)``.
        merged: None if every clue is there. Otherwise ``compared`` and ``projected`` have fewer clues, each of which
            stands for several.
    """

    compared: Clues
    intra: Tensor
    projected: Tensor
    individual: Tensor
    merged: Merged | None = None

    def __len__(self) -> int:
        return len(self.compared)

    def select(self, index: Tensor | slice) -> "PairOperand":
        """The images at ``index``."""
        chosen = self.compared.select(index)
        merged = self.merged and self.merged._replace(group=self.merged.group[index])
        return PairOperand(chosen, self.intra[index], self.projected[index], self.individual[index], merged)

    def to(self, device: torch.device | str) -> "PairOperand":
        """The same on ``device``."""
        merged = self.merged and self.merged._replace(group=self.merged.group.to(device))
        tensors = self.intra.to(device), self.projected.to(device), self.individual.to(device)
        return PairOperand(self.compared.to(device), *tensors, merged)

    @staticmethod
    def concatenate(several: list["PairOperand"]) -> "PairOperand":
        """All images of ``several``, in order; all are of one model, and either all or none are merged."""
        groups = [operand.merged.group for operand in several if operand.merged]
        merged = several[0].merged
        return PairOperand(
            Clues.concatenate([operand.compared for operand in several]),
            torch.cat([operand.intra for operand in several]),
            torch.cat([operand.projected for operand in several]),
            torch.cat([operand.individual for operand in several]),
            merged and merged._replace(group=torch.cat(groups)),
        )

    def expanded(self) -> "PairOperand":
        """All clues of the map, each with the values of its group; edges within images do not change."""
        if self.merged is None:
            return self
        group = self.merged.group.long().unsqueeze(-1)
        compared, projected = (
            values.gather(1, group.expand(-1, -1, values.size(2)))
            for values in (self.compared.features, self.projected)
        )
        return replace(self, compared=Clues(compared, self.merged.grid), projected=projected, merged=None)
