"""The tensors of a weights file, whatever the library that saved them."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # what libraries call the state dict in a checkpoint
_DEEPEST = 4  # wrappers within each other; a dict in a pickle may hold itself

# torchreid keeps Rank-1 in its checkpoints as a numpy scalar, which pickle rebuilds from these
_SCALARS: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")]
_SCALARS += [(np.float32(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]


def read_state_dict(path: Path, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file, and the keys beside them; a checkpoint that wraps its state dict is unwrapped.

    Args:
        path: a file that ``torch.save`` wrote, read with ``weights_only=True``, numpy scalars allowed; or safetensors.
        name: of the network, for errors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no state dict; says what it is where that can be told.
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
        raise ValueError(f"Expected {path} to hold a state dict of {name} (got {type(content).__name__} of no tensors)")
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
    except pickle.UnpicklingError as error:  # it carries pages of advice
        raise ValueError(
            f"{refusal}: not written by torch.save, or with other objects than tensors and numbers in it; load it "
            "where you trust it, and save its state dict alone"
        ) from error
    except Exception as error:  # neither reader has an error of its own
        reason = str(error).split(".")[0] or type(error).__name__
        raise ValueError(f"{refusal}: truncated or damaged ({reason}); fetch it again") from error


def _wrapper(content: Any) -> str | None:
    if not isinstance(content, Mapping):
        return None
    return next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)


def _other_format(path: Path, first: bytes) -> str | None:
    """What a file is that neither reader takes, where its first bytes or its members tell."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return None
        if any(name.endswith("/constants.pkl") for name in names):
            return (
                "a TorchScript program; save its weights where you trust it: "
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
    """Eight bytes give the length of a JSON object, which follows."""
    return len(first) > 9 and int.from_bytes(first[:8], "little") < 10**8 and first[8:10] == b'{"'
