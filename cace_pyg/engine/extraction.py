"""Passes every image through the backbone once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.dataset import Item, ReidDataset
from cace_pyg.data.part_map import check_part_maps
from cace_pyg.data.picture_loader import PictureLoader
from cace_pyg.data.sample import Sample, track_labels
from cace_pyg.data.transforms import evaluation_transform
from cace_pyg.engine.clue_store import store_clues, store_raw_clues
from cace_pyg.engine.feature_cache import FeatureCache
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.engine.unit_embedding import unit_embedding
from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet, PairOperand
from cace_pyg.progress import progress_bar, write_line
from cace_pyg.retrieval.camera_statistics import FEWEST, CameraStatistics, evenly
from cace_pyg.retrieval.picture_sets import PictureSets, form_sets

_SINGLE_PICTURES = (
    f"Expected a gallery of at least {FEWEST} pictures for a model with evaluation.standardise_cameras (got {{}}): "
    "fewer do not say what the pictures of their cameras have in common (docs/cameras.md)"
)


@dataclass(frozen=True)
class Extraction:
    """Everything that the evaluation needs from a list of images, on the CPU; pictures are no longer needed.

    Attributes:
        samples: the images.
        embedding: unit-length individual embeddings, ``(image, embedding)``.
        prepared: the pair stage's input of each image; on several ranks, only of this rank's images.
        first: position of the first image in ``prepared``.
        views: None if each image is a picture. Otherwise each is a track, whose row has the positions of its views in
            ``prepared``, padded with −1, ``(image, k)``; its sample is that of the first view.
    """

    samples: tuple[Sample, ...]
    embedding: Tensor
    prepared: PairOperand
    first: int = 0
    views: Tensor | None = None

    def prepared_of(self, position: int) -> PairOperand:
        """The pair stage's input of one image; for a track, that of its first view."""
        if self.views is not None:
            position = int(self.views[position, 0])
        return self.prepared.select(slice(position - self.first, position - self.first + 1))

    def holds(self, positions: Tensor) -> Tensor:
        """Whether this rank has the pair stage's input of the images at ``positions``."""
        return (positions >= self.first) & (positions < self.first + len(self.prepared))


@torch.no_grad()
def extract(
    model: CaceNet,
    samples: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    name: str,
    ranks: Ranks = ALONE,
    clues: int | None = None,
    statistics: CameraStatistics | None = None,
) -> Extraction:
    """Unit-length individual embeddings and prepared clues of ``samples``; the model must be in evaluation mode.

    ``clues`` is the number of clues kept of each image (:meth:`cace_pyg.models.PairStage.keep_clues`); None: all.

    Pictures of one person, camera and track become one entry (:func:`cace_pyg.retrieval.picture_sets.form_sets`). Their
    views, whose clues are kept, pass through the network a second time.

    With several ranks, each extracts its part. All ranks get all embeddings; clues are large, and stay on the rank that
    extracted them.

    Raises:
        ValueError: see :func:`store_clues` and :meth:`cace_pyg.models.PairStage.keep_clues`; or there are fewer images
            than ranks, or tracks with several ranks.
    """
    if any(sample.track for sample in samples):
        return _extract_tracks(model, samples, config, device, name, ranks, clues, statistics)
    part, embeddings = _part(len(samples), config.evaluation.batch_size, ranks, name), []

    def prepared() -> Iterator[PairOperand]:
        forward = _Pass(model, config, device, name, model.needs_parts, ranks, statistics)
        for embedding, whole in forward(samples[part]):
            embeddings.append(embedding.cpu())
            operand = model.pair_stage.prepare(replace(whole, features=whole.features.float()))
            yield (operand if clues is None else model.pair_stage.keep_clues(operand, clues)).to("cpu")

    collected = store_clues(prepared(), part.stop - part.start, config.evaluation.clues_on_disk)
    whole = torch.cat(ranks.gather_objects(torch.cat(embeddings)))
    return Extraction(tuple(samples), whole, collected, part.start)


