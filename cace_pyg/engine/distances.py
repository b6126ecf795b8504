"""Measures the distances of both stages between queries and gallery; nothing is ranked here."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, TypedDict

import torch
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample
from cace_pyg.engine.candidates import follow_neighbours, nearest_in_gallery
from cace_pyg.engine.extraction import Extraction, camera_statistics, extract
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import distance_blocks, euclidean_distance, rerank
from cace_pyg.retrieval.two_stage import top_k_of_blocks

_TOGETHER_AT_MOST = 2**22  # numbers in a temporary tensor


@dataclass(frozen=True)
class Distances:
    """Measured distances of both stages; individual distances are computed from the embeddings when they are needed.

    Attributes:
        query: unit-length individual embeddings, ``(query, embedding)``.
        gallery: likewise, ``(gallery, embedding)``.
        index: gallery positions that the second stage compared, ``(query, k)``: the nearest of each query, or those
            found by following neighbours.
        conditional: the distances of these pairs, see :meth:`PairStage.distance`, ``(query, k)``.
        own_position: position of each query itself in the gallery, see :func:`own_positions`; it is ranked last, so
            that it takes no place among the top k.
    """

    query: Tensor
    gallery: Tensor
    index: Tensor
    conditional: Tensor
    own_position: Tensor | None = None

    def individual(self, queries: slice = slice(None)) -> Tensor:
        """Individual distances from some queries to the gallery, ``(query, gallery)``, 0 to 2."""
        return self._with_own_last(queries, euclidean_distance(self.query[queries], self.gallery))

    def _with_own_last(self, queries: slice, individual: Tensor) -> Tensor:
        if self.own_position is not None:
            own = self.own_position[queries]
            here = (own >= 0).nonzero().flatten()
            individual[here, own[here]] = individual[here].amax(1) + 1
        return individual

    def two_stage(self, weight: float, queries: slice = slice(None)) -> Tensor:
        """Distances that rank compared pictures by (1 − weight)·individual + weight·conditional, then the others."""
        return rerank(self.individual(queries), self.index[queries], self.conditional[queries], weight)

    def blocks(self, weight: float = 0.0) -> Iterator[Tensor]:
        """:meth:`two_stage` of all queries, some at a time; with weight 0 the individual distances."""
        for queries, individual in distance_blocks(self.query, self.gallery):
            individual = self._with_own_last(queries, individual)
            if weight == 0:
                yield individual
            else:
                yield rerank(individual, self.index[queries], self.conditional[queries], weight)

    def fused(self, weight: float) -> Tensor:
        """(1 − weight)·individual + weight·conditional of the compared pairs, ``(query, k)``, float64."""
        rows = max(1, _TOGETHER_AT_MOST // max(1, self.index.size(1) * self.query.size(1)))
        near = [
            (query[:, None].double() - self.gallery[index].double()).norm(dim=2)
            for query, index in zip(self.query.split(rows), self.index.split(rows), strict=True)
        ]
        return (1 - weight) * torch.cat(near) + weight * self.conditional.double()

    def decision_blocks(self, weight: float) -> Iterator[Tensor]:
        """Distances for one threshold for all queries, some queries at a time.

        Pairs that the second stage compared have their fused distance. All other pairs have their individual distance
        plus a constant, so that they are farther than every compared pair of any query.
        """
        fused = self.fused(weight)
        behind = float(fused.max()) + 1
        for queries, individual in distance_blocks(self.query, self.gallery):
            individual = self._with_own_last(queries, individual)
            yield (individual.double() + behind).scatter(1, self.index[queries], fused[queries])


class Labels(TypedDict):
    """Labels that the protocol needs, named like the arguments of :func:`cace_pyg.retrieval.evaluate`."""

    query_pids: Tensor
    gallery_pids: Tensor
    query_camids: Tensor
    gallery_camids: Tensor
    own_position: Tensor | None


def labels_of(query: Sequence[Sample], gallery: Sequence[Sample]) -> Labels:
    """Pids and camids, and which gallery picture is the query itself."""
    return {
        "query_pids": torch.tensor([sample.pid for sample in query]),
        "gallery_pids": torch.tensor([sample.pid for sample in gallery]),
        "query_camids": torch.tensor([sample.camid for sample in query]),
        "gallery_camids": torch.tensor([sample.camid for sample in gallery]),
        "own_position": own_positions(query, gallery),
    }


def own_positions(query: Sequence[Sample], gallery: Sequence[Sample]) -> Tensor | None:
    """The position of each query itself in the gallery, −1 if it is not there; None if no query is.

    Pictures are identified by their paths, tracks by person, camera and name.
    """
    positions = {_identity(sample): position for position, sample in enumerate(gallery)}
    own = torch.tensor([positions.get(_identity(sample), -1) for sample in query])
    return own if (own >= 0).any() else None


def _identity(sample: Sample) -> Hashable:
    return sample[1:] if sample.track else sample.path


def measure(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    weight: float | None = None,
) -> tuple[Extraction, Extraction, Distances]:
    """Both stages' distances between queries and gallery; every image passes through the backbone once, on one rank.

    With ``evaluation.gallery_clues`` gallery pictures have fewer clues; a gallery picture that is also a query passes
    through twice.

    With ``evaluation.gallery_neighbours`` and a fusion ``weight`` the second stage follows neighbours, see
    :func:`follow_neighbours`. Without a weight (when it is still to be chosen) it compares the nearest.
    """
    model.eval().pair_stage.check_device(torch.device(device))  # before minutes of extraction
    fewer = config.evaluation.gallery_clues
    known = camera_statistics(model, gallery, config, device, ranks)
    extracted_query = extract(model, query, config, device, "query", ranks, None, known)
    one_set = tuple(query) == tuple(gallery) and fewer is None
    extracted_gallery = (
        extracted_query if one_set else extract(model, gallery, config, device, "gallery", ranks, fewer, known)
    )
    distances = second_stage(model, extracted_query, extracted_gallery, config, device, ranks, weight)
    return extracted_query, extracted_gallery, distances


def second_stage(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    config: Config,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    weight: float | None = None,
) -> Distances:
    """Both stages' distances between extracted images, see :func:`measure`."""
    embeddings, own = (query.embedding, gallery.embedding), own_positions(query.samples, gallery.samples)
    first_stage = Distances(*embeddings, torch.empty(0), torch.empty(0), own)
    settings = config.evaluation
    index = top_k_of_blocks(first_stage.blocks(), len(query.embedding), settings.top_k)
    ask = partial(measure_lists, model.pair_stage, query, gallery)
    ask = partial(ask, pairs_per_batch=settings.pairs_per_batch, device=device, ranks=ranks)
    if weight and settings.gallery_neighbours:
        neighbours = nearest_in_gallery(gallery.embedding, settings.gallery_neighbours)
        index, conditional = follow_neighbours(*embeddings, index, neighbours, weight, ask, own)
    else:
        conditional = ask([*index]).view(index.shape)
    return replace(first_stage, index=index, conditional=conditional)


