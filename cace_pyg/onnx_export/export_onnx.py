"""Exports a trained model as two ONNX files, for programs without torch."""

import gc
import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.transforms import evaluation_transform
from cace_pyg.engine.checkpoint import load_model
from cace_pyg.engine.files import atomic_file
from cace_pyg.models import Backbone, CaceNet, Extractor, FrozenExtractor, TimmExtractor
from cace_pyg.onnx_export.check_onnx import ProbePictures, check_onnx, rendered_pictures
from cace_pyg.onnx_export.metadata import map_inputs, onnx_metadata
from cace_pyg.onnx_export.modules import ClueBranch, ExportedClues, IndividualBranch, PairScorer
from cace_pyg.onnx_export.to_onnx import to_onnx

if TYPE_CHECKING:
    import onnx

_EXAMPLES = 2  # a variable size must be 2 or more in tracing


@dataclass(frozen=True)
class Exported:
    """The exported files.

    Attributes:
        individual: the file that turns pictures into embeddings and clues; for a frozen network, which has its own
            file for that, the file that turns its map into clues.
        pair: the file that turns clues of a query and of gallery pictures into distances.
        metadata: of both files.
        differences: the largest absolute difference from torch for each output, see :func:`check_onnx`.
    """

    individual: Path
    pair: Path
    metadata: dict[str, str]
    differences: dict[str, float]


