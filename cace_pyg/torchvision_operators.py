"""Import torchvision, even with a torch that it was not compiled for.

The torchvision wheel on PyPI is linked against the CUDA build of torch. With a CPU-only torch its C++ operators do not
load, and ``import torchvision`` fails while registering the shape rules of ``nms``, an operator that this library never
calls. If the missing schemas are declared first, models, transforms and data sets work. If the operators load, nothing
is declared.
"""

import importlib
from types import ModuleType

import torch

_MISSING_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # schemas vanish when their Library is garbage-collected


def import_torchvision(submodule: str = "") -> ModuleType:
    """Return ``torchvision`` or ``torchvision.<submodule>``, imported on any build of torch.

    Raises:
        RuntimeError: torchvision cannot be imported for another reason.
    """
    name = f"torchvision.{submodule}" if submodule else "torchvision"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    _declare_missing_schemas()
    return importlib.import_module(name)


def _declare_missing_schemas() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for name, schema in _MISSING_SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
