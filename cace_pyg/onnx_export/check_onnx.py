"""Compares exported models with the original."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cace_pyg.data.rendering.pedestrian import draw_family
from cace_pyg.data.rendering.render import VIEWS, render
from cace_pyg.data.rendering.scene import draw_camera
from cace_pyg.data.transforms import evaluation_transform
from cace_pyg.models import CaceNet, FrozenExtractor, PairOperand
from cace_pyg.onnx_export.metadata import map_inputs
from cace_pyg.onnx_export.modules import ExportedClues

TOLERANCE = 1e-4  # absolute; relative to the largest number of an output if that is above 1
_SIZES = 1, 2, 5  # pictures in a batch, and gallery pictures of a query
_Arrays = dict[str, np.ndarray]
_Model = Callable[[_Arrays], _Arrays]


class _Comparison(NamedTuple):
    """One output of both models, ``(image or pair, …)``."""

    name: str
    expected: np.ndarray
    got: np.ndarray


class ProbePictures(NamedTuple):
    """uint8 ``(image, 3, height, width)`` and label maps of body parts, uint8 ``(image, height, width)``."""

    images: Tensor
    part_maps: Tensor

    def select(self, index: slice) -> "ProbePictures":
        """The pictures at ``index``."""
        return ProbePictures(self.images[index], self.part_maps[index])


def rendered_pictures(count: int, size: tuple[int, int]) -> ProbePictures:
    """Pedestrians from the built-in data set, the same every time; ``size`` is (height, width)."""
    rng = np.random.default_rng(0)
    people, camera = draw_family(rng, "probe", count), draw_camera(rng, 0)
    drawn = [
        render(person, camera, tuple(VIEWS)[number % len(VIEWS)], "good", False, size, rng)
        for number, person in enumerate(people)
    ]
    images = np.stack([np.asarray(drawing.picture) for drawing in drawn])
    return ProbePictures(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([drawing.parts for drawing in drawn])),
    )


def noise_pictures(count: int, size: tuple[int, int]) -> ProbePictures:
    """Independent random pixels and labels, the same every time; ``size`` is (height, width)."""
    generator = torch.Generator().manual_seed(0)
    return ProbePictures(
        torch.randint(256, (count, 3, *size), generator=generator, dtype=torch.uint8),
        torch.randint(7, (count, *size), generator=generator, dtype=torch.uint8),
    )


@torch.no_grad()
def check_onnx(
    individual: Path, pair: Path, model: CaceNet, clues: ExportedClues, size: tuple[int, int]
) -> dict[str, float]:
    """Run both models in onnxruntime, on rendered pedestrians and on noise, in batches of 1, 2 and 5.

    Args:
        individual: file of the first model; for a frozen network, its input is the map from the network's own runtime.
        pair: file of the second model.
        model: the original, in evaluation mode, on the CPU.
        clues: the tensors passed between the two models.
        size: (height, width) of a picture.

    Returns:
        The largest absolute difference from torch for each output; ``distance`` is computed from torch's clues,
        ``distance from pixels`` from the first model's.

    Raises:
        RuntimeError: onnx finds an error in a file, onnxruntime cannot run it, or a number differs by more than 1e-4
            (times the largest number of its output if that is above 1).
    """
    try:
        models = _load(individual), _load(pair)
        compared = [
            comparison
            for pictures in (rendered_pictures(1 + max(_SIZES), size), noise_pictures(1 + max(_SIZES), size))
            for comparison in _compare(*models, model, clues, pictures)
        ]
    except Exception as error:  # onnx and onnxruntime raise their own errors, without a common base class
        raise RuntimeError(f"{type(error).__name__}: {str(error).strip()}") from error
    worst: dict[str, float] = {}
    wrong = []
    for name, expected, got in compared:
        difference = float(np.abs(expected - got).max())
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        worst[name] = max(worst.get(name, 0.0), difference)
        if not difference <= allowed:  # also refuses NaN
            wrong.append(f"{name}, batch of {len(expected)}: {difference:.1e} (rounding: at most {allowed:.1e})")
    if wrong:
        raise RuntimeError("onnxruntime and torch differ: " + "; ".join(dict.fromkeys(wrong)))
    return worst


def _load(path: Path) -> _Model:
    """A file as a function of named arrays, with as many threads as torch."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _compare(
    individual: _Model, pair: _Model, model: CaceNet, clues: ExportedClues, pictures: ProbePictures
) -> Iterator[_Comparison]:
    """The first picture is the query, the others the gallery."""
    query, query_by_torch = pictures.select(slice(0, 1)), _by_torch(model, pictures.select(slice(0, 1)))
    query_got = individual(_inputs(model, query))
    for size in _SIZES:
        gallery = pictures.select(slice(1, 1 + size))
        embedding, prepared = _by_torch(model, gallery)
        expected = _numpy(clues.tensors(prepared))
        if not isinstance(model.extractor, FrozenExtractor):
            expected = _numpy({"embedding": embedding}) | expected
        got = individual(_inputs(model, gallery))
        for name, values in expected.items():
            yield _Comparison(name, values, got[name])
        distance = model.pair_stage.distance(query_by_torch[1], prepared).numpy()
        of_torch = _sides(_numpy(clues.tensors(query_by_torch[1])), expected, clues.names)
        yield _Comparison("distance", distance, pair(of_torch)["distance"])
        from_pixels = pair(_sides(query_got, got, clues.names))
        yield _Comparison("distance from pixels", distance, from_pixels["distance"])


def _by_torch(model: CaceNet, pictures: ProbePictures) -> tuple[Tensor, PairOperand]:
    """Unit-length embeddings and prepared clues, as in the evaluation."""
    images = evaluation_transform()(pictures.images)
    embedding, clues = model(images, pictures.part_maps if model.needs_parts else None)
    return torch.nn.functional.normalize(embedding, dim=-1), model.pair_stage.prepare(clues)


def _inputs(model: CaceNet, pictures: ProbePictures) -> _Arrays:
    """The inputs of the first model."""
    if isinstance(model.extractor, FrozenExtractor):
        _, *maps = model.extractor.run(evaluation_transform()(pictures.images))
        taken = dict(zip(map_inputs(model.extractor), maps, strict=True))
    else:
        taken = {"images": pictures.images}
    return _numpy(taken | ({"part_maps": pictures.part_maps} if model.needs_parts else {}))


def _sides(query: _Arrays, gallery: _Arrays, names: tuple[str, ...]) -> _Arrays:
    return {f"query_{name}": query[name] for name in names} | {f"gallery_{name}": gallery[name] for name in names}


def _numpy(tensors: dict[str, Tensor]) -> _Arrays:
    return {name: values.numpy() for name, values in tensors.items()}
