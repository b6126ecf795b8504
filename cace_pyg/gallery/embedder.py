"""A trained model that is applied to pictures."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cace_pyg.config import from_yaml
from cace_pyg.data.transforms import evaluation_transform, to_tensor
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_model, model_fingerprint
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.unit_embedding import unit_embedding
from cace_pyg.models import CaceNet, FrozenExtractor, PairOperand
from cace_pyg.models.extractor import Individual
from cace_pyg.progress import progress_bar
from cace_pyg.read_picture import Picture, read_picture
from cace_pyg.retrieval.camera_statistics import Cameras, CameraStatistics, evenly

_DECODERS = 4  # threads; so many pictures are in memory at full size


class Embedded(NamedTuple):
    """Unit-length individual embeddings ``(image, embedding)`` of some images, and the second stage's input."""

    embedding: Tensor
    prepared: PairOperand


class Embedder:
    """From pictures to what both stages compare, as in the evaluation.

    Args:
        checkpoint: ``best.ckpt`` of a run, ``model.ckpt`` of a gallery, or a bundle.
        device: auto, cpu, cuda, cuda:1, mps.
        overrides: dotted options of the configuration, such as ``--evaluation.fusion=0.5``.

    Attributes:
        model: in evaluation mode.
        config: the run's.
        fusion_weight: of the conditional distance; 0 if the pair branch was not trained.
        calibration: what fused distances mean; None if the checkpoint has none for this fusion weight.
        fingerprint: see :func:`model_fingerprint`.
        standardises: whether the model has ``evaluation.standardise_cameras``, so that ``statistics`` are needed.
        statistics: of a gallery's cameras; None at first.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.engine.checkpoint.load_checkpoint`.
    """

    def __init__(self, checkpoint: Path, device: str = "auto", overrides: Sequence[str] = ()):
        state = load_checkpoint(checkpoint)
        self.config = from_yaml(state["config"], *overrides)
        self.model, _ = load_model(checkpoint, self.config)
        self.fusion_weight = fusion_weight_of(self.config, state["fusion_weight"])
        found = calibration_of(state)
        self.calibration = found if found is not None and found.weight == self.fusion_weight else None
        self.fingerprint = model_fingerprint(state, self.config.evaluation.flip)
        self.standardises = self.config.evaluation.standardise_cameras
        self.statistics: CameraStatistics | None = None
        self.device = find_device(device)
        self.model.to(self.device)

    @cached_property
    def example(self) -> Embedded:
        """An embedded grey picture, to learn the sizes of this model's outputs."""
        return self._embedded([self._raw([self.resize(read_picture(self._grey))])])

    @cached_property
    def embedding_channels(self) -> int:
        """Size of an individual embedding, whatever the graph; a published network has its own size."""
        return self._raw([self.resize(read_picture(self._grey))]).embedding.size(1)

    @property
    def _grey(self) -> np.ndarray:
        return np.full((self.config.data.height, self.config.data.width, 3), 128, np.uint8)

    def __call__(self, pictures: Sequence[Picture], cameras: Cameras | None = None) -> Embedded:
        """Embed some pictures, in batches of ``evaluation.batch_size``; the result is on the CPU.

        Args:
            pictures: at least one.
            cameras: see :meth:`embed`.

        Raises:
            FileNotFoundError, ValueError: see :func:`cace_pyg.read_picture.read_picture` and :meth:`embed`; or there
                is no picture.
        """
        if not len(pictures):
            raise ValueError("Expected at least one picture (got none)")
        return self.embed([self.resize(read_picture(picture)) for picture in pictures], cameras)

    def learn_cameras(
        self, pictures: Sequence[Picture], cameras: Sequence[str | None], progress: bool = False
    ) -> CameraStatistics | None:
        """The statistics of the cameras of some pictures, of at most 500 of each; unreadable ones are left out.

        Returns:
            None if no picture can be read.

        Raises:
            ValueError: there are fewer than 5 pictures.
        """
        chosen = [position for own in evenly(cameras) for position in own]
        with ThreadPoolExecutor(min(_DECODERS, os.cpu_count() or 1)) as threads:
            resized = list(threads.map(self._readable, [pictures[position] for position in chosen]))
        there = [(cameras[position], own) for position, own in zip(chosen, resized, strict=True) if own is not None]
        step = self.config.evaluation.batch_size
        passed = (
            self._raw([own for _, own in there[first : first + step]])
            for first in progress_bar(range(0, len(there), step), desc="cameras", unit="batch", disable=not progress)
        )
        batches = ((individual.embedding, individual.clues.features) for individual in passed)
        return CameraStatistics(batches, [camera for camera, _ in there]) if there else None

    def expect_unstandardised(self, what: str) -> None:
        """Refuse a model that standardises, where there are no pictures of its cameras to learn from.

        Raises:
            ValueError: it does.
        """
        if self.standardises:
            raise ValueError(
                f"Expected a model trained without evaluation.standardise_cameras (got one with it): {what} sees "
                "single pictures, which do not say what their camera's pictures have in common; use a gallery, or "
                "train the pair stage again without (docs/cameras.md)"
            )

    def resize(self, picture: Image.Image) -> Tensor:
        """A decoded picture in the size that the network takes: uint8 ``(3, height, width)``."""
        return to_tensor(picture, (self.config.data.height, self.config.data.width))

    def embed(self, resized: Sequence[Tensor], cameras: Cameras | None = None) -> Embedded:
        """Embed pictures that :meth:`resize` made, as calling the object does.

        Args:
            resized: the pictures.
            cameras: of each, for a model that standardises; a camera that ``statistics`` do not know, or None, counts
                as an average one.

        Raises:
            ValueError: a number of the result is not finite, so the network has diverged; or the graph needs label maps
                of body parts, which a picture alone does not have.
        """
        step = self.config.evaluation.batch_size
        labels = [None] * len(resized) if cameras is None else [*cameras]
        return self._embedded(
            [
                self._forward(resized[first : first + step], labels[first : first + step])
                for first in range(0, len(resized), step)
            ]
        )

    def _embedded(self, individuals: Sequence[Individual]) -> Embedded:
        if self.model.needs_parts:
            raise ValueError(
                "the model was trained with --graph Semantic, which needs a label map for every picture; a gallery "
                "has only pictures: train with another graph, such as CorrespondenceAttention"
            )
        with torch.no_grad():
            prepared = [self.model.pair_stage.prepare(individual.clues).to("cpu") for individual in individuals]
        embedded = Embedded(
            torch.cat([individual.embedding.cpu() for individual in individuals]), PairOperand.concatenate(prepared)
        )
        numbers = (embedded.embedding, embedded.prepared.compared.features, embedded.prepared.projected)
        _expect_finite(*numbers, embedded.prepared.individual)
        return embedded

    def embeddings(self, resized: Sequence[Tensor]) -> Tensor:
        """Unit-length individual embeddings ``(image, embedding)`` of pictures that :meth:`resize` made, on the CPU.

        One batch; no label maps are needed, whatever the graph.

        Raises:
            ValueError: a number is not finite, so the network has diverged.
        """
        embeddings = self._forward(resized, [None] * len(resized)).embedding.cpu()
        _expect_finite(embeddings)
        return embeddings

    def clues(self, pictures: Sequence[Picture], cameras: Cameras | None = None) -> Individual:
        """Unit-length embeddings and full clues of a few pictures, on the CPU; ``cameras`` as in :meth:`embed`."""
        labels = [None] * len(pictures) if cameras is None else cameras
        embedding, clues = self._forward([self.resize(read_picture(picture)) for picture in pictures], labels)
        return Individual(embedding.cpu(), clues.to("cpu"))

    @contextmanager
    def on_cpu(self) -> Iterator[CaceNet]:
        """The model on the CPU, as long as the block lasts: itself if it is there, otherwise a copy.

        It is never moved: another thread may be searching with it. The network of a file computes on the CPU anyway,
        and the copy shares it.
        """
        if self.device.type == "cpu":
            yield self.model
        else:
            network = self.model.extractor
            shared = {id(network): network} if isinstance(network, FrozenExtractor) else {}
            yield deepcopy(self.model, shared).cpu()

    def _forward(self, resized: Sequence[Tensor], cameras: Cameras) -> Individual:
        individual = self._raw(resized)
        if not self.standardises:
            return individual
        statistics, (embedding, clues) = self.known_statistics(), individual
        known = statistics.known(cameras)
        return Individual(
            statistics.embeddings(embedding, known), replace(clues, features=statistics.clues(clues.features, known))
        )

    def known_statistics(self) -> CameraStatistics:
        """The statistics, for a model with ``evaluation.standardise_cameras``.

        Raises:
            ValueError: no picture was added yet.
        """
        if self.statistics is None:
            raise ValueError(
                "Expected pictures of the cameras first, for a model with evaluation.standardise_cameras (got none): "
                "add some to the gallery"
            )
        return self.statistics

    def _readable(self, picture: Picture) -> Tensor | None:
        try:
            return self.resize(read_picture(picture))
        except (ValueError, OSError):
            return None

    @torch.no_grad()
    def _raw(self, resized: Sequence[Tensor]) -> Individual:
        transform = evaluation_transform()
        batch = [transform(picture) for picture in resized]
        return unit_embedding(self.model, torch.stack(batch).to(self.device), flip=self.config.evaluation.flip)


def _expect_finite(*numbers: Tensor) -> None:
    if not all(tensor.isfinite().all() for tensor in numbers):
        raise ValueError(
            "Expected embeddings and clues of finite numbers (got NaN or infinity); the network has diverged: "
            "choose the checkpoint of another epoch, or train again"
        )
