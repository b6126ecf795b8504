"""A frozen network in a file of another runtime."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models.clues_of_layers import check_earlier, fits_below, join_layers, layer_names
from cace_pyg.models.extractor import Individual
from cace_pyg.models.find_clue_map import ClueMap, NetworkGraph, find_clue_map, find_earlier_map
from cace_pyg.models.normalisation import Normalisation, renormalisation

ChannelOrder = Literal["rgb", "bgr"]
Run = Callable[[np.ndarray], Sequence[np.ndarray]]  # from images to tensors of the network

_USUAL_SIZE = (256, 128)


class ImageInput(NamedTuple):
    """The input of a file: its axes, None for variable ones, and the numpy name of its number type."""

    shape: tuple[int | None, ...]
    dtype: str


class Runtime(Protocol):
    """The common interface of ONNX and OpenVINO files.

    Attributes:
        files: the file, and files next to it with its weights.
        image_input: its input.
        outputs: names of its outputs.
        normalisation: as the file states it, or the usual one of its format.
        channel_order: likewise.
    """

    files: tuple[Path, ...]
    image_input: ImageInput
    outputs: tuple[str, ...]
    normalisation: Normalisation
    channel_order: ChannelOrder

    def graph(self, shape: tuple[int, ...]) -> NetworkGraph:
        """The graph, with shapes for images of ``shape``."""

    def start(self, tensors: Sequence[str], threads: int) -> Run:
        """Start the network with this number of threads; it returns these tensors, in this order."""


class FrozenExtractor(torch.nn.Module):
    """An :class:`~cace_pyg.models.extractor.Extractor` with the embedding of a file and the map before its pooling.

    It has no parameters and no state dict: a checkpoint stores ``sha256`` instead. It computes on the CPU, with torch's
    number of threads, and returns its results on the images' device.

    Attributes:
        name: of the file's format, as in ``backbone.name``.
        path: of the file, absolute.
        files: the file and those next to it that belong to it.
        sha256: over all files.
        channels: of a clue.
        size: (height, width) of the images that it takes.
        output: name of the embedding.
        map: the tensor with the clues.
        earlier: tensors whose channels come after those of ``map``.
        normalisation, channel_order: of the images that the file takes.
    """

    needs_parts = False

    name: str

    def __init__(
        self,
        path: str | Path,
        map: str | None = None,
        output: str | None = None,
        normalisation: Normalisation | None = None,
        channel_order: ChannelOrder | None = None,
        size: tuple[int, int] | None = None,
        earlier: Sequence[str | int] = (),
    ):
        super().__init__()
        path = Path(path)
        runtime = self._open(path)
        self.path = path.absolute()
        self.files = runtime.files
        self.sha256 = sha256_of(self.files)
        self._runtime = runtime
        self.normalisation = normalisation or runtime.normalisation
        self.channel_order = channel_order or runtime.channel_order
        self._channels_last, self._batch, self.size = _image_form(runtime.image_input, size, path.name)
        graph = runtime.graph(self._shape(self._batch or 1))
        if self._batch not in (None, 1):
            graph = _for_one_picture(graph, self._batch)
        self.output = _find_embedding(graph.shapes, runtime.outputs, output, path.name)
        self.map: ClueMap = find_clue_map(graph, self.output, self.size, map, path.name, runtime.outputs)
        self.earlier = self._earlier_maps(graph, earlier)
        self.channels = sum(clue_map.channels for clue_map in (self.map, *self.earlier))
        if self._batch is None and not self._takes_two():
            self._batch = 1
        self._threads = torch.get_num_threads()
        self._run = self._start()

    @staticmethod
    def _open(path: Path) -> Runtime:
        """The file in the runtime of its format."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Individual:
        """Embeddings and clues of ``(image, 3, height, width)``, RGB, normalised with ImageNet's mean and deviation.

        Raises:
            ValueError: the file takes images of another size.
        """
        embedding, *maps = self.run(images)
        return Individual(embedding.to(images.device), self.clues(maps).to(images.device))

    def clues(self, maps: Sequence[Tensor]) -> Clues:
        """The clues in the maps that :meth:`run` returns."""
        if not self.earlier:
            return Clues(self.map.clues(maps[0]), self.map.grid)
        last, *earlier = (
            clue_map.as_map(found) for clue_map, found in zip((self.map, *self.earlier), maps, strict=True)
        )
        return Clues.from_map(join_layers(last, earlier))

    def run(self, images: Tensor) -> list[Tensor]:
        """Embeddings ``(image, embedding)``, and the map and earlier maps in the file's layout; on the CPU.

        Raises:
            ValueError: see :meth:`forward`.
        """
        if tuple(images.shape[1:]) != (3, *self.size) or not len(images):
            raise ValueError(
                f"Expected images (image, 3, {self.size[0]}, {self.size[1]}) for {self.path.name} (got "
                f"{tuple(images.shape)}); resize them"
            )
        threads = torch.get_num_threads()
        if threads != self._threads:
            self._threads = threads
            self._run = self._start()
        prepared = self._as_taken(images)
        step = self._batch or len(prepared)
        chunks = []
        for first in range(0, len(prepared), step):
            chunk = prepared[first : first + step]
            missing = step - len(chunk)
            padded = np.concatenate([chunk, np.repeat(chunk[-1:], missing, 0)]) if missing else chunk
            chunks.append([_float(found)[: len(chunk)] for found in self._run(np.ascontiguousarray(padded))])
        embedding, *maps = (torch.cat(found) for found in zip(*chunks, strict=True))
        return [embedding.flatten(1), *maps]

    def __str__(self) -> str:
        order = self.channel_order.upper()
        taken = {"imagenet": ", ImageNet's mean and deviation", "unit": " from 0 to 1", "pixels": " from 0 to 255"}
        said = order + taken.get(self.normalisation, f", {self.normalisation}")
        height, width = self.map.grid
        further = "".join(f" and {clue_map.channels} of {clue_map.tensor}" for clue_map in self.earlier)
        return (
            f"{self.path}: embedding {self.output}, clues {self.map.tensor} ({height}×{width} of {self.map.channels} "
            f"channels{further}); takes {self.size[0]}×{self.size[1]} pixels, {said}; SHA-256 {self.sha256[:12]}…"
        )

    def _earlier_maps(self, graph: NetworkGraph, given: Sequence[str | int]) -> tuple[ClueMap, ...]:
        file, has_tokens = self.path.name, self.map.layout in ("NTC", "NCT")

        def fits(clue_map: ClueMap) -> bool:
            return clue_map.tensor != self.map.tensor and fits_below(
                (1, clue_map.channels, *clue_map.grid), self.map.grid, has_tokens
            )

        names = layer_names(given)
        found = {name: find_earlier_map(graph, self.output, self.size, name, file, fits) for name in names}
        shapes = {name: (1, clue_map.channels, *clue_map.grid) for name, clue_map in found.items()}
        check_earlier(shapes, self.map.grid, file, has_tokens)
        layer_names([clue_map.tensor for clue_map in found.values()])  # a tensor and the node that makes it
        if again := [name for name, clue_map in found.items() if clue_map.tensor == self.map.tensor]:
            raise ValueError(f"{again[0]} of backbone.earlier is the last map of {file} itself; leave it out")
        return tuple(found.values())

    def _start(self) -> Run:
        return self._runtime.start(self._tensors(), self._threads)

    def _tensors(self) -> list[str]:
        return [self.output, self.map.tensor, *(clue_map.tensor for clue_map in self.earlier)]

    def _takes_two(self) -> bool:
        """Whether two images really work: exporters may fix the number of images in the graph, but not in the input.

        The started network does not try it: after a run that failed, OpenVINO's computes wrong numbers.
        """
        try:
            shapes = self._runtime.graph(self._shape(2)).shapes
        except ValueError:
            return False
        return all(shapes.get(tensor, ())[:1] == (2,) for tensor in self._tensors())

    def _shape(self, images: int) -> tuple[int, ...]:
        return (images, *self.size, 3) if self._channels_last else (images, 3, *self.size)

    def _as_taken(self, images: Tensor) -> np.ndarray:
        images = images.detach().cpu().float()
        if self.normalisation != "imagenet":
            scale, shift = renormalisation(self.normalisation)
            images = images * scale + shift
        if self.channel_order == "bgr":
            images = images.flip(1)
        if self._channels_last:
            images = images.permute(0, 2, 3, 1)
        dtype = np.dtype(self._runtime.image_input.dtype)
        if dtype.kind in "ui":
            images = images.round().clamp(0, 255)
        return images.numpy().astype(dtype)


