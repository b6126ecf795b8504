"""The environment that a result comes from."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = (
    "cace-pyg",
    "torch",
    "torchvision",
    "torch-geometric",
    "torch-scatter",
    "numpy",
    "lightning-fabric",
)


def describe_environment(seed: int, data_fingerprint: str) -> dict[str, str]:
    """Versions, machine, command, seed and data-set fingerprint, stored with every checkpoint and result."""
    found = {name: _version(name) for name in _PACKAGES}
    found["torch"] = str(torch.__version__)  # metadata may leave out for which CUDA it was built
    return {
        "command": " ".join([os.path.basename(sys.executable), *_as_module(sys.argv)]),
        "seed": str(seed),
        "data-set fingerprint": data_fingerprint,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **found,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _as_module(arguments: list[str]) -> list[str]:
    program, *rest = arguments
    name = os.path.splitext(os.path.basename(program))[0]
    return ["-m", "cace_pyg" if name in ("__main__", "cace-pyg") else f"cace_pyg.{name}", *rest]