@torch.no_grad()
def measure_pairs(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    index: Tensor,
    pairs_per_batch: int | None,
    device: torch.device | str,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The distances from each query to its gallery images at ``index``, see :meth:`PairStage.distance`: ``(query, k)``.

    See :func:`measure_lists`.
    """
    stage = model.pair_stage
    return measure_lists(stage, query, gallery, [*index], pairs_per_batch, device, ranks).view(index.shape)


class LookedAt(NamedTuple):
    """Pairs that the second stage compared and the protocol does not exclude, ``(pair,)``.

    Attributes:
        distance: fused.
        same: whether both pictures show one person.
        query: position of the query.
        gallery: mean number of pictures of other people in the gallery of a query.
    """

    distance: Tensor
    same: Tensor
    query: Tensor
    gallery: float


def looked_at_pairs(
    distances: Distances,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    weight: float,
    same_camera: Literal["remove", "keep"],
) -> LookedAt:
    """The pairs that a search with these settings compares: matches and confusions in their real proportions."""
    labels, index = labels_of(query, gallery), distances.index
    pids, of_query = labels["gallery_pids"][index], labels["query_pids"][:, None]
    same = (pids == of_query) & (pids > 0)
    counts = pids >= 0
    if same_camera == "remove":
        counts &= ~(same & (labels["gallery_camids"][index] == labels["query_camids"][:, None]))
    if distances.own_position is not None:
        counts &= index != distances.own_position[:, None]
    rows = torch.arange(len(index))[:, None].expand_as(index)
    own_pictures = Counter(sample.pid for sample in gallery)
    of_others = (labels["gallery_pids"] >= 0).sum() - sum(own_pictures[sample.pid] for sample in query) / len(query)
    return LookedAt(distances.fused(weight)[counts], same[counts], rows[counts], float(of_others))


def random_scores(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    weight: float,
    pairs_per_batch: int | None,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    pairs: int = 1000,
) -> Tensor:
    """Fused distances of random pairs of a query and a gallery image; every call draws the same pairs.

    Nearly all pairs show two people, so two sets of cameras can be compared by these distances without labels.

    Args:
        model: in evaluation mode, on ``device``.
        query: extraction of some images.
        gallery: extraction of other images, or of the same.
        weight: of the conditional distance.
        pairs_per_batch: pairs per forward pass; None: chosen by device.
        device: of the model.
        ranks: all of them have to call this.
        pairs: minimum number.

    Returns:
        ``(pair,)``, float64; without pairs of an image with itself.
    """
    size = len(query.embedding), -(-pairs // len(query.embedding))
    index = torch.randint(len(gallery.embedding), size, generator=torch.Generator().manual_seed(0))
    conditional = torch.zeros(index.shape)
    if weight > 0:
        conditional = measure_pairs(model, query, gallery, index, pairs_per_batch, device, ranks)
    drawn = Distances(query.embedding, gallery.embedding, index, conditional)
    return drawn.fused(weight)[drawn.fused(0.0) > _ITSELF]


_ITSELF = 1e-3  # at smaller distances, both embeddings are of the same picture
