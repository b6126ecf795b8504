"""Import torchvision, also beside a torch it was not compiled for.

The torchvision wheel on PyPI is linked against the CUDA build of torch. Beside a CPU-only torch its C++ operators
do not load, and ``import torchvision`` dies while registering the shape rules of ``nms``, an operator this library
never calls. Declaring the missing schemas first lets models, transforms and data sets work. Where the operators
load, nothing is declared.
"""

import importlib
from types import ModuleType

import torch

_MISSING_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a Library takes its schemas with it when it is collected


def import_torchvision(submodule: str = "") -> ModuleType:
    """Return ``torchvision`` or ``torchvision.<submodule>``, imported on any build of torch.

    Raises:
        RuntimeError: torchvision cannot be imported for another reason than the missing operators.
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
