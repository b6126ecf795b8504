"""Pictures as a torch data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cace_pyg.data.part_map import PartPalette, read_part_map
from cace_pyg.data.sample import Sample
from cace_pyg.data.transforms import Transform, to_tensor
from cace_pyg.read_picture import read_picture


class Draw(NamedTuple):
    """One picture and the seed of its augmentation.

    With the seed in the draw, an epoch depends only on the run's seed and the epoch, whatever the number of workers and
    wherever a killed run continues.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    seed: int


class Item(NamedTuple):
    """One picture for the network; batches have the same fields."""

    image: Tensor  # (3, height, width)
    label: int
    camid: int
    index: int  # type: ignore[assignment]  # as above
    parts: Tensor  # uint8 (height, width), body part of each pixel; empty if parts were not asked for


class ReidDataset(torch.utils.data.Dataset[Item]):
    """Decodes, resizes and transforms pictures.

    Args:
        samples: the pictures.
        transform: from uint8 ``(3, height, width)`` to the network's input; with ``parts`` from picture and label map
            ``(height, width)`` to both.
        size: (height, width) in pixels.
        labels: class of each pid, see :func:`relabel`; None: the label is the pid.
        cache: keep decoded and resized pictures in memory, 3·height·width bytes each. Every decoding process has its
            own cache, so worker processes multiply the memory, and their caches are lost when they end.
        parts: also read the label map of each picture, see :func:`cace_pyg.data.part_map.read_part_map`.
        palette: the meaning of the labels in those maps.

    Raises:
        ValueError: ``labels`` lacks a pid.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        size: tuple[int, int],
        labels: Mapping[int, int] | None = None,
        cache: bool = False,
        parts: bool = False,
        palette: PartPalette = "as_is",
    ):
        missing = sorted({sample.pid for sample in samples} - set(labels)) if labels is not None else []
        if missing:
            raise ValueError(
                f"Expected a label for every pid (got none for {missing[:5]}, {len(missing)} in all); "
                "make labels with relabel from the same samples"
            )
        self.samples = samples
        self.transform = transform
        self.size = size
        self.labels = labels
        self.parts = parts
        self.palette = palette
        self._cached: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Item:
        """One picture; with a :class:`Draw` the transform's random numbers come from its seed.

        Raises:
            FileNotFoundError, ValueError: the file or its label map is missing, truncated or not a picture.
        """
        index, seed = draw if isinstance(draw, Draw) else (draw, None)
        sample = self.samples[index]
        picture = self._image(index)
        part_map = read_part_map(sample, self.size, self.palette) if self.parts else None
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would record the call stack
            if part_map is None:
                image, parts = self.transform(picture), torch.empty(0, dtype=torch.uint8)
            else:
                image, parts = self.transform(picture, part_map)
        label = sample.pid if self.labels is None else self.labels[sample.pid]
        return Item(image, label, sample.camid, index, parts)

    def _image(self, index: int) -> Tensor:
        if self._cached is None:
            return _decode(self.samples[index].path, self.size)
        if index not in self._cached:
            self._cached[index] = _decode(self.samples[index].path, self.size)
        return self._cached[index].clone()  # a transform may write into its input


def relabel(samples: Sequence[Sample]) -> dict[int, int]:
    """Classes 0 … identities − 1 for the pids of ``samples``, in the order of the pids."""
    return {pid: label for label, pid in enumerate(sorted({sample.pid for sample in samples}))}


def _decode(path: Path, size: tuple[int, int]) -> Tensor:
    """uint8 ``(3, height, width)``."""
    return to_tensor(read_picture(path), size)
