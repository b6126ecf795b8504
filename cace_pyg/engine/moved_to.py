"""A module on another device, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def moved_to(module: torch.nn.Module, device: torch.device | str) -> Iterator[None]:
    """The module on ``device`` as long as the block lasts, then back where its first parameter was, however it ends.

    No other thread may use it meanwhile.
    """
    home = next(module.parameters(), torch.empty(0)).device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)
