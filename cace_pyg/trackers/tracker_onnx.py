"""An exported model as a file that trackers load by themselves."""

from pathlib import Path

from cace_pyg.engine.files import atomic_file


def write_tracker_onnx(individual: str | Path, output: str | Path) -> None:
    """From ``individual.onnx`` of an export, the file that ultralytics' trackers take as ``model`` of their YAML.

    It has one input, float32 RGB pictures from 0 to 1, ``(image, 3, height, width)``, normalised inside, and one
    output, the embedding. ultralytics cuts boxes with a margin of some ten pixels and resizes without smoothing, which
    is not how the model was trained: :class:`ReidModel` gives what it gives elsewhere.

    Args:
        individual: what ``python -m cace_pyg.export`` wrote.
        output: ends in ``.onnx``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another file, or the name of the output does not end in ``.onnx``.
        RuntimeError: the extra ``onnx`` is not installed.
    """
    try:
        import onnx
        import onnx.utils
    except ImportError as error:
        raise RuntimeError(f"write_tracker_onnx needs onnx ({error}): pip install 'cace-pyg[onnx]'") from error
    if Path(output).suffix != ".onnx":
        raise ValueError(f"Expected an output whose name ends in .onnx (got {output}), for trackers go by the name")
    if not Path(individual).is_file():
        raise FileNotFoundError(f"no file at {individual}; python -m cace_pyg.export writes individual.onnx")
    try:
        model = onnx.load(str(individual))
        names = {one.name for one in model.graph.input}, {one.name for one in model.graph.output}
    except Exception as error:  # protobuf has a kind of its own for a damaged file
        raise ValueError(f"cannot read {individual}: {error}") from error
    if names[0] != {"images"} or "embedding" not in names[1]:
        raise ValueError(
            f"Expected individual.onnx of an export, with the input images and an output embedding (got {individual} "
            f"with {', '.join(sorted(names[0]))} and {', '.join(sorted(names[1]))}); of a frozen network give the "
            "trackers its own file, and of one that needs label maps of body parts there is none"
        )
    alone = onnx.utils.Extractor(model).extract_model(["images"], ["embedding"])
    alone.metadata_props.MergeFrom(model.metadata_props)
    helper, graph = onnx.helper, alone.graph
    shape = [one.dim_param or one.dim_value for one in graph.input[0].type.tensor_type.shape.dim]
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
