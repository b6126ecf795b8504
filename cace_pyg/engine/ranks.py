"""The processes of one training or evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


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

    def run(self, total: int) -> slice:
        """This rank's part of ``total`` things in a row; the parts differ by one at most."""
        return slice(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def gather_objects(self, own: T) -> list[T]:
        """What each rank has, in the order of the ranks; small things, of any size."""
        if self.count == 1:
            return [own]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, own)
        return found

    def send(self, own: T | None, sender: int) -> T:
        """What one rank has, on every rank; the others' ``own`` is not looked at."""
        sent: list[Any] = [own]
        if self.count > 1:
            torch.distributed.broadcast_object_list(sent, src=sender)
        return sent[0]

    def take_firsts(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite these with what the first rank has in them."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def gather(self, own: Tensor) -> Tensor:
        """What all ranks have of a tensor, along its first dimension, rank by rank.

        Gradients flow back to the rank that each part came from, summed over the ranks that used it: DDP's mean over
        the ranks then makes them those of the mean of all ranks' losses.
        """
        if self.count == 1:
            return own
        return _Gathered.apply(own, self)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.own = slice(ranks.rank * len(own), (ranks.rank + 1) * len(own))
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(ranks.count)]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed[ctx.own], None


ALONE = Ranks()


def leave_ranks() -> None:
    """Wait for all ranks, then close the connections between them; alone, do nothing.

    A process that ends with open connections while others go on may be aborted, and torchrun would call that a failure.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