def size_refused(path: Path, shape: tuple[int, ...], why: str) -> ValueError:
    """The error of a runtime whose network does not take images of ``shape``."""
    return ValueError(
        f"{path} does not take images of {'×'.join(map(str, shape))} ({why}); give its size as --data.height and "
        "--data.width"
    )


def sha256_of(files: tuple[Path, ...]) -> str:
    """SHA-256 of the contents of the files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))  # a copy: the runtime may reuse its memory


def _image_form(taken: ImageInput, size: tuple[int, int] | None, file: str) -> tuple[bool, int | None, tuple[int, int]]:
    """Whether channels come last, the number of images if it is fixed, and the size of an image.

    Raises:
        ValueError: it does not take RGB images, or not images of ``size``.
    """
    shape = taken.shape
    if len(shape) != 4 or (3 not in (shape[1], shape[3])):
        said = "×".join("?" if length is None else str(length) for length in shape)
        raise ValueError(
            f"Expected {file} to take images as (image, 3, height, width) or (image, height, width, 3) (got {said}); "
            "export the network with such an input"
        )
    channels_last = shape[1] != 3
    own = shape[1:3] if channels_last else shape[2:4]
    wanted = size or _USUAL_SIZE
    height, width = (fixed or other for fixed, other in zip(own, wanted, strict=True))
    if size is not None and (height, width) != tuple(size):
        raise ValueError(
            f"Expected data.height {height} and data.width {width}, which {file} takes (got {size[0]} and {size[1]}); "
            f"give --data.height {height} --data.width {width}"
        )
    return channels_last, shape[0], (height, width)


def _for_one_picture(graph: NetworkGraph, batch: int | None) -> NetworkGraph:
    """The graph of a file that takes several pictures at once, with the shapes for one picture."""
    shapes = {name: (1, *shape[1:]) if shape[:1] == (batch,) else shape for name, shape in graph.shapes.items()}
    return replace(graph, shapes=shapes)


def _find_embedding(
    shapes: Mapping[str, tuple[int, ...]], outputs: tuple[str, ...], named: str | None, file: str
) -> str:
    vectors = [name for name in outputs if _is_vector(shapes.get(name, ()))]
    if named is None and len(vectors) == 1:
        return vectors[0]
    if named is not None and _is_vector(shapes.get(named, ())):
        return named
    listed = ", ".join(f"{name} {shapes.get(name, ())}" for name in outputs)
    if named is not None:
        raise ValueError(
            f"Expected backbone.output to name an embedding of {file}, (image, embedding) (got {named!r}); its "
            f"outputs: {listed}"
        )
    how_many = "none" if not vectors else f"{len(vectors)} of them"
    raise ValueError(
        f"Expected one output (image, embedding) of {file} (got {how_many}); name the embedding as --backbone.output "
        f"NAME. Its outputs: {listed}"
    )


def _is_vector(shape: tuple[int, ...]) -> bool:
    """Whether the shape is ``(1, embedding)``, possibly with further sides of 1."""
    return len(shape) >= 2 and shape[1] > 1 and math.prod(shape[2:]) == 1 and shape[0] == 1