def export_onnx(checkpoint: Path, config: Config, folder: Path) -> Exported:
    """Write ``individual.onnx`` and ``pair.onnx``; both are compared with torch before they appear in ``folder``.

    An ONNX or OpenVINO network already has its own file. Then there is ``clues.onnx`` instead of ``individual.onnx``,
    and the metadata name the network, its tensors and its input.

    Args:
        checkpoint: ``best.ckpt`` of a run.
        config: the run's, or one with other settings that its weights still fit.
        folder: made if it is missing.

    Raises:
        FileNotFoundError, ValueError: see :mod:`cace_pyg.engine.checkpoint`; or a setting cannot be exported, the model
            has 2 GiB or more, or ``evaluation.fusion`` is ``auto`` but the run chose no weight.
        RuntimeError: the extra ``onnx`` is not installed, the graph or the backbone cannot be exported, or onnxruntime
            returns other numbers than torch. Then nothing is kept.
    """
    _check_packages()
    _check_convolution(config)
    if config.evaluation.flip:
        raise ValueError(
            "Expected evaluation.flip false (got true): individual.onnx sees a picture, not its mirror image; give "
            "--evaluation.flip false, or average the embeddings of both pictures in your program"
        )
    if config.evaluation.standardise_cameras:
        raise ValueError(
            "Expected a model trained without evaluation.standardise_cameras (got one with it): individual.onnx sees a "
            "single picture, and does not know its camera; train the pair stage again without"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected --output to name a folder (got the file {folder}); choose another")
    # the same numbers as any backend, using only blocks; auto would need the density of the first pairs
    model, state = load_model(checkpoint, replace(config, conditional=replace(config.conditional, backend="pooled")))
    size = config.data.height, config.data.width
    examples = rendered_pictures(_EXAMPLES, size)
    clues = _clues(model, examples)
    metadata = onnx_metadata(model, clues, state, config)
    models = _individual_model(model, clues, examples, metadata), _pair_model(model, clues, examples, metadata)
    gc.collect()  # torch traces with copies of our classes: the next parser would find two builders of one name
    paths = folder / _first_file(model), folder / "pair.onnx"
    with _folder(folder):
        differences = _write(models, paths, lambda first, second: check_onnx(first, second, model, clues, size))
    return Exported(*paths, metadata, differences)


def _check_packages() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise RuntimeError(f"export needs {name} ({error}): pip install 'cace-pyg[onnx]'") from error


def _check_convolution(config: Config) -> None:
    convolution = yaml.safe_load(config.to_yaml())["conditional"]["convolution"]
    if convolution is not None:
        raise ValueError(
            f"Expected a model whose convolution works on blocks (got conditional.convolution "
            f"{convolution.get('class_path', convolution)}, a layer of PyG on edge lists, which ONNX cannot express); "
            "train without conditional.convolution to export"
        )


@torch.no_grad()
def _clues(model: CaceNet, examples: ProbePictures) -> ExportedClues:
    found = model(examples.images.float(), examples.part_maps if model.needs_parts else None).clues
    return ExportedClues(model, model.pair_stage.prepare(found))


def _individual_model(
    model: CaceNet, clues: ExportedClues, examples: ProbePictures, metadata: dict[str, str]
) -> "onnx.ModelProto":
    branch, inputs = _branch(model, clues, examples)
    open_size = {0: torch.export.Dim("image")}
    open_sizes = tuple([open_size] * len(given) if isinstance(given, list) else open_size for given in inputs)
    returned: tuple[str, ...] = ("embedding", *clues.names)
    taken: tuple[str, ...] = ("images",)
    if isinstance(model.extractor, FrozenExtractor):
        returned, taken = clues.names, map_inputs(model.extractor)
    names = (*taken, *["part_maps"][: len(inputs) - 1]), returned
    with _explained(model, _first_file(model)):
        return to_onnx(branch, inputs, open_sizes, "image", names, metadata)


def _pair_model(
    model: CaceNet, clues: ExportedClues, examples: ProbePictures, metadata: dict[str, str]
) -> "onnx.ModelProto":
    branch, inputs = _branch(model, clues, examples)
    with torch.no_grad():
        found = branch(*inputs)
    query, gallery = ({name: found[name][:count] for name in clues.names} for count in (1, _EXAMPLES))
    open_sizes = dict.fromkeys(query), {name: {0: torch.export.Dim("pair")} for name in gallery}
    names = [f"{side}_{name}" for side in ("query", "gallery") for name in clues.names], ["distance"]
    with _explained(model, "pair.onnx"):
        return to_onnx(PairScorer(model, clues).eval(), (query, gallery), open_sizes, "pair", names, metadata)


def _branch(
    model: CaceNet, clues: ExportedClues, examples: ProbePictures
) -> tuple[IndividualBranch | ClueBranch, tuple[Tensor | list[Tensor], ...]]:
    """The first module, and example arguments."""
    height, width = examples.images.shape[-2:]
    branch: IndividualBranch | ClueBranch
    first: Tensor | list[Tensor]
    if isinstance(model.extractor, FrozenExtractor):
        branch = ClueBranch(model, clues, (height, width))
        _, *first = model.extractor.run(evaluation_transform()(examples.images))
    else:
        branch, first = IndividualBranch(model, clues, (height, width)), examples.images
    return branch.eval(), (first, examples.part_maps) if model.needs_parts else (first,)


def _first_file(model: CaceNet) -> str:
    return "clues.onnx" if isinstance(model.extractor, FrozenExtractor) else "individual.onnx"


@contextmanager
def _explained(model: CaceNet, name: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"cannot make {name} of {_named(model.extractor)} and graph "
            f"{type(model.pair_stage.builder).__name__}: {error}; export a model with another of them"
        ) from error


def _named(extractor: Extractor) -> str:
    return (
        f"backbone.name {extractor.name}"
        if isinstance(extractor, Backbone | TimmExtractor)
        else type(extractor).__name__
    )


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder; if it is new and the block fails, remove it again."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _write(
    models: tuple["onnx.ModelProto", "onnx.ModelProto"],
    paths: tuple[Path, Path],
    check: Callable[[Path, Path], dict[str, float]],
) -> dict[str, float]:
    """Write both files or none, with the result of ``check``."""
    with ExitStack() as stack:
        files = [stack.enter_context(atomic_file(path)) for path in paths]
        for file, model in zip(files, models, strict=True):
            file.write(model.SerializeToString(deterministic=True))
            file.flush()
        try:
            return check(Path(files[0].name), Path(files[1].name))
        except RuntimeError as error:
            raise RuntimeError(
                f"the exported model is not the trained one, and nothing was kept. {error}. Try another version of "
                "onnxruntime; a graph that selects edges (TopKSimilarity, graph.top_edges, graph.threshold) may select "
                "differently among equals"
            ) from error
