"""Embeddings and clues of pictures, without the pictures."""

import os
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cace_pyg.data.sample import Sample
from cace_pyg.data.transforms import evaluation_transform, to_tensor
from cace_pyg.engine.files import atomic_file
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.moved_to import moved_to
from cace_pyg.graph import Clues
from cace_pyg.models import Extractor, Individual
from cace_pyg.models.extractor import split_extracted
from cace_pyg.progress import progress_bar
from cace_pyg.read_picture import Picture, read_picture
from cace_pyg.retrieval.camera_statistics import Cameras, CameraStatistics


@dataclass
class Features:
    """Embeddings and clues of some images from one network; from :func:`extract_features` or arrays of your own.

    Args:
        embedding: ``(image, embedding)``; compared by cosine, so they are scaled to length one. Like the clues it is
            kept on the CPU.
        clues: ``(image, n, channel)``, row by row of the feature map, or the patch tokens of a transformer, without
            class and register tokens; half precision is enough.
        grid: (H, W) of the map, with H·W = n.
        are_standardised: whether they were returned by :meth:`standardised`; a pair stage is for one kind only.

    Raises:
        ValueError: the shapes do not fit, or a number is not finite.
    """

    embedding: Tensor
    clues: Tensor
    grid: tuple[int, int]
    are_standardised: bool = False

    def __init__(
        self,
        embedding: Tensor | ArrayLike,
        clues: Tensor | ArrayLike,
        grid: tuple[int, int],
        are_standardised: bool = False,
    ):
        embedding, clues = torch.as_tensor(embedding).cpu(), torch.as_tensor(clues).cpu()
        if embedding.dim() != 2 or clues.dim() != 3 or len(embedding) != len(clues):
            raise ValueError(
                "Expected embeddings (image, embedding) and clues (image, n, channel) of the same images (got "
                f"{tuple(embedding.shape)} and {tuple(clues.shape)}); give a map (image, H, W, channel) as "
                "map.reshape(len(map), H·W, channel), with grid=(H, W)"
            )
        if clues.size(1) != grid[0] * grid[1]:
            raise ValueError(
                f"Expected the {grid[0] * grid[1]} clues of a map of {grid[0]}·{grid[1]} pixels (got {clues.size(1)}); "
                "leave class and register tokens out"
            )
        for name, values in (("embeddings", embedding), ("clues", clues)):
            for first in range(0, len(values), 1024):
                if not values[first : first + 1024].isfinite().all():
                    raise ValueError(f"Expected finite {name} (got NaN or infinity in images {first} and after)")
        self.embedding = torch.nn.functional.normalize(embedding.float(), dim=-1)
        self.clues = clues
        self.grid = (int(grid[0]), int(grid[1]))
        self.are_standardised = bool(are_standardised)

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def channels(self) -> int:
        """Channels of a clue."""
        return self.clues.size(2)

    def save(self, path: str | Path) -> None:
        """Write them to a file, completely or not at all; :meth:`load` reads it."""
        with atomic_file(Path(path)) as file:
            torch.save(vars(self), file)

    @classmethod
    def load(cls, path: str | Path) -> "Features":
        """Read a file that :meth:`save` wrote; clues stay on disk until they are needed.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it is not such a file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no features at {path}; Features.save makes such a file")
        try:
            found = torch.load(path, weights_only=True, mmap=True)
            parts = found["embedding"], found["clues"], found["grid"]
            return cls(*parts, found.get("are_standardised", False))
        except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
            raise ValueError(f"Expected a file that Features.save wrote (got {path}, which is not one)") from error

    def camera_statistics(self, cameras: Cameras) -> CameraStatistics:
        """Mean and deviation of each camera's embeddings and clues.

        Args:
            cameras: a label for each picture.

        Raises:
            ValueError: there is not a camera for each picture.
        """
        return CameraStatistics(zip(self.embedding.split(256), self.clues.split(256), strict=True), cameras)

    def standardised(self, statistics: CameraStatistics, cameras: Cameras) -> "Features":
        """The same with equal statistics in every camera (docs/cameras.md); clues are copied.

        Args:
            statistics: of the gallery, also for its queries; for training pictures their own.
            cameras: a label for each picture.

        Raises:
            ValueError: see :meth:`CameraStatistics.embeddings`; or they are standardised already.
        """
        if not isinstance(statistics, CameraStatistics):
            raise ValueError(
                f"Expected statistics, then cameras (got {type(statistics).__name__} first); make statistics with "
                "gallery.camera_statistics(cameras)"
            )
        if self.are_standardised:
            raise ValueError("Expected features as the network returned them (got some that are standardised already)")
        clues = torch.empty(self.clues.shape, dtype=self.clues.dtype)
        embedding = statistics.embeddings(self.embedding, cameras)
        for first in range(0, len(self), 256):
            part = slice(first, first + 256)
            clues[part] = statistics.clues(self.clues[part], cameras[part])
        return Features(embedding, clues, self.grid, are_standardised=True)

    def select(self, index: Tensor | slice) -> "Features":
        """The images at ``index``."""
        return Features(self.embedding[index], self.clues[index], self.grid, self.are_standardised)


@torch.no_grad()
def extract_features(
    extractor: Extractor,
    pictures: Sequence[Picture],
    size: tuple[int, int] = (256, 128),
    batch_size: int = 64,
    flip: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Features:
    """Embeddings and clues of pictures; each picture passes through the network once; clues are in half precision.

    Args:
        extractor: see :class:`~cace_pyg.models.Extractor`; it has to give an embedding of its own, as
            :class:`~cace_pyg.models.PublishedEmbedding` does. It is put into evaluation mode, and is back on its own
            device afterwards; what is no torch module is given pictures on ``device``.
        pictures: paths, PIL images, arrays or bytes of files.
        size: (height, width) to which they are resized.
        batch_size: pictures per forward pass.
        flip: average each embedding with that of the mirrored picture, at twice the cost; clues are not averaged.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: show a bar.

    Raises:
        FileNotFoundError, ValueError: a picture cannot be read, or there is none; the extractor has no ``channels``; or
            see :func:`cace_pyg.models.extractor.split_extracted`.
    """
    if isinstance(pictures, Picture) or not len(pictures):
        raise ValueError("Expected a list of pictures (got a single picture or an empty list)")
    if not hasattr(extractor, "channels"):
        raise ValueError(
            f"Expected an extractor with the number of channels of its map as `channels` (got none from "
            f"{type(extractor).__name__}); set it, such as extractor.channels = 2048"
        )
    transform, where = evaluation_transform(), find_device(device)
    embeddings, several, grid = [], [], (0, 0)
    with (
        moved_to(extractor.eval(), where) if isinstance(extractor, torch.nn.Module) else nullcontext(),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads,
        progress_bar(total=len(pictures), desc="extract", unit="picture", disable=not progress) as bar,
    ):

        def reading(first: int) -> Iterator[Tensor]:
            return threads.map(
                lambda picture: to_tensor(read_picture(picture), size), pictures[first : first + batch_size]
            )

        upcoming = reading(0)
        for first in range(0, len(pictures), batch_size):
            read, upcoming = upcoming, reading(first + batch_size)  # while the network works on this batch
            batch = torch.stack([transform(picture) for picture in read]).to(where)
            embedding, clues = split_extracted(extractor(batch), extractor.channels, len(batch))
            if embedding is None:
                raise ValueError(
                    f"Expected the extractor's own embedding (got none from {type(extractor).__name__}): return "
                    "cace_pyg.models.Individual(embedding, Clues.from_map(map))"
                )
            if flip:
                mirrored, _ = split_extracted(extractor(batch.flip(3)), extractor.channels, len(batch))
                assert mirrored is not None  # as above
                embedding = (embedding + mirrored) / 2
            embeddings.append(embedding.float().cpu())
            several.append(clues.features.half().cpu())
            grid = clues.grid
            bar.update(len(batch))
    return Features(torch.cat(embeddings), torch.cat(several), grid)


class KeptFeatures(torch.nn.Module):
    """An extractor whose features are known already: it takes positions instead of images."""

    def __init__(self, features: Features):
        super().__init__()
        self.channels = features.channels
        self.features = features

    def forward(self, images: Tensor) -> Individual:
        # a picture comes from code that only needs the shape of the clues
        index = images.cpu() if images.dim() == 1 else torch.zeros(len(images), dtype=torch.long)
        chosen = self.features.clues[index].float().to(images.device)
        return Individual(self.features.embedding[index].to(images.device), Clues(chosen, self.features.grid))

    @staticmethod
    def samples(pids: Sequence[int], camids: Sequence[int]) -> list[Sample]:
        """Stand-ins for pictures, for loops that need samples."""
        labels = zip(pids, camids, strict=True)
        return [Sample(Path(f"{position:09d}"), pid, camid) for position, (pid, camid) in enumerate(labels)]

    @staticmethod
    def positions(samples: Sequence[Sample]) -> Tensor:
        """The positions of some samples among the features."""
        return torch.tensor([int(sample.path.name) for sample in samples])