def _extract_tracks(
    model: CaceNet,
    samples: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    name: str,
    ranks: Ranks,
    clues: int | None,
    statistics: CameraStatistics | None,
) -> Extraction:
    if ranks.count > 1:
        raise ValueError(f"tracks are evaluated by one process (got {ranks.count}); start python, not torchrun")
    sets = _form_tracks(model, samples, config, device, statistics)
    kept, numbered = sets.kept()
    views = [samples[position]._replace(track="") for position in kept.tolist()]
    prepared = extract(model, views, config, device, name, clues=clues, statistics=statistics).prepared
    return Extraction(_shown(samples, sets), sets.embedding, prepared, views=numbered)


class Entries(NamedTuple):
    """The entries that the first stage compares: pictures, or tracks with the sample of their first view.

    Attributes:
        samples: one for each entry.
        embedding: of unit length, ``(entry, embedding)``.
    """

    samples: tuple[Sample, ...]
    embedding: Tensor


def extract_entries(
    model: CaceNet,
    samples: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    statistics: CameraStatistics | None = None,
) -> Entries:
    """The result of :func:`extract` without the pair stage's input."""
    if not any(sample.track for sample in samples):
        return Entries(tuple(samples), extract_embeddings(model, samples, config, device, statistics=statistics))
    sets = _form_tracks(model, samples, config, device, statistics)
    return Entries(_shown(samples, sets), sets.embedding)


def _form_tracks(
    model: CaceNet,
    samples: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    statistics: CameraStatistics | None,
) -> PictureSets:
    embedding = extract_embeddings(model, samples, config, device, statistics=statistics)
    return form_sets(embedding, track_labels(samples))


def _shown(samples: Sequence[Sample], sets: PictureSets) -> tuple[Sample, ...]:
    return tuple(samples[position] for position in sets.views[:, 0].tolist())


@torch.no_grad()
def extract_clues(
    model: CaceNet,
    samples: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    statistics: CameraStatistics | None = None,
) -> tuple[Tensor, Clues]:
    """Unit-length individual embeddings and the raw clues of all ``samples``, on the CPU of every rank.

    With ``evaluation.clues_on_disk`` the clues are in files in that folder.
    """
    embeddings = []

    def every_clue() -> Iterator[Clues]:
        for embedding, clues in _Pass(model, config, device, "clues", model.needs_parts, ranks, statistics)(samples):
            embeddings.append(embedding.cpu())
            yield clues.to("cpu")

    kept = store_raw_clues(every_clue(), len(samples), config.evaluation.clues_on_disk)
    return torch.cat(embeddings), kept


@torch.no_grad()
def extract_embeddings(
    model: CaceNet,
    samples: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    statistics: CameraStatistics | None = None,
) -> Tensor:
    """Unit-length individual embeddings of ``samples``, ``(image, embedding)``, on the CPU of every rank."""
    forward = _Pass(model, config, device, "embeddings", ranks=ranks, statistics=statistics)
    return torch.cat([embedding.cpu() for embedding, _ in forward(samples)])


@torch.no_grad()
def camera_statistics(
    model: CaceNet, samples: Sequence[Sample], config: Config, device: torch.device | str, ranks: Ranks = ALONE
) -> CameraStatistics | None:
    """What ``evaluation.standardise_cameras`` needs, of at most 500 pictures of each camera; None if it is false.

    Args:
        model: see :func:`extract`.
        samples: a gallery, for it and its queries; or training pictures, for themselves.
        config: see :func:`extract`.
        device: of the model.
        ranks: each passes the same pictures through the network.

    Raises:
        ValueError: there are fewer than 5 pictures.
    """
    if not _standardises(model, config):
        return None
    if len(samples) < FEWEST:
        raise ValueError(_SINGLE_PICTURES.format(len(samples)))
    chosen = [samples[position] for own in evenly([sample.camid for sample in samples]) for position in own]
    config = replace(config, evaluation=replace(config.evaluation, standardise_cameras=False))
    forward = _Pass(model, config, device, "statistics", ranks=ranks)
    found = ((embedding, clues.features) for embedding, clues in forward(chosen))
    return CameraStatistics(found, [sample.camid for sample in chosen])


