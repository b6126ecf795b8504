"""The tensors of somebody's checkpoint."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # what libraries call the state dict in a checkpoint


def read_state_dict(path: Path, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file, and the keys beside them; a checkpoint that wraps its state dict is unwrapped.

    Args:
        path: a file that ``torch.save`` wrote; it is read with ``weights_only=True``.
        name: of the network, for errors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no state dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path} (backbone.weights); expected a state dict of {name}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader has no error of its own; UnpicklingError carries pages of advice
        pickled = isinstance(error, pickle.UnpicklingError)
        reason = (
            "not written by torch.save, or with other objects than tensors in it; load it where you trust it, and save "
            "its state dict alone"
            if pickled
            else f"truncated or damaged ({str(error).split('.')[0] or type(error).__name__}); fetch it again"
        )
        raise ValueError(f"cannot read {path} as a state dict of {name}: {reason}") from error
    beside: tuple[str, ...] = ()
    while isinstance(content, Mapping) and (wrapper := _wrapper(content)):
        beside += tuple(sorted(key for key in content if key != wrapper))
        content = content[wrapper]
    tensors = isinstance(content, Mapping) and {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f"Expected {path} to hold a state dict of {name} (got {type(content).__name__} of no tensors)")
    return tensors, (*beside, *sorted(str(key) for key in content if key not in tensors))


def _wrapper(content: Mapping) -> str | None:
    return next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
