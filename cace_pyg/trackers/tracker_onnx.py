"""Converts an exported model to a file that trackers can load."""

from pathlib import Path

from cace_pyg.engine.files import atomic_file


def write_tracker_onnx(individual: str | Path, output: str | Path) -> None:
    """Convert ``individual.onnx`` of an export to a file that ultralytics' trackers take as ``model`` in their YAML.

    It has one input, float32 RGB pictures from 0 to 1, ``(image, 3, height, width)``, which are normalised inside, and
    one output, the embedding. ultralytics crops boxes with a margin of about ten pixels and resizes without smoothing.
    The model was not trained this way; :class:`ReidModel` prepares pictures as in training.

    Args:
        individual: a file that ``python -m cace_pyg.export`` wrote.
        output: ends in ``.onnx``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, or the name of the output does not end in ``.onnx``.
        RuntimeError: the extra ``onnx`` is not installed.
    """
    try:
        import onnx
        import onnx.utils
    except ImportError as error:
        raise RuntimeError(f"write_tracker_onnx needs onnx ({error}): pip install 'cace-pyg[onnx]'") from error
    if Path(output).suffix != ".onnx":
        raise ValueError(f"Expected an output whose name ends in .onnx (got {output}); trackers go by the name")
    if not Path(individual).is_file():
        raise FileNotFoundError(f"no file at {individual}; python -m cace_pyg.export writes individual.onnx")
    try:
        model = onnx.load(str(individual))
        names = {value.name for value in model.graph.input}, {value.name for value in model.graph.output}
    except Exception as error:  # protobuf raises its own error for a damaged file
        raise ValueError(f"cannot read {individual}: {error}") from error
    if names[0] != {"images"} or "embedding" not in names[1]:
        raise ValueError(
            f"Expected individual.onnx of an export, with the input images and an output embedding (got {individual} "
            f"with {', '.join(sorted(names[0]))} and {', '.join(sorted(names[1]))}); for a frozen network, give the "
            "trackers its own file; a network that needs label maps of body parts cannot be converted"
        )
    alone = onnx.utils.Extractor(model).extract_model(["images"], ["embedding"])
    alone.metadata_props.MergeFrom(model.metadata_props)
    helper, graph = onnx.helper, alone.graph
    shape = [size.dim_param or size.dim_value for size in graph.input[0].type.tensor_type.shape.dim]
    nodes = [
        helper.make_node("Constant", [], ["white"], value_float=255.0),
        helper.make_node("Mul", ["pictures", "white"], ["bright"]),
        helper.make_node("Round", ["bright"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["images"], to=onnx.TensorProto.UINT8),
        *graph.node,
    ]
    taken = helper.make_tensor_value_info("pictures", onnx.TensorProto.FLOAT, shape)
    for field, values in ((graph.input, [taken]), (graph.node, nodes)):
        del field[:]
        field.extend(values)
    onnx.checker.check_model(alone)
    with atomic_file(Path(output)) as file:
        file.write(alone.SerializeToString(deterministic=True))
