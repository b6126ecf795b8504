"""A network in an ONNX file, run by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cace_pyg.models.find_clue_map import NetworkGraph, Step
from cace_pyg.models.frozen_extractor import ChannelOrder, FrozenExtractor, ImageInput, Run, size_refused
from cace_pyg.models.normalisation import Normalisation

if TYPE_CHECKING:
    import onnx

_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_MOST_BYTES = 2**31 - 2**20  # of a model in memory


class OnnxExtractor(FrozenExtractor):
    """The embedding of an ONNX file, and the map before its last global pooling as clues; it is not trained.

    The file is never changed: the map becomes a second output of a copy in memory.

    Args:
        path: of the file; weights in other files next to it are found.
        map: name of the tensor that is the map, or of the node that makes it; None: see
            :func:`~cace_pyg.models.find_clue_map.find_clue_map`.
        output: name of the embedding; None: the only output ``(image, embedding)``.
        normalisation: of the images that the file takes. ``imagenet``: mean and standard deviation of ImageNet;
            ``unit``: 0 to 1; ``pixels``: 0 to 255. None: by ``Image.NominalPixelRange`` in the file, ``pixels`` if it
            takes integers, else ``imagenet``.
        channel_order: ``rgb`` or ``bgr``; None: by ``Image.BitmapPixelFormat`` in the file, else ``rgb``.
        size: (height, width) of the images; None: the file's, or 256×128 if the file takes any size.
        earlier: names of further maps, or of nodes that make them, whose channels come after those of the map, see
            :func:`~cace_pyg.models.clues_of_layers.join_layers`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an ONNX file, does not take images of ``size``, or the tensor with the map or the
            embedding cannot be determined; or there is no map of a name in ``earlier``.
        RuntimeError: the extra ``onnx`` is not installed, or onnxruntime cannot run the file.
    """

    name = "onnx"

    @staticmethod
    def _open(path: Path) -> "OnnxRuntime":
        """The file, ready to run."""
        return OnnxRuntime(path)


class OnnxRuntime:
    """An ONNX file, see :class:`~cace_pyg.models.frozen_extractor.Runtime`."""

    def __init__(self, path: Path):
        try:
            import onnx
            import onnxruntime  # noqa: F401  # so that a missing package is reported now
        except ImportError as error:
            raise RuntimeError(
                f"an ONNX network needs onnx and onnxruntime ({error}): pip install 'cace-pyg[onnx]'"
            ) from error
        if not path.is_file():
            raise FileNotFoundError(f"no ONNX file at {path}; give the network as --backbone.weights PATH")
        try:
            self._model = onnx.load(path, load_external_data=False)
            beside = _external_files(self._model)
            self.files = (path.absolute(), *(path.absolute().parent / name for name in beside))
            for file in self.files[1:]:
                if not file.is_file():
                    raise FileNotFoundError(f"no file {file}, where {path.name} has its weights; put it next to it")
            onnx.load_external_data_for_model(self._model, str(path.parent))
        except FileNotFoundError:
            raise
        except Exception as error:  # protobuf and onnx raise their own errors
            raise ValueError(
                f"{path} cannot be read as an ONNX file ({type(error).__name__}: {error}); export it again, or give "
                "torch weights with the name of their network, such as --backbone.name osnet_x0_25"
            ) from error
        if not self._model.graph.node:
            raise ValueError(f"{path} cannot be read as an ONNX file (there is no graph in it); export it again")
        self._path = path
        session = self._session(self._model, 1)
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES:
            said = ", ".join(f"{taken.name} {taken.type} {taken.shape}" for taken in inputs)
            raise ValueError(
                f"Expected {path} to take images and nothing else, as float32, float16 or uint8 (got {said}); export "
                "it that way"
            )
        self._input = inputs[0].name
        shape = tuple(length if isinstance(length, int) else None for length in inputs[0].shape)
        self.image_input = ImageInput(shape, _TYPES[inputs[0].type])
        self.outputs = tuple(output.name for output in session.get_outputs())
        told = {entry.key: entry.value for entry in self._model.metadata_props}  # see ONNX's MetadataProps.md
        ranges: dict[str, Normalisation] = {"NominalRange_0_255": "pixels", "Normalized_0_1": "unit"}
        usual: Normalisation = "pixels" if self.image_input.dtype == "uint8" else "imagenet"
        self.normalisation = ranges.get(told.get("Image.NominalPixelRange", ""), usual)
        self.channel_order: ChannelOrder = "bgr" if told.get("Image.BitmapPixelFormat") == "Bgr8" else "rgb"

    def graph(self, shape: tuple[int, ...]) -> NetworkGraph:
        """The graph; shapes come from running it on a grey image."""
        nodes = self._model.graph.node
        constants = _constants(self._model)
        steps = tuple(
            Step(node.op_type, node.name, tuple(node.input), tuple(node.output), _axes(node, constants))
            for node in nodes
        )
        shapes = {name: tuple(values.shape) for name, values in constants.items()}
        return NetworkGraph(steps, shapes | self._shapes(shape))

    def start(self, tensors: Sequence[str], threads: int) -> Run:
        """Start a session that returns these tensors."""
        session = self._session(self._with_outputs(tensors), threads)
        return lambda images: session.run(list(tensors), {self._input: images})

    def _shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        every = [name for node in self._model.graph.node for name in node.output if name]
        session = self._session(self._with_outputs(every), 1, optimise=False)
        names = [output.name for output in session.get_outputs()]
        images = np.zeros(shape, self.image_input.dtype)
        try:
            found = session.run(names, {self._input: images})
        except Exception as error:  # onnxruntime raises its own errors
            raise size_refused(self._path, shape, _first_line(error)) from error
        arrays = {name: value for name, value in zip(names, found, strict=True) if isinstance(value, np.ndarray)}
        return {self._input: shape} | {name: value.shape for name, value in arrays.items()}

    def _with_outputs(self, names: Sequence[str]) -> "onnx.ModelProto":
        """A copy whose graph also returns these tensors."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        there = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
        return model

    def _session(self, model: "onnx.ModelProto", threads: int, optimise: bool = True) -> Any:
        import onnxruntime

        if (size := model.ByteSize()) > _MOST_BYTES:
            raise ValueError(f"Expected an ONNX network of less than 2 GiB (got {size:,} bytes of {self._path})")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised anyway
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own errors
            raise RuntimeError(f"onnxruntime cannot run {self._path}: {_first_line(error)}; export it again") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _external_files(model: "onnx.ModelProto") -> list[str]:
    """Names of the files with weights, in alphabetical order."""
    found = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return sorted(found)


def _constants(model: "onnx.ModelProto") -> dict[str, np.ndarray]:
    """Weights, and the values of constant nodes."""
    from onnx import numpy_helper

    found = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
                elif attribute.name in ("value_int", "value_ints"):
                    found[node.output[0]] = np.array(attribute.i if attribute.name == "value_int" else attribute.ints)
    return found


def _axes(node: "onnx.NodeProto", constants: dict[str, np.ndarray]) -> tuple[int, ...] | None:
    """The reduced axes of a reduction, or the order of a transposition; an attribute, or since opset 18 an input."""
    for attribute in node.attribute:
        if attribute.name in ("axes", "perm"):
            return tuple(attribute.ints)
    if node.op_type.startswith("Reduce") and len(node.input) > 1 and node.input[1] in constants:
        return tuple(int(axis) for axis in constants[node.input[1]].ravel())
    return None
