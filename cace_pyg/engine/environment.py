"""The environment that a result comes from."""

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
        "command": shlex.join([os.path.basename(sys.executable), *_as_module(sys.argv)]),
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
    """As ``python`` takes them: a script, or a module of this package."""
    program, *rest = arguments
    path, package = Path(program).resolve(), Path(__file__).parents[1]
    if path.name in ("cace-pyg", "cace-pyg.exe") or path == package / "__main__.py":
        return ["-m", "cace_pyg", *rest]
    if not path.is_relative_to(package):
        return arguments
    name = path.relative_to(package.parent).with_suffix("").as_posix().replace("/", ".")
    return ["-m", name.removesuffix(".__main__"), *rest]
