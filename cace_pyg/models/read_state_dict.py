"""Reads the tensors of a weights file, from several libraries."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # names of the state dict in checkpoints
_DEEPEST = 4  # nested wrappers; a dict in a pickle may contain itself

# torchreid's checkpoints contain Rank-1 as a numpy scalar, which pickle rebuilds with these
_SCALARS: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")]
_SCALARS += [(np.float32(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]


def read_state_dict(path: Path, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file, and its other keys; a checkpoint that wraps its state dict is unwrapped.

    Args:
        path: a file of ``torch.save``, read with ``weights_only=True`` and numpy scalars allowed; or safetensors.
        name: of the network, for error messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a state dict; the message says what it is, if that is known.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path} (backbone.weights); expected a state dict of {name}")
    content = _content(path, name)
    beside: tuple[str, ...] = ()
    for _ in range(_DEEPEST):
        wrapper = _wrapper(content)
        if wrapper is None:
            break
        beside += tuple(sorted(str(key) for key in content if key != wrapper))
        content = content[wrapper]
    tensors = isinstance(content, Mapping) and {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f"Expected a state dict of {name} in {path} (got {type(content).__name__} without tensors)")
    return tensors, (*beside, *sorted(str(key) for key in content if key not in tensors))


def _content(path: Path, name: str) -> Any:
    refusal = f"cannot read {path} as a state dict of {name}"
    with path.open("rb") as file:
        first = file.read(64)
    other = _other_format(path, first)
    if other is not None:
        raise ValueError(f"{refusal}: {other}")
    try:
        if path.suffix == ".safetensors" or _is_safetensors(first):
            return load_file(path)
        with torch.serialization.safe_globals(_SCALARS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its message has pages of advice
        raise ValueError(
            f"{refusal}: it was not written by torch.save, or contains objects other than tensors and numbers; if you "
            "trust it, load it yourself and save only its state dict"
        ) from error
    except Exception as error:  # neither reader has its own error class
        reason = str(error).split(".")[0] or type(error).__name__
        raise ValueError(f"{refusal}: truncated or damaged ({reason}); fetch it again") from error


def _wrapper(content: Any) -> str | None:
    if not isinstance(content, Mapping):
        return None
    return next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)


def _other_format(path: Path, first: bytes) -> str | None:
    """The format of a file that neither reader takes, if its first bytes or its members show it."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return None
        if any(name.endswith("/constants.pkl") for name in names):
            return (
                "a TorchScript program; if you trust it, save its weights: "
                "torch.save(torch.jit.load(path).state_dict(), 'weights.pth')"
            )
        return None if any(name.endswith("data.pkl") for name in names) else "a zip archive; unpack it first"
    for beginnings, what in (
        ((b"version https://git-lfs",), "a pointer of Git LFS instead of the file; fetch it with git lfs pull"),
        ((b"<!doctype", b"<html"), "a web page instead of the file; fetch it again"),
        ((b"\x1f\x8b",), "compressed by gzip; unpack it first"),
        ((b"\x89hdf",), "an HDF5 file; save a state dict with torch.save"),
    ):
        if first.lstrip().lower().startswith(beginnings):
            return what
    return "an ONNX file; give a state dict" if path.suffix == ".onnx" else None


def _is_safetensors(first: bytes) -> bool:
    """Whether it starts with eight bytes for the length of a JSON object, and that object."""
    return len(first) > 9 and int.from_bytes(first[:8], "little") < 10**8 and first[8:10] == b'{"'
