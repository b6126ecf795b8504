"""Moves a module to another device temporarily."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def moved_to(module: torch.nn.Module, device: torch.device | str) -> Iterator[None]:
    """Move the module to ``device`` for a ``with`` block, then back to its own device, even after an exception.

    No other thread may use the module meanwhile.
    """
    home = next(module.parameters(), torch.empty(0)).device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)
