"""The processes of one training."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is; batches and epochs of the configuration are those of all together.

    Attributes:
        rank: of this process, from 0.
        count: of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, total: int, what: str) -> slice:
        """This rank's part of ``total`` things in a row.

        Raises:
            ValueError: they cannot be shared out evenly; ``what`` names the setting.
        """
        if total % self.count:
            raise ValueError(f"Expected {what} to be a multiple of the {self.count} ranks (got {total})")
        size = total // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def gather(self, own: Tensor) -> Tensor:
        """What all ranks have of a tensor, along its first dimension, rank by rank.

        Gradients flow back to the rank that each part came from, summed over the ranks that used it: DDP's mean over
        the ranks then makes them those of the mean of all ranks' losses.
        """
        if self.count == 1:
            return own
        if not own.requires_grad:
            parts = [torch.empty_like(own) for _ in range(self.count)]
            torch.distributed.all_gather(parts, own.contiguous())
            return torch.cat(parts)
        return torch.cat(torch.distributed.nn.functional.all_gather(own))
