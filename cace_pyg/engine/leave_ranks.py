"""The end of a run on several processes."""

import torch


def leave_ranks() -> None:
    """Wait for all ranks, then close the connections between them; alone, do nothing.

    A process that ends with open connections while others go on may be aborted, and torchrun would call that a failure.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