def _part(images: int, batch_size: int, ranks: Ranks, name: str) -> slice:
    """The images that this rank extracts: whole batches, the same ones that a single rank would make.

    If there are fewer batches than ranks, batches are smaller.
    """
    if images < ranks.count:
        raise ValueError(f"Expected a {name} picture for each of {ranks.count} ranks (got {images}); start fewer ranks")
    if -(-images // batch_size) < ranks.count:
        batch_size = images // ranks.count
    part = ranks.run(-(-images // batch_size))
    return slice(part.start * batch_size, min(part.stop * batch_size, images))


@dataclass(frozen=True)
class _Pass:
    """A pass of pictures through the network, which gives individual embeddings and clues, batch by batch.

    Attributes:
        model: is put into evaluation mode.
        config: see :func:`extract`.
        device: of the model.
        name: of the pictures, for the progress bar and errors.
        parts: clues have body parts.
        ranks: only the first shows a progress bar.
        statistics: that both are standardised by, with ``evaluation.standardise_cameras``.
    """

    model: CaceNet
    config: Config
    device: torch.device | str
    name: str
    parts: bool = False
    ranks: Ranks = ALONE
    statistics: CameraStatistics | None = None

    def __call__(self, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, Clues]]:
        """Embeddings and clues of ``samples``.

        Clues of a published network, which are many and have many channels, are in half precision.

        Raises:
            FileNotFoundError: a picture has no label map.
            OSError: the cache cannot be written.
            ValueError: they should be standardised, but there are no statistics.
        """
        statistics, done = self.statistics, 0
        if _standardises(self.model, self.config) and statistics is None:
            raise ValueError(_SINGLE_PICTURES.format(len(samples)))
        self.model.eval()
        for embedding, clues in self._as_they_are(samples):
            if statistics is not None:
                cameras = statistics.known([sample.camid for sample in samples[done : done + len(embedding)]])
                done += len(embedding)
                embedding = statistics.embeddings(embedding, cameras)
                clues = replace(clues, features=statistics.clues(clues.features, cameras))
            yield embedding, clues

    def _as_they_are(self, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, Clues]]:
        """Not standardised; from ``embedding.cache`` if there is one, unless label maps are needed, which it does not
        store."""
        if self.config.embedding.cache is None or self.parts or isinstance(self.model.extractor, KeptFeatures):
            yield from self._through_network(samples)
            return
        cache = FeatureCache(Path(self.config.embedding.cache), self.model, self.config)
        if new := cache.new(samples):
            cache.add(new, self._through_network(new))
            told = f"{len(new):,} of {len(samples):,} pictures ({self.name}) were new to {cache.folder}"
            write_line(f"embedding.cache: {told}")
        for embedding, clues in cache.batches(samples, self.config.evaluation.batch_size):
            yield embedding.to(self.device), clues.to(self.device)

    def _through_network(self, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, Clues]]:
        if self.parts:
            check_part_maps(samples)  # all of them, before any picture is decoded
        data, size = self.config.data, self.config.evaluation.batch_size
        batches: Sequence[Tensor] | PictureLoader
        if isinstance(self.model.extractor, KeptFeatures):
            batches = KeptFeatures.positions(samples).split(size)
        else:
            shape, palette = (data.height, data.width), data.part_palette
            dataset = ReidDataset(samples, evaluation_transform(), shape, parts=self.parts, palette=palette)
            batches = PictureLoader(dataset, data.workers, size)
        told = partial(progress_bar, desc=f"extract {self.name}", unit="batch", leave=False)
        for batch in told(batches, disable=self.ranks.rank > 0):
            images, part_maps = (batch, None) if isinstance(batch, Tensor) else (Item(*batch).image, Item(*batch).parts)
            part_maps = part_maps.to(self.device) if self.parts and part_maps is not None else None
            images = images.to(self.device)
            embedding, clues = unit_embedding(self.model, images, part_maps, self.config.evaluation.flip)
            if self.model.is_published:
                clues = replace(clues, features=clues.features.half())
            if not (torch.isfinite(embedding).all() and torch.isfinite(clues.features).all()):
                raise RuntimeError(
                    f"an embedding or a clue is not finite ({self.name}): the network has diverged (a lower learning "
                    "rate or a longer warm-up helps), or its weights are broken"
                )
            yield embedding, clues


def _standardises(model: CaceNet, config: Config) -> bool:
    """Features that are known already are standardised already (:meth:`Features.standardised`)."""
    return config.evaluation.standardise_cameras and not isinstance(model.extractor, KeptFeatures)
