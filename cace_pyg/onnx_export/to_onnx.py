"""Converts a module to an ONNX model."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree

if TYPE_CHECKING:
    import onnx

_OPSET = 18
_MOST_BYTES = 2**31 - 2**24  # of weights: an ONNX file has less than 2 GiB, and the graph needs some of it


def to_onnx(
    module: torch.nn.Module,
    inputs: tuple[Any, ...],
    open_sizes: tuple[Any, ...],
    open_name: str,
    names: tuple[Sequence[str], Sequence[str]],
    metadata: dict[str, str],
) -> "onnx.ModelProto":
    """One self-contained model with the outputs of ``module``, with the same bytes every time.

    Args:
        module: in evaluation mode.
        inputs: example arguments; variable sizes are 2 or more.
        open_sizes: the variable sizes of each argument, as for ``torch.export``; all are the same size.
        open_name: its name in the model.
        names: of the model's inputs and outputs, in order.
        metadata: stored in the model.

    Raises:
        ValueError: the weights need 2 GiB or more.
        RuntimeError: torch cannot trace the module with these variable sizes, or ONNX cannot express an operation.
    """
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    if size > _MOST_BYTES:
        raise ValueError(f"Expected weights of less than 2 GiB, which an ONNX file can hold (got {size:,} bytes)")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations, for torch's own developers
            # given the module itself, torch.onnx silently fixes a size that cannot vary
            program = torch.export.export(module, _owned(inputs), dynamic_shapes=open_sizes, strict=False)
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=names[0],
                output_names=names[1],
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
            assert made is not None  # only the older exporter returns None
            model = made.model_proto
    except Exception as error:  # torch raises many kinds of errors
        raise RuntimeError(_root(error)) from error
    _forget_origin(model)
    _name_open_size(model, open_name)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model


def _root(error: BaseException) -> str:
    """The first line of the original error; torch wraps it in advice for its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def _owned(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies that are not views: torch guards the base of a view, which the traced program does not have."""
    return _pytree.tree_map(torch.clone, inputs)


def _name_open_size(model: "onnx.ModelProto", name: str) -> None:
    """Rename the variable size, which torch calls s46 or so; drop inferred shapes, which can be inferred again."""
    model.graph.ClearField("value_info")
    for described in (*model.graph.input, *model.graph.output):
        for size in described.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = name


def _forget_origin(model: "onnx.ModelProto") -> None:
    """Remove the stack traces, which contain paths of this machine."""
    graph = model.graph
    for described in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        described.ClearField("metadata_props")
        described.ClearField("doc_string")
