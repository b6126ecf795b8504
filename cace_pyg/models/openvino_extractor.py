"""A network in OpenVINO's intermediate representation, run by OpenVINO."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cace_pyg.models.find_clue_map import NetworkGraph, Shape, Step
from cace_pyg.models.frozen_extractor import ChannelOrder, FrozenExtractor, ImageInput, Run, size_refused
from cace_pyg.models.normalisation import Normalisation

_ONNX_KINDS = {  # ONNX's names, if they differ
    "AvgPool": "AveragePool",
    "Clamp": "Clip",
    "Convolution": "Conv",
    "GroupConvolution": "GroupConv",
    "Maximum": "Max",
    "Power": "Pow",
    "StridedSlice": "Slice",
}
_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}


class OpenVinoExtractor(FrozenExtractor):
    """The embedding of an OpenVINO file, and the map before its last global pooling as clues; it is not trained.

    OpenVINO chooses its own precision, as usual: bfloat16 if the processor supports it, which is twice as fast with an
    error of about a hundredth.

    Args:
        path: of the ``.xml``; its weights are in the ``.bin`` next to it.
        map: name of the layer that makes the map; None: see
            :func:`~cace_pyg.models.find_clue_map.find_clue_map`.
        output: name of the embedding; None: the only output ``(image, embedding)``.
        normalisation: see :class:`~cace_pyg.models.onnx_extractor.OnnxExtractor`; None: ``pixels``, as in the networks
            of the Open Model Zoo.
        channel_order: ``rgb`` or ``bgr``; None: ``bgr``, likewise.
        size: (height, width) of the images; None: the file's.
        earlier: names of further layers that make maps, see :class:`~cace_pyg.models.onnx_extractor.OnnxExtractor`.

    Raises:
        FileNotFoundError: there is no such file, or no weights next to it.
        ValueError: OpenVINO cannot read it, it does not take images of ``size``, or the tensor with the map or the
            embedding cannot be determined; or no layer of a name in ``earlier`` makes a map.
        RuntimeError: the extra ``openvino`` is not installed.
    """

    name = "openvino"

    @staticmethod
    def _open(path: Path) -> "OpenVinoRuntime":
        """The file, ready to run."""
        return OpenVinoRuntime(path)


class OpenVinoRuntime:
    """An OpenVINO file, see :class:`~cace_pyg.models.frozen_extractor.Runtime`."""

    normalisation: Normalisation = "pixels"
    channel_order: ChannelOrder = "bgr"

    def __init__(self, path: Path):
        try:
            import openvino  # noqa: F401  # so that a missing package is reported now
        except ImportError as error:
            raise RuntimeError(
                f"an OpenVINO network needs openvino ({error}): pip install 'cace-pyg[openvino]'"
            ) from error
        self._core = _core()
        self._path = path
        weights = path.with_suffix(".bin")
        for file, what in ((path, "OpenVINO file"), (weights, f"weights of {path.name}")):
            if not file.is_file():
                raise FileNotFoundError(
                    f"no {what} at {file}; give the .xml as --backbone.weights, with its .bin next to it"
                )
        self.files: tuple[Path, ...] = (path.absolute(), weights.absolute())
        model = self._read()
        inputs = model.inputs
        kind = inputs[0].get_element_type().get_type_name() if len(inputs) == 1 else ""
        if kind not in _TYPES:
            said = ", ".join(str(taken) for taken in inputs)
            raise ValueError(f"Expected {path} to take images and nothing else, as f32, f16 or u8 (got {said})")
        shape = inputs[0].get_partial_shape()
        lengths = tuple(None if length.is_dynamic else length.get_length() for length in shape)
        self.image_input = ImageInput(lengths, _TYPES[kind])
        self.outputs = tuple(_name(result.input_value(0)) for result in model.get_results())

    def graph(self, shape: tuple[int, ...]) -> NetworkGraph:
        """The graph, with shapes for images of ``shape``."""
        model = self._read()
        try:
            model.reshape(list(shape))
        except RuntimeError as error:
            raise size_refused(self._path, shape, _last_line(error)) from error
        steps: list[Step] = []
        shapes: dict[str, Shape] = {}
        other_names: dict[str, str] = {}
        for node in model.get_ordered_ops():
            kind = node.get_type_name()
            given, made = (tuple(_name(end) for end in ends) for ends in (node.input_values(), node.outputs()))
            for name, end in zip(made, node.outputs(), strict=True):
                other_names |= dict.fromkeys(end.get_names(), name)
                if end.get_partial_shape().is_static:
                    shapes[name] = tuple(int(length) for length in end.get_shape())
            if made and kind not in ("Constant", "Parameter"):
                steps.append(Step(_ONNX_KINDS.get(kind, kind), node.get_friendly_name(), given, made, _axes(node)))
        return NetworkGraph(tuple(steps), shapes, other_names)

    def start(self, tensors: Sequence[str], threads: int) -> Run:
        """Compile a model that returns these tensors."""
        model = self._read()
        ends = {_name(end): end for node in model.get_ordered_ops() for end in node.outputs()}
        outputs = list(dict.fromkeys([*self.outputs, *tensors]))
        model.add_outputs([ends[name] for name in outputs[len(self.outputs) :]])
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = self._core.compile_model(model, "CPU", options)

        def run(images: np.ndarray) -> list[np.ndarray]:
            found = compiled(images)
            return [found[outputs.index(name)] for name in tensors]

        return run

    def _read(self) -> Any:
        try:
            return self._core.read_model(self._path)
        except RuntimeError as error:
            raise ValueError(f"{self._path} cannot be read as an OpenVINO file ({_last_line(error)})") from error


@functools.cache
def _core() -> Any:
    """One for the process: after a second one, torch.export can crash (OpenVINO 2026.4, Python 3.11)."""
    import openvino

    return openvino.Core()


def _name(end: Any) -> str:
    """The name of a layer's output: the layer's name, with a number if it has several outputs."""
    node = end.get_node()
    return node.get_friendly_name() + (f".{end.get_index()}" if len(node.outputs()) > 1 else "")


def _axes(node: Any) -> tuple[int, ...] | None:
    """The reduced axes of a reduction, or the order of a transposition."""
    if not node.get_type_name().startswith("Reduce") and node.get_type_name() != "Transpose":
        return None
    given = node.input_value(1).get_node()
    return tuple(int(axis) for axis in given.get_data().ravel()) if given.get_type_name() == "Constant" else None


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
