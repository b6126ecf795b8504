"""The processes of one training or evaluation."""

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The number of processes, and which of them this is; configured batches and epochs are for all of them together.

    Attributes:
        rank: of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, total: int, what: str) -> slice:
        """This rank's part of ``total`` consecutive items.

        Raises:
            ValueError: they cannot be shared evenly; ``what`` names the setting.
        """
        if total % self.count:
            raise ValueError(f"Expected {what} to be a multiple of the {self.count} ranks (got {total})")
        size = total // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def run(self, total: int) -> slice:
        """This rank's part of ``total`` consecutive items; the sizes of the parts differ by at most one."""
        return slice(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def gather_objects(self, own: T) -> list[T]:
        """The objects of all ranks, in order; for small objects of any type."""
        if self.count == 1:
            return [own]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, own)
        return found

    def send(self, own: T | None, sender: int) -> T:
        """Send the sender's object to every rank; ``own`` of the others is ignored."""
        sent: list[Any] = [own]
        if self.count > 1:
            torch.distributed.broadcast_object_list(sent, src=sender)
        return sent[0]

    def take_firsts(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite these tensors with those of the first rank."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def gather(self, own: Tensor) -> Tensor:
        """The tensors of all ranks, concatenated along the first dimension in the order of the ranks.

        Gradients flow back to the rank that each part came from, summed over the ranks that used it. DDP averages over
        the ranks, so the result is the gradient of the mean of all ranks' losses.
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
    """Wait for all ranks, then close the connections between them; with a single process, do nothing.

    A process that ends with open connections while others continue may be aborted, and torchrun would report a failure.
    The models that DDP wraps must be gone by then, up to reference cycles: the last of them would close the connections
    while it holds Python's lock, for which gloo's threads may be waiting, and the process would never end.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
